// How much the recommender understands, and what it would show.
import { Coverage, Recommendation, Recommended, Refused, get } from "./api";
import { copyButton, el } from "./dom";
import { count } from "./format";
import { meter } from "./storage";

export class RecommendPanel {
  private readonly facts = el("div");
  private readonly input = el("input", {
    type: "search",
    "aria-label": "Session id",
    placeholder: "Session id",
    autocomplete: "off",
    spellcheck: "false",
  });
  private readonly result = el("div", { class: "result", role: "status" });
  private readonly form = el("form", { class: "try" }, this.input, el("button", { class: "button", type: "submit" }, "Recommend"));
  private text = "";
  private typed = false;

  constructor(private readonly root: HTMLElement) {
    root.append(el("h2", {}, "Recommendations"), this.facts, el("h3", {}, "Try it"), this.form, this.result);
    this.input.addEventListener("input", () => (this.typed = this.input.value !== ""));
    this.form.addEventListener("submit", (e) => {
      e.preventDefault();
      void this.ask();
    });
  }

  // offer proposes the newest session until somebody typed one.
  offer(session: string): void {
    if (!this.typed && document.activeElement !== this.input) this.input.value = session;
  }

  try(session: string): void {
    this.typed = true;
    this.input.value = session;
    this.root.scrollIntoView({ block: "nearest" });
    void this.ask();
  }

  update(c: Coverage): void {
    this.root.hidden = false;
    const text = JSON.stringify(c);
    if (text === this.text) return;
    this.text = text;
    if (c.page_views === 0) {
      this.facts.replaceChildren(el("p", { class: "hint" }, "No page view yet."));
      return;
    }
    const low = c.share < 0.3;
    const parts: Node[] = [
      meter(Math.min(1, c.share), low, `${Math.round(c.share * 100)} % of ${count(c.page_views)} page views became interactions`),
    ];
    if (c.unmatched.length > 0) {
      parts.push(
        el("h3", {}, "Pages without an item"),
        el("ul", { class: "paths" }, ...c.unmatched.slice(0, 5).map((p) => el("li", {}, el("code", {}, p.path), el("span", {}, count(p.count))))),
      );
    }
    const rule = c.suggestion;
    if (rule) {
      parts.push(
        el(
          "div",
          { class: "suggestion" },
          el("h3", {}, "Suggested rule"),
          el("p", {}, el("code", { class: "pattern" }, rule.pattern), copyButton(() => rule.pattern)),
          el("p", { class: "hint" }, "would have matched " + count(rule.matches) + " page views, for example"),
          el("ul", { class: "paths" }, ...rule.preview.slice(0, 3).map((p) => el("li", {}, el("code", {}, p)))),
        ),
      );
    }
    this.facts.replaceChildren(...parts);
  }

  private async ask(): Promise<void> {
    const session = this.input.value.trim();
    this.result.replaceChildren(el("p", { class: "hint" }, "Asking…"));
    try {
      const query = session ? "session_id=" + encodeURIComponent(session) + "&n=8" : "n=8";
      const answer = await get<Recommendation>("/api/recommend?" + query);
      this.result.replaceChildren(...list(answer));
    } catch (e) {
      const missing = e instanceof Refused && e.code === 404;
      const text = missing ? "No recommender runs in this process." : e instanceof Error ? e.message : String(e);
      this.result.replaceChildren(el("p", { class: "wrong-text" }, text));
    }
  }
}

function list(answer: Recommendation): Node[] {
  const items = answer.items || [];
  if (items.length === 0) return [el("p", { class: "hint" }, "Nothing to recommend yet: no interaction has been seen.")];
  const best = Math.max(...items.map((i) => i.score || 0));
  const parts: Node[] = [el("ol", { class: "items" }, ...items.map((i) => item(i, best)))];
  if (answer.fallback) parts.push(el("p", { class: "hint" }, "This session has no history, so these are what others like."));
  return parts;
}

function item(i: Recommended, best: number): HTMLElement {
  const bar = el("span", { class: "score" });
  bar.style.width = best > 0 ? (((i.score || 0) / best) * 100).toFixed(0) + "%" : "0";
  return el(
    "li",
    { title: (i.reasons || []).join(", ") || undefined },
    el("code", {}, i.id),
    i.source && el("span", { class: "source" }, i.source.replace(/_/g, " ")),
    bar,
  );
}
