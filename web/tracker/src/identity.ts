import { sha1, uuid } from "./digest";
import { Options, storage } from "./options";

// The fields of the id cookie, in the order in which dots join them.
const enum F { User, Created, Visits, Now, LastVisit, Session, Previous, FirstEvent, FirstTime, Index }

const YEARS2 = 63072000;

// Identity is who the visitor is and which visit this is. It reads and writes the
// two cookies of Snowplow's tracker, so that both trackers see one visitor.
export interface Identity {
  // touch applies the session rule; with an event id it counts that event too.
  touch(eventId?: string): { duid: string; sid: string; vid: string };
  // fields is the id cookie, field by field.
  fields(): string[];
  // forget deletes both cookies and starts as a new visitor.
  forget(): void;
  // keep says whether identifiers may be stored.
  keep(on: boolean): void;
}

function readCookie(name: string): string | undefined {
  const hit = `; ${document.cookie}`.split(`; ${name}=`)[1];
  return hit === undefined ? hit : hit.split(";")[0];
}

export function newIdentity(o: Options): Identity {
  const prefix = o.cookieName || "_sp_";
  const local = o.stateStorageStrategy === "localStorage";
  const idle = o.sessionCookieTimeout === undefined ? 1800 : o.sessionCookieTimeout;
  let stored = o.stateStorageStrategy !== "none";
  let memory: string[] = [];
  let seen = 0; // when the last event was, for a visitor without storage

  const write = (name: string, value: string, age: number, domain: string | undefined = o.cookieDomain): void => {
    document.cookie = `${name}=${value};path=/;max-age=${age}${domain ? `;domain=${domain}` : ""};samesite=${o.cookieSameSite || "Lax"}${location.protocol === "https:" ? ";secure" : ""}`;
  };

  // The shortest suffix of the host name on which a cookie sticks is the site.
  const host = location.hostname;
  if (!o.cookieDomain && stored && !local) {
    const labels = host.split(".");
    for (let n = 2; n <= labels.length && !o.cookieDomain; n++) {
      const domain = labels.slice(-n).join(".");
      write("_sp_test", "1", 9, domain);
      if (readCookie("_sp_test")) o.cookieDomain = domain;
      write("_sp_test", "", 0, domain);
    }
  }
  const suffix = "." + sha1(`${(o.cookieDomain || host).replace(/^\./, "")}/`).slice(0, 4);
  const id = `${prefix}id${suffix}`;
  const ses = `${prefix}ses${suffix}`;

  const get = (name: string): string | undefined => {
    if (!local) return readCookie(name);
    const box = storage();
    const until = box && box.getItem(`${name}.expires`);
    return until && +until > Date.now() ? box!.getItem(name) || undefined : undefined;
  };
  const put = (name: string, value: string, age: number): void => {
    if (!local) return write(name, value, age);
    const box = storage();
    try {
      box?.setItem(name, value);
      box?.setItem(`${name}.expires`, `${Date.now() + age * 1000}`);
    } catch {
      // A full or forbidden store: the visitor lives in memory.
    }
  };

  const load = (): string[] => {
    const text = stored && get(id);
    if (!text) return memory;
    const f = text.split(".");
    while (f.length < 10) f.push("");
    return (memory = f);
  };

  const touch: Identity["touch"] = (eventId) => {
    const now = Date.now();
    const s = `${Math.round(now / 1000)}`;
    let f = load();
    const live = stored && get(ses) !== undefined ? true : now - seen < idle * 1000 && f.length > 0;
    if (!f.length) f = memory = [uuid(), s, "0", "", "", "", "", "", "", "0"];
    if (!live || !f[F.Session]) {
      f[F.Previous] = f[F.Session];
      f[F.LastVisit] = f[F.Now];
      f[F.Visits] = `${+f[F.Visits] + 1}`;
      f[F.Session] = uuid();
      f[F.FirstEvent] = f[F.FirstTime] = "";
      f[F.Index] = "0";
    }
    if (!f[F.User]) f[F.User] = uuid();
    f[F.Now] = s;
    if (eventId) {
      if (!+f[F.Index]) {
        f[F.FirstEvent] = eventId;
        f[F.FirstTime] = `${now}`;
      }
      f[F.Index] = `${+f[F.Index] + 1}`;
    }
    seen = now;
    if (stored) {
      put(id, f.join("."), o.cookieLifetime || YEARS2);
      put(ses, "*", idle);
    }
    return { duid: f[F.User], sid: f[F.Session], vid: f[F.Visits] };
  };

  const wipe = (): void => {
    for (const name of [id, ses]) {
      write(name, "", 0);
      storage()?.removeItem(name);
      storage()?.removeItem(`${name}.expires`);
    }
    memory = [];
    seen = 0;
  };

  return {
    touch,
    fields: load,
    forget: wipe,
    keep(on) {
      if (!on) wipe();
      stored = on && o.stateStorageStrategy !== "none";
    },
  };
}
