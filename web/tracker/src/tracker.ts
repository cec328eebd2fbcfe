import { Activity, newActivity } from "./activity";
import { uuid } from "./digest";
import { sell, Sale } from "./ecommerce";
import { newIdentity } from "./identity";
import { changed, place, watch } from "./navigation";
import { Anonymous, Common, ContextMaker, Options, Payload, SelfDescribing } from "./options";
import { newOutbox } from "./outbox";

const VERSION = "furrow-0.1.0";
const SETTLE = 150; // ms for a new page to set its title
const ECHO = 2000; // ms in which a page's own call repeats an automatic page view
const PREFIX = "iglu:com.snowplowanalytics.snowplow/";

// The page view id is one for all trackers of the page.
let view = "";

export type Tracker = Record<string, (...args: any[]) => unknown>; // eslint-disable-line

type PageView = Common & { title?: string; contextCallback?: () => SelfDescribing[] };

export function newTracker(ns: string, collector: string, options: Options = {}): Tracker {
  const o = { ...options };
  const origin = (/^https?:/.test(collector) ? collector : `${location.protocol === "http:" ? "http" : "https"}://${collector}`).replace(/\/+$/, "");
  const identity = newIdentity(o);
  const outbox = newOutbox(ns, `${origin}${o.postPath || "/com.snowplowanalytics.snowplow/tp2"}`, o);
  let anonymous: Anonymous = false;
  let globals: (SelfDescribing | ContextMaker)[] = [];
  let user: string | undefined;
  let customUrl: string | undefined;
  let customReferrer: string | undefined;
  let referrer = document.referrer;
  let url = location.href;
  let viewed = ""; // the id of this tracker's last page view
  let pending: { event: Payload; context: SelfDescribing[] } | undefined; // waits for its title
  let automatic: { at: number; href: string; title: string } | undefined; // may be repeated by the page
  let activity: Activity | undefined;
  let pings: (() => SelfDescribing[]) | undefined;

  const sessions = (): boolean => !anonymous || (anonymous !== true && !!anonymous.withSessionTracking);
  const hidden = (): boolean => anonymous !== false && anonymous !== true && !!anonymous.withServerAnonymisation;
  const setAnonymous = (to: Anonymous): void => {
    anonymous = to;
    if (to) user = undefined;
    identity.keep(sessions());
  };

  const wrap = (schema: string, data: unknown): string => JSON.stringify({ schema: PREFIX + schema, data });
  const envelope = (context: SelfDescribing[]): string => wrap("contexts/jsonschema/1-0-0", context);

  const contexts = (event: Payload, own?: SelfDescribing[] | null): SelfDescribing[] => {
    const all = [...(own || [])];
    for (const g of globals) {
      // A page's own function that fails costs its entity, not the event.
      try {
        const made = typeof g === "function" ? g({ eventType: event.e, event }) : g;
        if (made) all.push(...(Array.isArray(made) ? made : [made]));
      } catch (e) {
        console.error(e);
      }
    }
    if (!o.contexts || o.contexts.webPage !== false) {
      view = view || uuid();
      all.push({ schema: `${PREFIX}web_page/jsonschema/1-0-0`, data: { id: view } });
    }
    return all;
  };

  const track = (own: Payload, common: Common = {}, hold = false): { event: Payload; context: SelfDescribing[] } | undefined => {
    if (o.respectDoNotTrack && navigator.doNotTrack === "1") return undefined;
    const href = customUrl || location.href;
    if (href !== url) {
      referrer = url;
      url = href;
    }
    const d = document.documentElement;
    const eid = uuid();
    const ts = common.timestamp;
    const event: Payload = {
      ...own,
      url,
      refr: customReferrer === undefined ? referrer : customReferrer,
      eid,
      tv: VERSION,
      tna: ns,
      aid: o.appId || "",
      p: o.platform || "web",
      cookie: navigator.cookieEnabled ? "1" : "0",
      cs: document.characterSet,
      lang: navigator.language,
      res: `${screen.width}x${screen.height}`,
      cd: `${screen.colorDepth}`,
      tz: Intl.DateTimeFormat().resolvedOptions().timeZone || "",
      vp: `${innerWidth}x${innerHeight}`,
      ds: `${Math.max(d.clientWidth, d.offsetWidth, d.scrollWidth)}x${Math.max(d.clientHeight, d.offsetHeight, d.scrollHeight)}`,
      [typeof ts === "object" && ts.type === "ttm" ? "ttm" : "dtm"]: `${(typeof ts === "object" ? ts.value : ts) || Date.now()}`,
    };
    if (sessions()) {
      const { duid, sid, vid } = identity.touch(eid);
      Object.assign(event, { vid, sid }, !anonymous && { duid, uid: user || "" });
    }
    const context = contexts(event, common.context);
    if (context.length) event.co = envelope(context);
    for (const k of Object.keys(event)) if (!event[k]) delete event[k];
    outbox.add(event, hidden(), hold);
    return { event, context };
  };

  // settle gives the automatic page view the title the page has by now.
  const settle = (): void => {
    if (!pending) return;
    const { event } = pending;
    pending = undefined;
    if (automatic && !event.page) event.page = automatic.title = document.title;
    outbox.release(event);
  };

  const pageView = (common: PageView = {}, auto = false): void => {
    if (viewed === view) view = uuid();
    viewed = view;
    const context = [...(common.context || []), ...(common.contextCallback ? common.contextCallback() : [])];
    const title = common.title || (auto ? "" : document.title);
    const made = track({ e: "pv", page: title }, { ...common, context }, auto);
    automatic = auto ? { at: Date.now(), href: place(), title } : undefined;
    pings = () => [...(common.context || []), ...(common.contextCallback ? common.contextCallback() : [])];
    activity?.restart();
    if (auto && made) {
      pending = made;
      setTimeout(() => { if (pending === made) settle(); }, SETTLE);
    }
  };

  // repeats says whether the page's own call means the page view that the
  // navigation has made already; one still waiting takes its title and entities.
  const repeats = (common: PageView = {}): boolean => {
    const a = automatic;
    if (!a || a.href !== place() || customUrl) return false;
    if (!pending && common.title && common.title !== a.title && Date.now() - a.at > ECHO) return false;
    automatic = undefined;
    if (pending) {
      const { event, context } = pending;
      event.page = common.title || document.title;
      context.unshift(...(common.context || []));
      if (context.length) event.co = envelope(context);
      settle();
    }
    return true;
  };

  const leave = (): void => {
    settle();
    outbox.flush(true);
  };
  document.addEventListener("visibilitychange", () => { if (document.visibilityState === "hidden") leave(); });
  addEventListener("pagehide", leave);
  if (o.navigation !== false) {
    watch((leaving) => {
      settle();
      // A page that never counts page views itself has none counted for it.
      if (viewed && !leaving) pageView({}, true);
    });
  }
  setAnonymous(o.anonymousTracking || false);
  if (sessions()) identity.touch();

  const self: Tracker = {
    trackPageView: (common?: PageView) => { if (!repeats(common)) pageView(common); },
    trackStructEvent: (e: Common & Record<string, unknown>) => {
      const s = (v: unknown): string => (v === undefined || v === null ? "" : `${v}`);
      track({ e: "se", se_ca: s(e.category), se_ac: s(e.action), se_la: s(e.label), se_pr: s(e.property), se_va: s(e.value) }, e as Common);
    },
    trackSelfDescribingEvent: (e: Common & { event: SelfDescribing }) => {
      track({ e: "ue", ue_pr: wrap("unstruct_event/jsonschema/1-0-0", e.event) }, e);
    },
    addGlobalContexts: (list: (SelfDescribing | ContextMaker)[]) => { globals.push(...list); },
    removeGlobalContexts: (list: (SelfDescribing | ContextMaker)[]) => { globals = globals.filter((g) => !list.includes(g)); },
    clearGlobalContexts: () => { globals = []; },
    setUserId: (id?: string | null) => { user = id || undefined; },
    setCustomUrl: (to: string) => { customUrl = new URL(to, location.href).href; },
    setReferrerUrl: (to: string) => { customReferrer = to; },
    enableActivityTracking: (c: { minimumVisitLength: number; heartbeatDelay: number }) => {
      activity = activity || newActivity(c.minimumVisitLength * 1000, c.heartbeatDelay * 1000, (offsets) => {
        track({ e: "pp", page: document.title, ...offsets }, { context: pings && pings() });
      });
      if (viewed) activity.restart();
    },
    updatePageActivity: () => activity?.touch(),
    enableAnonymousTracking: (c?: { options?: Anonymous }) => setAnonymous(c?.options || true),
    disableAnonymousTracking: () => setAnonymous(false),
    clearUserData: () => {
      identity.forget();
      user = automatic = undefined; // the next page view is another visitor's
      if (sessions()) identity.touch();
    },
    flushBuffer: () => outbox.flush(),
    getDomainUserId: () => (anonymous ? undefined : identity.touch().duid),
    getDomainUserInfo: () => identity.fields(),
    getDomainSessionIndex: () => +identity.fields()[2],
    getSessionId: () => (sessions() ? identity.touch().sid : undefined),
    getUserId: () => user,
    getPageViewId: () => (view = view || uuid()),
    recommend: (c: { n?: number; itemId?: string }, done: (answer: unknown) => void) => {
      const ask = new URLSearchParams();
      const sid = self.getSessionId() as string | undefined;
      if (sid) ask.set("session_id", sid);
      if (c.itemId) ask.set("item_id", c.itemId);
      if (c.n) ask.set("n", `${c.n}`);
      fetch(`${origin}/v1/recommend?${ask}`, { credentials: "omit" })
        .then((r) => (r.ok ? r.json() : null), () => null).then(done);
    },
  };

  // Every call looks first whether the page has moved on, so that its event
  // belongs to the page view the visitor is on.
  for (const name of Object.keys(self)) {
    const call = self[name];
    self[name] = (...args) => {
      if (/^(track|getPage)/.test(name)) changed();
      return call(...args);
    };
  }
  for (const name of ["ProductView", "ProductListView", "ProductListClick", "AddToCart", "RemoveFromCart", "CheckoutStep", "Transaction"]) {
    self[`track${name}`] = (sale: Sale) => self.trackSelfDescribingEvent(sell(`track${name}`, sale));
  }
  return self;
}
