import { Options, Payload, storage } from "./options";

const ENVELOPE = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4";
const BATCH = 40000; // bytes of events in one POST; keepalive allows 64 KB in flight
const ADOPT = 5000; // ms after which another page's event counts as left behind
// What the collector says no to for good: sending it again cannot help.
const REFUSED = [400, 401, 403, 410, 413, 422];

interface Entry { key: string; event: Payload; anonymous: boolean; adopted?: boolean }

// Outbox keeps events until the collector has answered 2xx for them. Each event
// has a key of its own in localStorage, so that tabs do not overwrite each other;
// one that is sent twice has the same eid both times and is stored once.
export interface Outbox {
  add(event: Payload, anonymous: boolean, hold?: boolean): void;
  // release lets go a held event, and those behind it, with its final fields.
  release(event: Payload): void;
  flush(leaving?: boolean): void;
}

export function newOutbox(ns: string, url: string, o: Options): Outbox {
  const box = storage();
  const prefix = `furrow_out_${ns}_`;
  const limit = o.maxLocalStorageQueueSize || 1000;
  let queue: Entry[] = [];
  let flying: Entry[] = [];
  let held: Payload | undefined;
  let failures = 0;
  let timer = 0;
  let gone = false;

  const save = (e: Entry): void => {
    try {
      box!.setItem(e.key, JSON.stringify([e.event, e.anonymous]));
    } catch {
      // No store, or a full one: the event stays in memory only.
    }
  };
  const drop = (gone: Entry[]): void => {
    queue = queue.filter((e) => !gone.includes(e));
    if (box) gone.forEach((e) => box.removeItem(e.key));
  };

  // adopt takes over what earlier pages could not deliver.
  const adopt = (): void => {
    for (const key of box ? Object.keys(box) : []) {
      if (!key.startsWith(prefix) || queue.some((e) => e.key === key)) continue;
      if (Date.now() - parseInt(key.slice(prefix.length), 10) < ADOPT) continue;
      try {
        const [event, anonymous] = JSON.parse(box!.getItem(key)!) as [Payload, boolean];
        queue.push({ key, event, anonymous, adopted: true });
      } catch {
        box!.removeItem(key);
      }
    }
    queue.sort((a, b) => (a.key < b.key ? -1 : 1));
    flush();
  };

  const take = (): Entry[] => {
    // Another tab may have delivered an adopted event in the meantime.
    queue = queue.filter((e) => !e.adopted || box!.getItem(e.key));
    const batch: Entry[] = [];
    let size = 0;
    for (const e of queue) {
      if (e.event === held) break;
      if (flying.includes(e)) continue;
      size += new Blob([JSON.stringify(e.event)]).size;
      if (batch.length && (size > BATCH || e.anonymous !== batch[0].anonymous)) break;
      batch.push(e);
    }
    return batch;
  };

  const post = (batch: Entry[], leaving?: boolean): void => {
    const stm = `${Date.now()}`;
    const text = JSON.stringify({ schema: ENVELOPE, data: batch.map((e) => ({ ...e.event, stm })) });
    const type = "application/json; charset=UTF-8";
    const { anonymous } = batch[0];
    if (leaving && !anonymous && !("keepalive" in Request.prototype)) {
      // Nobody hears the answer, so the events stay stored for the next page.
      navigator.sendBeacon(url, new Blob([text], { type }));
      return;
    }
    const stop = new AbortController();
    const late = setTimeout(() => stop.abort(), o.connectionTimeout || 5000);
    flying.push(...batch);
    fetch(url, {
      method: "POST",
      body: text,
      headers: { "Content-Type": type, ...(anonymous && { "SP-Anonymous": "*" }) },
      credentials: anonymous ? "omit" : "include",
      // The browser allows 64 KB of these in flight; a backlog is stored and can wait.
      keepalive: leaving || text.length < 16000,
      signal: stop.signal,
    }).then((r) => r.status, () => 0).then((status) => {
      clearTimeout(late);
      // A page that is being left is told that its requests failed; they did not.
      if (gone) return;
      flying = flying.filter((e) => !batch.includes(e));
      const ok = (status >= 200 && status < 300) || REFUSED.includes(status);
      if (ok) {
        drop(batch);
        failures = 0;
        flush();
      } else if (!timer) {
        timer = window.setTimeout(again, Math.min(60000, 1000 * 2 ** failures++) * (0.5 + Math.random()));
      }
    });
  };

  const again = (): void => {
    clearTimeout(timer);
    timer = 0;
    adopt();
  };

  const flush: Outbox["flush"] = (leaving) => {
    if (!leaving && (flying.length || timer)) return;
    const batch = take();
    if (batch.length) post(batch, leaving);
  };

  setTimeout(adopt, ADOPT);
  addEventListener("pagehide", () => { gone = true; });
  addEventListener("pageshow", () => {
    if (!gone) return;
    gone = false;
    flying = [];
    again();
  });
  addEventListener("online", () => {
    failures = 0;
    again();
  });
  again();

  return {
    add(event, anonymous, hold) {
      const e = { key: `${prefix}${Date.now()}_${event.eid}`, event, anonymous };
      if (hold) held = event;
      queue.push(e);
      save(e);
      drop(queue.slice(0, -limit));
      flush();
    },
    release(event) {
      queue.filter((e) => e.event === event).forEach(save);
      if (held === event) held = undefined;
      flush();
    },
    flush,
  };
}
