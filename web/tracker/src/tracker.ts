import { Activity, newActivity } from "./activity";
import { uuid } from "./digest";
import { Sale, sales, sell } from "./ecommerce";
import { newIdentity } from "./identity";
import { changed, place, watch } from "./navigation";
import { Anonymous, Common, ContextMaker, Options, Payload, SelfDescribing } from "./options";
import { newOutbox } from "./outbox";

const SETTLE = 150; // ms for a new page to set its title
const ECHO = 2000; // ms in which a page's own call repeats an automatic page view
const PREFIX = "iglu:com.snowplowanalytics.snowplow/";

// The page view id is one for all trackers of the page.
let view = "";

// What a page calls by name; the page's code is not type-checked, so this is where
// the types begin.
export type Tracker = Record<string, (...args: any[]) => unknown>;

type PageView = Common & { title?: string; contextCallback?: () => SelfDescribing[] };

interface Tracked { event: Payload; context: SelfDescribing[] }

export function newTracker(ns: string, collector: string, o: Options = {}): Tracker {
  const origin = (/:\/\//.test(collector) ? collector : `${location.protocol === "http:" ? "http" : "https"}://${collector}`).replace(/\/+$/, "");
  const identity = newIdentity(o);
  const outbox = newOutbox(ns, origin + (o.postPath || "/com.snowplowanalytics.snowplow/tp2"), o);
  let anonymous: Anonymous;
  let sessions: boolean; // may events carry a session?
  let bare: boolean; // must the collector set no cookie and keep no address?
  let globals: (SelfDescribing | ContextMaker)[] = [];
  let user: string | undefined;
  let customUrl: string | undefined;
  let customReferrer: string | undefined;
  let referrer = document.referrer;
  let url = location.href;
  let viewed = ""; // the id of this tracker's last page view
  let pending: Tracked | undefined; // an automatic page view that waits for its title
  let automatic: { at: number; href: string; title: string } | undefined; // may be repeated by the page
  let activity: Activity | undefined;
  let entities = (): SelfDescribing[] => []; // the page view's own, which pings repeat

  const setAnonymous = (to: Anonymous): void => {
    anonymous = to;
    const how = to === true ? {} : to || { withSessionTracking: true };
    sessions = !!how.withSessionTracking;
    bare = !!how.withServerAnonymisation;
    if (to) user = undefined;
    identity.keep(sessions);
    if (sessions) identity.touch();
  };

  const wrap = (name: string, data: unknown): string => JSON.stringify({ schema: `${PREFIX}${name}/jsonschema/1-0-0`, data });

  const contexts = (event: Payload, own?: SelfDescribing[] | null): SelfDescribing[] => {
    let all = own || [];
    for (const g of globals) {
      // A page's own function that fails costs its entity, not the event.
      try {
        all = all.concat((typeof g === "function" ? g({ eventType: event.e, event }) : g) || []);
      } catch (e) {
        console.error(e);
      }
    }
    if (!o.contexts || o.contexts.webPage !== false) {
      all = all.concat({ schema: `${PREFIX}web_page/jsonschema/1-0-0`, data: { id: (view = view || uuid()) } });
    }
    return all;
  };

  const track = (own: Payload, common: Common = {}, hold?: boolean): Tracked | undefined => {
    // The event belongs to the page view the visitor is on by now.
    changed();
    if (o.respectDoNotTrack && navigator.doNotTrack === "1") return undefined;
    const href = customUrl || location.href;
    if (href !== url) {
      referrer = url;
      url = href;
    }
    const d = document.documentElement;
    const size = (w: number, h: number): string => `${w}x${h}`;
    const ts = common.timestamp || Date.now();
    const { type, value } = typeof ts === "object" ? ts : { type: "dtm", value: ts };
    const event: Payload = {
      ...own,
      url,
      refr: customReferrer === undefined ? referrer : customReferrer,
      eid: uuid(),
      tv: "furrow-0.1.0",
      tna: ns,
      aid: o.appId || "",
      p: o.platform || "web",
      cookie: navigator.cookieEnabled ? "1" : "0",
      cs: document.characterSet,
      lang: navigator.language,
      res: size(screen.width, screen.height),
      cd: `${screen.colorDepth}`,
      tz: Intl.DateTimeFormat().resolvedOptions().timeZone || "",
      vp: size(innerWidth, innerHeight),
      ds: size(Math.max(d.clientWidth, d.scrollWidth), Math.max(d.clientHeight, d.scrollHeight)),
      [type]: `${value}`,
    };
    if (sessions) {
      const f = identity.touch(event.eid);
      event.vid = f[2];
      event.sid = f[5];
      if (!anonymous) {
        event.duid = f[0];
        event.uid = user || "";
      }
    }
    const context = contexts(event, common.context);
    if (context.length) event.co = wrap("contexts", context);
    for (const k in event) if (!event[k]) delete event[k];
    outbox.add(event, bare, hold);
    return { event, context };
  };

  // settle gives the automatic page view the title the page has by now.
  const settle = (title = document.title): void => {
    if (!pending) return;
    pending.event.page = title;
    if (automatic) automatic.title = title;
    outbox.release(pending.event);
    pending = undefined;
  };

  const pageView = (common: PageView, auto?: boolean): void => {
    if (viewed === view) view = uuid();
    viewed = view;
    entities = () => (common.context || []).concat(common.contextCallback ? common.contextCallback() : []);
    const made = track({ e: "pv", page: auto ? "" : common.title || document.title }, { ...common, context: entities() }, auto);
    automatic = auto ? { at: Date.now(), href: place(), title: "" } : undefined;
    if (activity) activity.restart();
    if (auto) {
      pending = made;
      setTimeout(() => { if (pending === made) settle(); }, SETTLE);
    }
  };

  // repeats says whether the page's own call means the page view that the
  // navigation has made already; one still waiting takes its title and entities.
  const repeats = ({ title, context }: PageView): boolean => {
    const a = automatic;
    if (!a || a.href !== place() || customUrl || (title && title !== a.title && Date.now() - a.at > ECHO)) return false;
    if (pending) {
      const all = (context || []).concat(pending.context);
      if (all.length) pending.event.co = wrap("contexts", all);
      settle(title);
    }
    automatic = undefined;
    return true;
  };

  const leave = (): void => {
    settle();
    outbox.flush(true);
  };
  document.addEventListener("visibilitychange", () => { if (document.hidden) leave(); });
  addEventListener("pagehide", leave);
  if (o.navigation !== false) {
    watch((leaving) => {
      settle();
      // A page that never counts page views itself has none counted for it.
      if (viewed && !leaving) pageView({}, true);
    });
  }
  setAnonymous(o.anonymousTracking || false);

  const self: Tracker = {
    trackPageView(common: PageView = {}) {
      changed();
      if (!repeats(common)) pageView(common);
    },
    trackStructEvent(e: Common & Record<string, unknown>) {
      const s = (k: string): string => `${e[k] === undefined || e[k] === null ? "" : e[k]}`;
      track({ e: "se", se_ca: s("category"), se_ac: s("action"), se_la: s("label"), se_pr: s("property"), se_va: s("value") }, e);
    },
    trackSelfDescribingEvent(e: Common & { event: SelfDescribing }) {
      track({ e: "ue", ue_pr: wrap("unstruct_event", e.event) }, e);
    },
    addGlobalContexts: (list: (SelfDescribing | ContextMaker)[]) => { globals = globals.concat(list); },
    removeGlobalContexts: (list: (SelfDescribing | ContextMaker)[]) => { globals = globals.filter((g) => !list.includes(g)); },
    setUserId: (id?: string) => { user = id; },
    setCustomUrl: (to: string) => { customUrl = new URL(to, location.href).href; },
    setReferrerUrl: (to: string) => { customReferrer = to; },
    enableActivityTracking(c: { minimumVisitLength: number; heartbeatDelay: number }) {
      activity = activity || newActivity(c.minimumVisitLength * 1000, c.heartbeatDelay * 1000, (offsets) => {
        track({ e: "pp", page: document.title, ...offsets }, { context: entities() });
      });
      if (viewed) activity.restart();
    },
    updatePageActivity: () => activity && activity.touch(),
    enableAnonymousTracking: (c?: { options?: Anonymous }) => setAnonymous((c && c.options) || true),
    disableAnonymousTracking: () => setAnonymous(false),
    clearUserData() {
      identity.forget();
      user = automatic = undefined; // the next page view is another visitor's
    },
    flushBuffer: () => outbox.flush(),
    getDomainUserId: () => (anonymous ? undefined : identity.touch()[0]),
    getSessionId: () => (sessions ? identity.touch()[5] : undefined),
    getUserId: () => user,
    getPageViewId() {
      changed();
      return (view = view || uuid());
    },
    recommend(c: { n?: number; itemId?: string }, done: (answer: unknown) => void) {
      const ask = new URLSearchParams();
      const add = (name: string, value: unknown): void => { if (value) ask.set(name, `${value}`); };
      add("session_id", self.getSessionId());
      add("item_id", c.itemId);
      add("n", c.n);
      fetch(`${origin}/v1/recommend?${ask}`, { credentials: "omit" }).then((r) => (r.ok ? r.json() : null)).catch(() => null).then(done);
    },
  };
  for (const [call, type, name] of sales) {
    self[call] = (sale: Sale) => self.trackSelfDescribingEvent(sell(type, name, sale));
  }
  return self;
}
