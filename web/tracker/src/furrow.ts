// Furrow's tracker: Snowplow tracker protocol 2 in one small script. Loader:
//
//   <script>
//   window.furrow=window.furrow||function(){(furrow.q=furrow.q||[]).push(arguments)};
//   furrow("newTracker","sp","https://collector.example",{appId:"shop"});
//   furrow("trackPageView");
//   </script>
//   <script async src="https://collector.example/furrow.js"></script>
//
// A page whose queue is called `snowplow` (or whatever its loader named in
// GlobalSnowplowNamespace) keeps its calls: without a `furrow` queue this script
// serves that one, unless another tracker has taken it already.
import { Options } from "./options";
import { newTracker, Tracker } from "./tracker";

type Call = ArrayLike<unknown>;
interface Queue { (...args: unknown[]): void; q?: Call[] | object }

const page = window as unknown as Record<string, unknown> & { GlobalSnowplowNamespace?: string[] };
const trackers: Record<string, Tracker> = {};

function run(call: Call): void {
  const [what, ...args] = Array.from(call);
  if (typeof what === "function") {
    what.apply(trackers, args);
    return;
  }
  const [method, names] = `${what}`.split(":");
  if (method === "newTracker") {
    const [ns, url, options] = args as [string, string, Options];
    trackers[ns] = trackers[ns] || newTracker(ns, url, options);
    return;
  }
  for (const ns of names ? names.split(";") : Object.keys(trackers)) {
    const f = trackers[ns] && trackers[ns][method];
    if (!f) {
      console.warn(`furrow: no ${method} for tracker ${ns}`);
      continue;
    }
    // get… hands its answer to the last argument; recommend calls it by itself.
    const answer = f(...args);
    const done = args[args.length - 1];
    if (/^get/.test(method) && typeof done === "function") done(answer);
  }
}

// A call that fails must not take the rest of the queue with it.
function safely(call: Call): void {
  try {
    run(call);
  } catch (e) {
    console.error("furrow:", e);
  }
}

function serve(name: string): void {
  const waiting = page[name] && (page[name] as Queue).q;
  const queue: Queue = (...args) => safely(args);
  queue.q = {}; // no array: another copy of this script leaves it alone
  page[name] = queue;
  if (Array.isArray(waiting)) waiting.forEach(safely);
}

// free says whether a page's queue is still waiting for a tracker.
const free = (name: string): boolean => {
  const f = page[name] as Queue | undefined;
  return typeof f === "function" && (f.q === undefined || Array.isArray(f.q));
};

if (page.furrow) {
  if (free("furrow")) serve("furrow");
} else {
  const theirs = (page.GlobalSnowplowNamespace || ["snowplow"]).filter(free);
  (theirs.length ? theirs : ["furrow"]).forEach(serve);
}
