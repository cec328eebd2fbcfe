import { cover } from "./covers";
import { Child, dice, h } from "./dom";
import { cart, categories, money, Product, products, seen, settings } from "./shop";
import { forAnyone, forVisitor, furrow, Suggestion, Suggestions, track } from "./tracking";

export interface Page { title: string; body: HTMLElement; shown: () => void }

const SHOP = "Hazel & Loam";
const PATIENCE = 2000; // ms between questions while the recommender knows nothing yet

// What a rung of the recommender is called on the label of an item.
const labels: Record<string, string> = { session_knn: "session-kNN", trending: "trending", co_visit: "seen together", newest: "new", catalogue: "bestseller" };

// turn counts pages, so that a late answer does not land on the next one.
let turn = 0;
export const turned = (): void => { turn++; };

function tile(p: Product, list: string, position: number, from?: Suggestion): HTMLElement {
  return h("a", {
    class: "tile", href: `/product/${p.id}`, "data-item-id": p.id, "data-source": from?.source, title: from?.why || undefined,
    onclick: () => track.click(p, list, position),
  },
  h("span", { class: "art" }, cover(p), from && h("span", { class: `source ${from.source}` }, labels[from.source] || from.source)),
  h("span", { class: "name" }, p.name),
  h("span", { class: "meta" }, h("span", {}, p.brand), h("b", {}, money(p.price))));
}

const bestsellers = (n: number, without?: string): Suggestion[] =>
  [...products.values()].filter((p) => p.id !== without).slice(0, n).map((product) => ({ product, source: "catalogue", why: "" }));

interface Shelf { title: string; note: string; n: number; list: string; main?: boolean; wide?: boolean; without?: string }

// suggestions is a list that fills when its answer comes. Until the recommender
// has seen enough it shows the catalogue and asks again.
function suggestions(s: Shelf, ask: () => Promise<Suggestions>): { el: HTMLElement; load: () => void } {
  const tiles = h("div", { class: s.wide ? "grid" : "grid row", ...(s.main && { "data-testid": "recommendations" }) });
  const note = h("p", { class: "note" }, s.note);
  const el = h("section", { class: s.main ? "shelf picks" : "shelf" }, h("header", {}, h("h2", {}, s.title), note), tiles);
  const show = (list: Suggestion[]): void => tiles.replaceChildren(...list.slice(0, s.n).map((x, i) => tile(x.product, s.list, i + 1, x)));
  const load = (): void => {
    const mine = turn;
    void ask().then((answer) => {
      if (mine !== turn) return;
      if (!answer.list.length) {
        show(bestsellers(s.n, s.without));
        note.textContent = "The recommender is still warming up; these are the shop's bestsellers.";
        setTimeout(() => { if (mine === turn) load(); }, PATIENCE);
        return;
      }
      show(answer.list);
      note.replaceChildren(s.note, h("span", { class: "timing" }, `answered in ${answer.ms} ms`));
      if (s.main) document.documentElement.dataset.ready = "1";
    });
  };
  return { el, load };
}

const picks = (title: string, note: string, itemId?: string): ReturnType<typeof suggestions> =>
  suggestions({ title, note, n: 6, list: "recommendations", main: true, without: itemId }, () => forVisitor(itemId));

export function home(): Page {
  const fresh = !seen.list().length;
  const mine = fresh
    ? suggestions({ title: "Trending now", note: "What everybody is looking at this minute.", n: 12, list: "trending", main: true, wide: true }, () => forVisitor())
    : picks("Picked for you", "From what you have looked at since you came in.");
  const others = fresh ? undefined
    : suggestions({ title: "Trending now", note: "What everybody is looking at this minute.", n: 12, list: "trending", wide: true }, forAnyone);
  const all = [...products.values()];
  const stack = ["Novels", "Tableware", "Garden", "Lighting", "Stationery"]
    .map((c) => all.find((p) => p.category === c)).map((p) => p && h("span", { class: "card" }, cover(p)));
  return {
    title: SHOP,
    body: h("main", {},
      h("section", { class: "hero" },
        h("div", {},
          h("p", { class: "eyebrow" }, "Books & things for the home"),
          h("h1", {}, "A shop that notices what you like."),
          h("p", {}, "Walk around. Every look at a product reaches Furrow as an event, and the next page already knows about it."),
          h("nav", { class: "chips" }, categories().map((c) => h("a", { href: `/category/${c}` }, c)))),
        h("div", { class: "stack", "aria-hidden": "true" }, stack)),
      mine.el, others?.el),
    shown: () => { mine.load(); others?.load(); },
  };
}

export function category(name: string): Page | undefined {
  const list = [...products.values()].filter((p) => p.category === name);
  if (!list.length) return undefined;
  const mine = picks("Picked for you", "From what you have looked at since you came in.");
  return {
    title: `${name} · ${SHOP}`,
    body: h("main", {},
      h("section", { class: "shelf" },
        h("header", {}, h("h1", {}, name), h("p", { class: "note" }, `${list.length} products, the most visited first.`)),
        h("div", { class: "grid" }, list.slice(0, 18).map((p, i) => tile(p, name, i + 1)))),
      mine.el),
    shown: mine.load,
  };
}

const blurbs = [
  "Chosen because it does one thing well and keeps doing it.",
  "Made in small numbers by people who would rather make fewer.",
  "The sort of thing that is missed when it is lent out.",
  "Plain in the best sense, and better after a year of use.",
];

