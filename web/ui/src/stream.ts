// The newest events and bad rows, newest first.
import { BadSummary, EventSummary } from "./api";
import { byId, el, put } from "./dom";
import { clock, count, place, short, span } from "./format";

interface Row {
  node: HTMLElement;
  text: string; // what the filter looks through, lower case
  id: string;
}

const kept = 500; // rows in memory for each tab
const shown = 200; // rows in the page
const busy = 4; // arrivals a second from which rows move too fast to follow

type Tab = "events" | "bad";

export class Stream {
  private readonly rows: Record<Tab, Row[]> = { events: [], bad: [] };
  private readonly fresh: Record<Tab, Row[]> = { events: [], bad: [] };
  private readonly seen: Record<Tab, number> = { events: 0, bad: 0 };
  private tab: Tab = "events";
  private paused = false;
  private query = "";
  private skipped = 0;
  private calm: number | undefined;
  private connected = false;
  private planned = false;
  private held = false; // somebody points at a row
  private arrivals: number[] = []; // when, within the last second
  private readonly list = byId("list");
  private readonly table = el("ol", { class: "rows" });
  private readonly nothing = el("p", { class: "nothing" });

  constructor(private readonly open: (tab: Tab, id: string) => void) {
    this.list.append(this.nothing, this.table);
    this.table.addEventListener("pointerenter", (e) => this.hold(e.pointerType === "mouse"));
    this.table.addEventListener("pointerleave", () => this.hold(false));
    this.table.addEventListener("focusin", (e) => this.hold((e.target as HTMLElement).matches(":focus-visible")));
    this.table.addEventListener("focusout", () => this.hold(false));
    const filter = byId<HTMLInputElement>("filter");
    filter.addEventListener("input", () => {
      this.query = filter.value.trim().toLowerCase();
      this.redraw();
    });
    byId("pause").addEventListener("click", () => this.pause(!this.paused));
    const tabs: Tab[] = ["events", "bad"];
    for (const tab of tabs) {
      const button = byId("tab-" + tab);
      button.addEventListener("click", () => this.choose(tab));
      button.addEventListener("keydown", (e) => {
        if (e.key !== "ArrowLeft" && e.key !== "ArrowRight") return;
        const other: Tab = tab === "events" ? "bad" : "events";
        this.choose(other);
        byId("tab-" + other).focus();
      });
    }
    document.addEventListener("keydown", (e) => {
      const typing = e.target instanceof HTMLInputElement;
      if (e.key === "/" && !typing && !e.ctrlKey && !e.metaKey) {
        e.preventDefault();
        filter.focus();
      }
    });
    this.choose("events");
  }

  get empty(): boolean {
    return this.seen.events === 0 && this.seen.bad === 0;
  }

  setConnected(yes: boolean): void {
    this.connected = yes;
    this.plan();
  }

  addEvent(e: EventSummary): void {
    this.add("events", this.eventRow(e));
  }

  addBad(b: BadSummary): void {
    this.add("bad", this.badRow(b));
  }

  addSkipped(n: number): void {
    this.skipped += n;
    this.plan();
    clearTimeout(this.calm);
    this.calm = setTimeout(() => {
      this.skipped = 0;
      this.plan();
    }, 4000);
  }

  // mark points out an event that was asked for.
  mark(id: string): void {
    this.choose("events");
    this.held = false;
    this.pause(false);
    this.flush();
    const row = this.rows.events.find((r) => r.id === id);
    if (!row) return;
    row.node.classList.add("marked");
    row.node.scrollIntoView({ block: "nearest" });
  }

  private add(tab: Tab, row: Row): void {
    this.seen[tab]++;
    if (tab === this.tab) this.arrivals.push(performance.now());
    const fresh = this.fresh[tab];
    fresh.push(row);
    if (fresh.length > kept) fresh.shift();
    this.plan();
  }

  private pace(): number {
    const since = performance.now() - 1000;
    this.arrivals = this.arrivals.filter((t) => t > since);
    return this.arrivals.length;
  }

  // still is whether the rows stay where they are: paused, or moving too fast for
  // the one that is pointed at.
  private get still(): boolean {
    return this.paused || (this.held && this.pace() > busy);
  }

  private plan(): void {
    if (this.planned) return;
    this.planned = true;
    requestAnimationFrame(() => {
      this.planned = false;
      this.flush();
    });
  }

  private flush(): void {
    const tabs: Tab[] = ["events", "bad"];
    if (!this.still) {
      for (const tab of tabs) {
        const arrived = this.fresh[tab].splice(0);
        if (arrived.length === 0) continue;
        this.rows[tab] = arrived.reverse().concat(this.rows[tab]).slice(0, kept);
        if (tab === this.tab) this.insert(arrived);
      }
    }
    this.notes();
  }

