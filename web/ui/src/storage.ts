// What the history takes on disk, and how long the disk will do.
import { Disk, Status, Storage } from "./api";
import { el } from "./dom";
import { bytes, count, days } from "./format";

export class StoragePanel {
  private text = "";

  constructor(private readonly root: HTMLElement) {}

  update(status: Status): void {
    const text = JSON.stringify([status.database, status.archive, status.disk, status.data_dir]);
    if (text === this.text) return;
    this.text = text;
    const rows: HTMLElement[] = [];
    if (status.database) rows.push(line("Database", status.database));
    if (status.archive) rows.push(line("Archive", status.archive));
    this.root.hidden = rows.length === 0;
    this.root.replaceChildren(
      el("h2", {}, "Database and archive"),
      el(
        "table",
        {},
        el(
          "thead",
          {},
          el("tr", {}, el("td"), ...["events", "size", "per event"].map((name) => el("th", { scope: "col" }, name))),
        ),
        el("tbody", {}, ...rows),
      ),
      ...disk(status.disk),
      el("p", { class: "hint" }, "In ", el("code", {}, status.data_dir)),
    );
  }
}

function line(name: string, s: Storage): HTMLElement {
  const bad = s.bad_rows > 0 && el("small", {}, count(s.bad_rows) + (s.bad_rows === 1 ? " bad row" : " bad rows"));
  return el(
    "tr",
    { title: s.path },
    el("th", { scope: "row" }, name),
    el("td", {}, count(s.rows), bad),
    el("td", {}, bytes(s.bytes)),
    el("td", {}, s.rows > 0 ? bytes(s.bytes_per_event) : "–"),
  );
}

function disk(d: Disk): Node[] {
  const limit = d.budget_bytes > 0 ? d.budget_bytes : d.used_bytes + d.free_bytes;
  if (limit <= 0) return [];
  const share = Math.min(1, d.used_bytes / limit);
  const tight = share > 0.8 || (d.days_until_full !== null && d.days_until_full < 7);
  const known = d.days_until_full !== null;
  return [
    meter(share, tight, `${bytes(d.used_bytes)} of ${bytes(limit)} used`),
    el(
      "p",
      { class: "until" + (tight ? " tight" : "") },
      el("strong", {}, days(d.days_until_full)),
      !known ? " until full" : d.days_until_full! > 3650 ? " until full" : " days until full",
      d.bytes_per_day > 0 && el("span", {}, " at " + bytes(d.bytes_per_day) + " a day"),
    ),
  ];
}

export function meter(share: number, tight: boolean, label: string): HTMLElement {
  const fill = el("span");
  fill.style.width = (share * 100).toFixed(1) + "%";
  const bar = el(
    "div",
    { class: "meter" + (tight ? " tight" : ""), role: "meter", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(share * 100), "aria-label": label },
    fill,
  );
  return el("div", { class: "metered" }, bar, el("span", {}, label));
}