export function product(id: string, changed: () => void): Page | undefined {
  const p = products.get(id);
  if (!p) return undefined;
  const mine = picks("Visitors like you also viewed", "From sessions like yours, as of a moment ago.", id);
  const add = h("button", {
    class: "primary", type: "button", "data-testid": "add-to-cart",
    onclick: () => {
      cart.add(id);
      track.add(p);
      changed();
      add.textContent = "Added — one more?";
    },
  }, "Add to cart");
  const blurb = blurbs[Math.floor(dice(`${id}!`)() * blurbs.length)];
  return {
    title: `${p.name} · ${SHOP}`,
    body: h("main", {},
      h("p", { class: "crumbs" }, h("a", { href: "/" }, "Shop"), " / ", h("a", { href: `/category/${p.category}` }, p.category)),
      h("article", { class: "product", "data-product-id": id },
        h("div", { class: "art" }, cover(p)),
        h("div", { class: "facts" },
          h("p", { class: "eyebrow" }, p.brand),
          h("h1", {}, p.name),
          h("p", { class: "price" }, money(p.price)),
          h("p", {}, blurb),
          add,
          h("dl", {}, h("dt", {}, "Delivery"), h("dd", {}, "Tomorrow, if this were a real shop"), h("dt", {}, "Item"), h("dd", {}, id)))),
      mine.el),
    shown: () => {
      seen.add(id);
      track.view(p);
      mine.load();
    },
  };
}

export function basket(go: (path: string) => void, changed: () => void): Page {
  const mine = picks("Before you go", "From what you have looked at since you came in.");
  const lines = cart.lines();
  const row = (id: string, quantity: number): Child => {
    const p = products.get(id)!;
    return h("li", { "data-line-id": id },
      h("a", { href: `/product/${id}`, class: "thumb" }, cover(p)),
      h("div", {}, h("a", { href: `/product/${id}` }, p.name), h("span", {}, `${p.brand} · ${quantity} × ${money(p.price)}`)),
      h("b", {}, money(p.price * quantity)),
      h("button", {
        type: "button", class: "quiet", "data-testid": "remove-from-cart",
        onclick: () => {
          cart.remove(id);
          track.remove(p, quantity);
          changed();
          go("/cart");
        },
      }, "Remove"));
  };
  const pay = h("button", {
    class: "primary", type: "button", "data-testid": "checkout",
    onclick: () => {
      track.buy(`T${Date.now().toString(36).toUpperCase()}`, cart.lines(), cart.total());
      cart.clear();
      changed();
      go("/thanks");
    },
  }, "Check out");
  return {
    title: `Your cart · ${SHOP}`,
    body: h("main", {},
      h("section", { class: "basket" },
        h("h1", {}, "Your cart"),
        lines.length
          ? [h("ul", {}, lines.map((l) => row(l.id, l.quantity))),
            h("div", { class: "sum" }, h("span", {}, "Total"), h("b", {}, money(cart.total())), pay)]
          : h("p", { class: "empty" }, "Nothing in it yet. ", h("a", { href: "/" }, "Have a look around."))),
      mine.el),
    shown: mine.load,
  };
}

export function thanks(): Page {
  const mine = picks("While you wait", "Your purchase has already changed this list.");
  return {
    title: `Thank you · ${SHOP}`,
    body: h("main", {},
      h("section", { class: "basket" },
        h("h1", {}, "Thank you."),
        h("p", { class: "empty" }, "Nothing was charged and nothing will be sent: the order went to Furrow as a transaction event. ", h("a", { href: "/" }, "Back to the shop"))),
      mine.el),
    shown: mine.load,
  };
}

export function missing(): Page {
  const mine = picks("Perhaps one of these", "From what you have looked at since you came in.");
  return {
    title: `Not here · ${SHOP}`,
    body: h("main", {},
      h("section", { class: "basket" }, h("h1", {}, "We do not have that."), h("p", { class: "empty" }, h("a", { href: "/" }, "Back to the shop"))),
      mine.el),
    shown: mine.load,
  };
}

export function top(newVisitor: () => void): { el: HTMLElement; update: () => void } {
  const count = h("span", { class: "count", "data-testid": "cart-count" });
  const who = h("span", { class: "who", "data-testid": "visitor" });
  const el = h("header", { class: "top" },
    h("a", { href: "/", class: "brand" }, "Hazel", h("i", {}, "&"), "Loam"),
    h("nav", {}, categories().map((c) => h("a", { href: `/category/${c}` }, c))),
    h("div", { class: "tools" },
      who,
      h("button", { type: "button", class: "switch", "data-testid": "new-visitor", title: "Forget this visitor and come back as somebody else", onclick: newVisitor }, "New visitor"),
      h("a", { href: "/cart", class: "cart" }, "Cart", count)));
  const update = (): void => {
    const n = cart.count();
    count.textContent = n ? `${n}` : "";
    furrow("getDomainUserId", (id?: string) => {
      const trail = seen.list().length;
      who.replaceChildren(h("i", { class: `dot d${id ? parseInt(id[0], 16) % 6 : 0}` }), `Visitor ${id ? id.slice(0, 4) : "unknown"}`, h("small", {}, trail === 1 ? "1 product seen" : `${trail} products seen`));
    });
    for (const a of el.querySelectorAll("nav a")) a.classList.toggle("on", a.getAttribute("href") === decodeURI(location.pathname));
  };
  return { el, update };
}

export const bottom = (): HTMLElement => h("footer", {},
  h("p", {}, h("b", {}, "This shop is a demonstration."), " Every page view, product view, cart and order here goes to Furrow's collector as a Snowplow event; simulated visitors walk the same aisles. ",
    settings.inspector && h("a", { href: settings.inspector, target: "_blank", rel: "noopener", "data-testid": "inspector" }, "Watch your events arrive in the inspector →")),
  h("p", { class: "small" }, "Item ids and visitors' behaviour: example data of bolcom/serenade (bol.com), Apache License 2.0. Names, prices and pictures are invented."));
