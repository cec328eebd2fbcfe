// The inspector's page: what comes in, how far it got, and why not.
import { BadSummary, Coverage, EventSummary, Health, Refused, Status, get } from "./api";
import { Connect } from "./connect";
import { Detail } from "./detail";
import { byId, el, put } from "./dom";
import { Flow } from "./flow";
import { span } from "./format";
import { RecommendPanel } from "./recommend";
import { StoragePanel } from "./storage";
import { Stream } from "./stream";

const flow = new Flow(byId("flow"));
const storage = new StoragePanel(byId("storage"));
const recommend = new RecommendPanel(byId("recommend"));
const detail = new Detail((session) => recommend.try(session));
const stream = new Stream((tab, id) => void (tab === "events" ? detail.event(id) : detail.bad(id)));
const connect = new Connect(byId("connect"), byId<HTMLButtonElement>("connect-toggle"), (id) => {
  stream.mark(id);
  void detail.event(id);
});

function showState(kind: "ok" | "warn" | "down", title: string, reasons: string[]): void {
  const node = byId("state");
  const text = kind + title + reasons.join();
  if (node.dataset.text === text) return;
  node.dataset.text = text;
  node.className = "state " + kind;
  node.replaceChildren(
    el("span", { class: "dot" }),
    el("strong", {}, title),
    ...reasons.map((r) => el("span", { class: "why" }, r)),
  );
}

function showFacts(s: Status): void {
  const up = span((Date.parse(s.now) - Date.parse(s.started)) / 1000);
  put(byId("facts"), [s.version, "up " + up, s.roles.join(" + ")].filter(Boolean).join("  ·  "));
}

let hasEvents = false;

async function poll(): Promise<void> {
  try {
    const [status, health] = await Promise.all([get<Status>("/status"), get<Health>("/readyz", [200, 503])]);
    flow.update(status);
    storage.update(status);
    connect.update(status);
    showFacts(status);
    hasEvents = hasEvents || !stream.empty || (status.database?.rows || 0) + (status.database?.bad_rows || 0) > 0;
    connect.idle(!hasEvents);
    const reasons = health.checks.filter((c) => !c.ready).map((c) => c.name + ": " + (c.reason || "not ready"));
    showState(health.ok ? "ok" : "warn", health.ok ? "Ready" : "Not ready", reasons);
  } catch (e) {
    const why = e instanceof Refused ? e.message : "it stopped, or the connection broke";
    showState("down", "No answer", [why]);
  }
}

let coverageGone = false;

async function pollCoverage(): Promise<void> {
  if (coverageGone) return;
  try {
    recommend.update(await get<Coverage>("/api/coverage"));
  } catch (e) {
    coverageGone = e instanceof Refused && e.code === 404;
  }
}

// every repeats a task, one at a time, and rests while nobody can see the page.
function every(ms: number, task: () => Promise<void>): void {
  const run = async (): Promise<void> => {
    if (!document.hidden) await task();
    setTimeout(() => void run(), ms);
  };
  void run();
}

function listen(backlog: number): void {
  const source = new EventSource("/api/live?max=10&backlog=" + backlog);
  const parse = <T>(e: Event): T => JSON.parse((e as MessageEvent<string>).data) as T;
  source.addEventListener("hello", () => stream.setConnected(true));
  source.addEventListener("event", (e) => {
    const event = parse<EventSummary>(e);
    stream.addEvent(event);
    connect.saw(event.id);
    if (event.domain_sessionid) recommend.offer(event.domain_sessionid);
  });
  source.addEventListener("bad", (e) => stream.addBad(parse<BadSummary>(e)));
  source.addEventListener("skipped", (e) => stream.addSkipped(parse<{ count: number }>(e).count));
  source.addEventListener("error", () => {
    stream.setConnected(false);
    // A refusal ends the source for good; a broken connection it repairs itself.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => listen(0), 3000);
  });
}

byId<HTMLFormElement>("lookup").addEventListener("submit", (e) => {
  e.preventDefault();
  const id = byId<HTMLInputElement>("lookup-id").value.trim();
  if (id) void detail.event(id);
});

listen(200);
every(1000, poll);
every(5000, pollCoverage);
