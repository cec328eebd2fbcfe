// How to send the first event: open by itself until one has come.
import { Status, get, publicBase, sendTest } from "./api";
import { copyButton, el } from "./dom";
import { span } from "./format";

export class Connect {
  private base = "";
  private arrived: ((id: string) => void) | undefined;
  private readonly steps = el("ol", { class: "steps", role: "status" });
  private chosen = false; // somebody opened or closed it by hand

  constructor(
    private readonly root: HTMLElement,
    private readonly toggle: HTMLButtonElement,
    private readonly onArrival: (id: string) => void,
  ) {
    toggle.addEventListener("click", () => {
      this.chosen = true;
      this.show(this.root.hidden);
    });
  }

  update(status: Status): void {
    const base = publicBase(status);
    if (base === this.base) return;
    this.base = base;
    this.draw();
  }

  // idle says whether nothing has come yet.
  idle(yes: boolean): void {
    if (!this.chosen) this.show(yes);
    this.root.classList.toggle("first", yes);
  }

  saw(id: string): void {
    this.arrived?.(id);
  }

  private show(yes: boolean): void {
    this.root.hidden = !yes;
    this.toggle.setAttribute("aria-expanded", String(yes));
  }

  private draw(): void {
    const send = el("button", { type: "button", class: "button primary" }, "Send a test event");
    send.addEventListener("click", () => void this.test(send));
    this.root.replaceChildren(
      el(
        "div",
        { class: "intro" },
        el("h1", {}, "Send your first event"),
        el("p", {}, "Any Snowplow tracker can send to ", el("code", {}, this.base), ". Three ways to begin:"),
      ),
      way("On a web page", "Paste this before </head>.", this.snippet()),
      way("From a terminal", "One page view.", this.curl()),
      el(
        "article",
        { class: "way" },
        el("h2", {}, "From here"),
        el("p", {}, "A test event that takes the way of every other: collector, journal, database."),
        send,
        this.steps,
      ),
    );
  }

  private snippet(): string {
    return [
      "<script>",
      "window.furrow=window.furrow||function(){",
      "  (furrow.q=furrow.q||[]).push(arguments)};",
      `furrow('newTracker','sp','${this.base}',`,
      "  {appId:'my-site'});",
      "furrow('trackPageView');",
      "</script>",
      `<script async src="${this.base}/furrow.js"></script>`,
    ].join("\n");
  }

  private curl(): string {
    return `curl '${this.base}/i?e=pv&p=web&aid=my-site&page=Hello&url=https%3A%2F%2Fexample.com%2Fhello'`;
  }

  private async test(button: HTMLButtonElement): Promise<void> {
    button.disabled = true;
    this.chosen = true; // stay open, so that the arrival can be seen
    const begun = performance.now();
    const since = (): string => span((performance.now() - begun) / 1000);
    this.steps.replaceChildren(el("li", { class: "waiting" }, "sending…"));
    try {
      // The stream may show the event before the answer names it.
      const early: string[] = [];
      this.arrived = (id) => early.push(id);
      const id = await sendTest();
      this.steps.replaceChildren(
        el("li", { class: "done" }, "on disk, answered 200 after " + since()),
        el("li", { class: "waiting" }, "waiting for the database…"),
      );
      await this.arrival(id, early);
      this.steps.replaceChildren(
        this.steps.firstElementChild!,
        el("li", { class: "done" }, "in the database after " + since()),
        el("li", {}, el("button", { type: "button", class: "link", click: () => this.onArrival(id) }, "Look at it")),
      );
    } catch (e) {
      this.steps.append(el("li", { class: "failed" }, e instanceof Error ? e.message : String(e)));
      for (const li of Array.from(this.steps.querySelectorAll(".waiting"))) li.remove();
    } finally {
      this.arrived = undefined;
      button.disabled = false;
    }
  }

  // arrival waits until the stream or, should it be cut off, a look-up has the
  // event.
  private arrival(id: string, early: string[]): Promise<void> {
    return new Promise((resolve, reject) => {
      if (early.includes(id)) return resolve();
      let left = 30;
      const timer = setInterval(() => {
        get("/api/events/" + encodeURIComponent(id)).then(
          () => finish(),
          () => {
            if (--left === 0) finish(new Error("not stored after 30 s; see the stages below for the reason"));
          },
        );
      }, 1000);
      const finish = (error?: Error): void => {
        clearInterval(timer);
        this.arrived = undefined;
        if (error) reject(error);
        else resolve();
      };
      this.arrived = (seen) => {
        if (seen === id) finish();
      };
    });
  }
}

function way(title: string, text: string, code: string): HTMLElement {
  return el(
    "article",
    { class: "way" },
    el("h2", {}, title, copyButton(() => code)),
    el("p", {}, text),
    el("pre", { tabindex: 0 }, code),
  );
}