  private insert(arrived: Row[]): void {
    const nodes = arrived.filter((r) => this.matches(r)).slice(0, shown);
    if (this.pace() <= busy) for (const r of nodes) r.node.classList.add("new");
    this.table.prepend(...nodes.map((r) => r.node));
    while (this.table.children.length > shown) this.table.lastElementChild!.remove();
  }

  private redraw(): void {
    const rows = this.rows[this.tab].filter((r) => this.matches(r)).slice(0, shown);
    for (const r of rows) r.node.classList.remove("new");
    this.table.replaceChildren(...rows.map((r) => r.node));
    this.notes();
  }

  private matches(r: Row): boolean {
    return this.query === "" || this.query.split(/\s+/).every((word) => r.text.includes(word));
  }

  private notes(): void {
    put(byId("bad-count"), this.seen.bad > 0 ? count(this.seen.bad) : "");
    const note = byId("live-note");
    const waiting = this.fresh[this.tab].length;
    if (!this.connected) put(note, "reconnecting…");
    else if (this.paused || waiting > 0)
      put(note, (waiting > 0 ? count(waiting) + (waiting >= kept ? "+" : "") + " new, " : "") + (this.paused ? "paused" : "held while you point"));
    else put(note, this.skipped > 0 ? count(this.skipped) + " more, too fast to show" : "live");
    note.className = "note" + (this.connected && !this.paused && waiting === 0 ? " live" : "");
    const none = this.table.children.length === 0;
    this.nothing.hidden = !none;
    this.table.hidden = none;
    if (!none) return;
    if (this.query && this.rows[this.tab].length > 0) put(this.nothing, "Nothing here matches the filter.");
    else if (this.tab === "bad") put(this.nothing, "No bad rows. Everything that came was understood.");
    else put(this.nothing, "Waiting for events. The newest will be here a moment after they are stored.");
  }

  private choose(tab: Tab): void {
    this.tab = tab;
    const tabs: Tab[] = ["events", "bad"];
    for (const t of tabs) {
      const button = byId("tab-" + t);
      button.setAttribute("aria-selected", String(t === tab));
      button.tabIndex = t === tab ? 0 : -1;
    }
    this.list.setAttribute("aria-labelledby", "tab-" + tab);
    this.redraw();
  }

  private hold(yes: boolean): void {
    this.held = yes;
    this.plan();
  }

  private pause(yes: boolean): void {
    this.paused = yes;
    const button = byId("pause");
    button.setAttribute("aria-pressed", String(yes));
    button.textContent = yes ? "Resume" : "Pause";
    this.plan();
  }

  private eventRow(e: EventSummary): Row {
    const user = e.user_id || e.domain_userid || e.network_userid || "";
    const page = e.page_url ? place(e.page_url) : "";
    const kind = family(e.event_name);
    const action = e.action?.replace(/_/g, " ");
    // In a shop, what was done says more than the name of the schema.
    const name = (kind === "shop" && action) || e.event_name.replace(/_/g, " ") || "event";
    const doing = [kind !== "shop" && action, e.item].filter(Boolean).join(" · ");
    const latency = el("span", { class: "latency" + (e.latency_ms > 2000 ? " slow" : "") }, span(e.latency_ms / 1000));
    latency.title = "from the collector to the database";
    const session = e.domain_sessionid || "";
    const button = el(
      "button",
      { type: "button", class: "row", click: () => this.open("events", e.id) },
      el("time", { datetime: e.time }, clock(e.time)),
      el("span", { class: "name " + kind, title: e.event_name }, name),
      el(
        "span",
        { class: "page" },
        doing && el("b", {}, doing),
        e.page_title && el("span", { class: "title" }, e.page_title),
        page && el("span", { class: "path", title: e.page_url }, page),
      ),
      el("span", { class: "app" }, e.app_id || ""),
      el("span", { class: "who" }, user && el("code", { title: "user " + user }, short(user)), session && el("code", { title: "session " + session }, short(session))),
      latency,
    );
    return { node: el("li", {}, button), text: Object.values(e).join(" ").toLowerCase(), id: e.id };
  }

  private badRow(b: BadSummary): Row {
    const where = b.event_index < 0 ? "whole record" : "event " + b.event_index;
    const button = el(
      "button",
      { type: "button", class: "row bad", click: () => this.open("bad", b.id) },
      el("time", { datetime: b.time }, clock(b.time)),
      el("span", { class: "name wrong" }, b.schema.replace(/_/g, " ")),
      el("span", { class: "page" }, el("span", { class: "title" }, b.message)),
      el("span", { class: "latency" }, where),
    );
    return { node: el("li", {}, button), text: Object.values(b).join(" ").toLowerCase(), id: b.id };
  }
}

// family colours the kinds of events that one wants to tell apart at a glance.
function family(name: string): string {
  if (name === "page_view") return "view";
  if (name === "page_ping") return "ping";
  if (/ecommerce|cart|transaction|purchase|product/.test(name)) return "shop";
  return "other";
}
