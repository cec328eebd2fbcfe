// The flow of events: collector, journal, and the consumers that read it.
import { Stage, Status } from "./api";
import { Chart } from "./chart";
import { el, put, svg } from "./dom";
import { count, exact, rate, span } from "./format";

interface Card {
  node: HTMLElement;
  update(stage: Stage, perSecond: number): void;
}

const what: Record<string, string> = {
  collector: "answers 200 once it is on disk",
  journal: "durable, in order",
  relay: "hands over to the bus",
  "recorder-store": "one row an event",
  "recorder-archive": "Parquet files",
  recommender: "live recommendations",
};

// lagWarn is where a lag stops being noise: an event should be in the database
// within two seconds.
const lagWarn = 2;

function card(stage: Stage): Card {
  const dot = el("span", { class: "dot" });
  const reason = el("p", { class: "reason" });
  const headline = el("strong");
  const unit = el("span");
  const perSecond = el("span", { class: "rate" });
  const lag = el("span", { class: "lag" });
  const more = el("dl");
  const node = el(
    "article",
    { class: "stage", "data-kind": stage.kind },
    el("h2", {}, dot, stage.name),
    el("p", { class: "what" }, what[stage.kind] || stage.kind),
    el("p", { class: "headline" }, headline, " ", unit),
    el("p", { class: "pace" }, perSecond, lag),
    reason,
    more,
  );
  return {
    node,
    update(s, r) {
      node.classList.toggle("down", !s.ready);
      dot.title = s.ready ? "ready" : "not ready";
      put(reason, s.ready ? "" : s.reason || "not ready");
      const [first, ...rest] = s.counters;
      put(headline, first ? exact(first.value) : "–");
      put(unit, first ? first.name.replace(/_/g, " ") : "");
      put(perSecond, rate(r) + " /s");
      put(lag, lagText(s));
      lag.classList.toggle("behind", s.lag_seconds > lagWarn);
      lag.hidden = s.kind === "collector" || s.kind === "journal";
      const facts = rest
        .filter((c) => c.value !== 0)
        .map((c) => [c.name, count(c.value)])
        .concat((s.details || []).map((d) => [d.name, d.value]));
      const text = JSON.stringify(facts);
      if (more.dataset.text !== text) {
        more.dataset.text = text;
        more.replaceChildren(
          ...facts.map(([k, v]) => el("div", {}, el("dt", {}, k.replace(/_/g, " ")), el("dd", {}, v))),
        );
      }
    },
  };
}

function lagText(s: Stage): string {
  if (s.lag_records <= 0 && s.lag_seconds < 0.05) return "level";
  const records = count(s.lag_records) + (s.lag_records === 1 ? " record" : " records");
  return s.lag_records > 0 ? `${records}, ${span(s.lag_seconds)} behind` : span(s.lag_seconds) + " behind";
}

// wires draws lines from one point on the left to n points on the right.
function wires(n: number): SVGElement {
  const drawing = svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", class: "wires", "aria-hidden": "true" });
  for (let i = 0; i < n; i++) {
    const y = ((i + 0.5) / n) * 100;
    const d = `M0 50C55 50 45 ${y} 100 ${y}`;
    drawing.append(svg("path", { d, class: "wire" }), svg("path", { d, class: "pulse" }));
  }
  return drawing;
}

export class Flow {
  private readonly cards = new Map<string, Card>();
  private readonly chart = new Chart();
  private readonly now = el("strong", {}, "0");
  private readonly peak = el("span");
  private shape = "";
  private last?: Status;

  constructor(private readonly root: HTMLElement) {}

  update(status: Status): void {
    const shape = status.stages.map((s) => s.kind + s.name).join("|");
    if (shape !== this.shape) {
      this.shape = shape;
      this.draw(status.stages);
    }
    const rates = this.rates(status);
    const entry = status.stages[0];
    const perSecond = entry ? rates.get(entry.name) || 0 : 0;
    if (this.last) this.chart.add(perSecond);
    put(this.now, rate(perSecond));
    put(this.peak, "peak " + rate(this.chart.peak) + " /s in two minutes");
    this.root.classList.toggle("moving", perSecond > 0);
    for (const s of status.stages) this.cards.get(s.name)?.update(s, rates.get(s.name) || 0);
    this.last = status;
  }

  private rates(status: Status): Map<string, number> {
    const rates = new Map<string, number>();
    const before = this.last;
    if (!before || before.started !== status.started) return rates;
    const seconds = (Date.parse(status.now) - Date.parse(before.now)) / 1000;
    if (!(seconds > 0)) return rates;
    for (const s of status.stages) {
      const was = before.stages.find((b) => b.name === s.name);
      if (!was || !s.counters[0] || !was.counters[0]) continue;
      rates.set(s.name, Math.max(0, s.counters[0].value - was.counters[0].value) / seconds);
    }
    return rates;
  }

  private draw(stages: Stage[]): void {
    this.cards.clear();
    for (const s of stages) this.cards.set(s.name, card(s));
    const at = (kind: string): HTMLElement[] =>
      stages.filter((s) => s.kind === kind).map((s) => this.cards.get(s.name)!.node);
    const trunk = [at("collector"), at("journal")].filter((list) => list.length > 0);
    const consumers = stages
      .filter((s) => s.kind !== "collector" && s.kind !== "journal")
      .map((s) => this.cards.get(s.name)!.node);
    const parts: Node[] = [
      el(
        "div",
        { class: "rate-card" },
        el("p", { class: "headline" }, this.now, " per second"),
        this.chart.node,
        el("p", { class: "what" }, this.peak),
      ),
    ];
    for (const list of trunk) parts.push(wires(1), el("div", { class: "column" }, ...list));
    if (consumers.length > 0) parts.push(wires(consumers.length), el("div", { class: "column consumers" }, ...consumers));
    this.root.replaceChildren(...parts);
  }
}
