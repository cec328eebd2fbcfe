// The demo shop: a single-page shop that tracks with furrow.js and shows what the
// recommender answers.
import { h } from "./dom";
import * as pages from "./pages";
import { cart, seen, stock } from "./shop";
import { furrow, start, track } from "./tracking";

const bar = (): ReturnType<typeof pages.top> => pages.top(() => {
  furrow("clearUserData");
  cart.clear();
  seen.clear();
  go("/");
  track.page(); // already home there was no navigation; elsewhere it is the same page view
});

let head: ReturnType<typeof pages.top>;

function page(): pages.Page {
  const [, kind, name] = location.pathname.split("/").map(decodeURIComponent);
  const update = (): void => head.update();
  switch (kind) {
    case "": return pages.home();
    case "category": return pages.category(name) || pages.missing();
    case "product": return pages.product(name, update) || pages.missing();
    case "cart": return pages.basket(go, update);
    case "thanks": return pages.thanks();
    default: return pages.missing();
  }
}

function render(): void {
  delete document.documentElement.dataset.ready;
  pages.turned();
  const p = page();
  document.title = p.title;
  document.querySelector("main")!.replaceWith(p.body);
  p.shown();
  head.update();
}

function go(path: string): void {
  if (path !== location.pathname) history.pushState(null, "", path);
  render();
  scrollTo(0, 0);
}

function onClick(e: MouseEvent): void {
  const a = (e.target as Element).closest?.("a");
  const href = a?.getAttribute("href");
  if (!a || !href?.startsWith("/") || a.target || e.defaultPrevented || e.button || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
  e.preventDefault();
  go(href);
}

async function open(): Promise<void> {
  start();
  try {
    await stock();
  } catch (e) {
    document.body.replaceChildren(h("main", {}, h("section", { class: "basket" }, h("h1", {}, "The shop is closed."), h("p", { class: "empty" }, `${e}`))));
    return;
  }
  head = bar();
  document.body.replaceChildren(head.el, h("main"), pages.bottom());
  document.addEventListener("click", onClick);
  addEventListener("popstate", render);
  document.title = page().title;
  track.page();
  render();
}

void open();
