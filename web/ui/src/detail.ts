// One event or bad row in full.
import { BadDetail, EventDetail, get } from "./api";
import { byId, copyButton, el } from "./dom";
import { bytes, moment, span } from "./format";

export class Detail {
  private readonly dialog = byId<HTMLDialogElement>("detail");
  private opener: HTMLElement | null = null;

  constructor(private readonly recommend: (session: string) => void) {
    this.dialog.addEventListener("click", (e) => {
      if (e.target === this.dialog) this.dialog.close();
    });
    this.dialog.addEventListener("close", () => this.opener?.focus());
  }

  async event(id: string): Promise<void> {
    await this.show("Event", async () => {
      const d = await get<EventDetail>("/api/events/" + encodeURIComponent(id));
      const session = d.domain_sessionid;
      return [
        this.head(d.event_name.replace(/_/g, " "), d.id),
        journey(d),
        d.cut && el("p", { class: "hint" }, "This event is very large. Its long cells are only in the database and the archive."),
        session
          ? el(
              "button",
              {
                type: "button",
                class: "button",
                click: () => {
                  this.opener = null;
                  this.dialog.close();
                  this.recommend(session);
                },
              },
              "What would this session be shown?",
            )
          : null,
        json(d.event),
        el("p", { class: "hint" }, "Record ", el("code", {}, d.record), ", event " + d.index),
      ];
    });
  }

  async bad(id: string): Promise<void> {
    await this.show("Bad row", async () => {
      const d = await get<BadDetail>("/api/bad/" + encodeURIComponent(id));
      return [
        this.head(d.schema.replace(/_/g, " "), d.id),
        el("p", { class: "wrong-text" }, d.message),
        el("h3", {}, "Failure"),
        json(d.failure),
        d.request ? el("h3", {}, "Request") : null,
        d.request ? json(d.request) : null,
        el("h3", {}, "Exact record, " + bytes(d.payload_bytes) + (d.payload_text ? "" : " as base64") + (d.cut ? ", cut here" : "")),
        el("pre", { class: "payload" }, d.payload_text || d.payload_base64),
        el("p", { class: "hint" }, "It is kept in the database, to be repaired and replayed. Record ", el("code", {}, d.record)),
      ];
    });
  }

  private head(title: string, id: string): HTMLElement {
    return el("div", { class: "detail-head" }, el("div", {}, el("h2", {}, title), el("code", {}, id)), this.closeButton());
  }

  private closeButton(): HTMLElement {
    return el("button", { type: "button", class: "button quiet", "aria-label": "Close", click: () => this.dialog.close() }, "Close");
  }

  private async show(kind: string, load: () => Promise<(Node | null | false)[]>): Promise<void> {
    this.opener = document.activeElement as HTMLElement | null;
    let content: (Node | null | false)[];
    try {
      content = await load();
    } catch (e) {
      content = [this.head(kind, ""), el("p", { class: "wrong-text" }, e instanceof Error ? e.message : String(e))];
    }
    this.dialog.replaceChildren(...content.filter((n): n is Node => n instanceof Node));
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.scrollTop = 0;
  }
}

// journey shows when the event was where.
function journey(d: EventDetail): HTMLElement {
  const stops: [string, unknown][] = [
    ["on the device", d.event.dvce_created_tstamp],
    ["sent", d.event.dvce_sent_tstamp],
    ["collected", d.event.collector_tstamp],
    ["enriched", d.event.etl_tstamp],
    ["stored", d.recorded],
  ];
  const known = stops.filter((s): s is [string, string] => typeof s[1] === "string");
  return el(
    "ol",
    { class: "journey" },
    ...known.map(([name, time], i) => {
      const before = i > 0 ? (Date.parse(time) - Date.parse(known[i - 1][1])) / 1000 : NaN;
      return el(
        "li",
        {},
        el("b", {}, name),
        el("time", { datetime: time }, moment(time)),
        el("span", {}, isNaN(before) ? "" : before < 0 ? "clock " + span(-before) + " ahead" : "+" + span(before)),
      );
    }),
  );
}

// json prints a value with colours, as text nodes.
function json(value: unknown): HTMLElement {
  const pre = el("pre", { class: "json", tabindex: 0 });
  write(pre, value, "");
  return el("div", { class: "json-box" }, copyButton(() => JSON.stringify(value, null, 2)), pre);
}

function write(out: HTMLElement, value: unknown, indent: string): void {
  if (value === null || typeof value !== "object") {
    const kind = value === null ? "null" : typeof value;
    out.append(el("span", { class: kind }, JSON.stringify(value) ?? ""));
    return;
  }
  const list = Array.isArray(value);
  const entries = Object.entries(value as object);
  if (entries.length === 0) {
    out.append(list ? "[]" : "{}");
    return;
  }
  out.append(list ? "[\n" : "{\n");
  entries.forEach(([key, v], i) => {
    out.append(indent + "  ");
    if (!list) out.append(el("span", { class: "key" }, key), ": ");
    write(out, v, indent + "  ");
    out.append(i < entries.length - 1 ? ",\n" : "\n");
  });
  out.append(indent + (list ? "]" : "}"));
}
