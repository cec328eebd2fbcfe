// The shop's use of the tracker: the same calls any page would make.
import { cart, Line, Product, products, settings } from "./shop";

type Queue = ((...args: unknown[]) => void) & { q?: unknown[] };

const page = window as unknown as { furrow?: Queue };

// The queue takes calls before the script is there.
function loader(): Queue {
  const queue: Queue = (...args) => { (queue.q = queue.q || []).push(args); };
  return queue;
}

export const furrow: Queue = (...args) => page.furrow!(...args);

// start loads the script from the collector. The policy of these pages allows no
// inline script; other pages use the snippet in the tracker's README.
export function start(): void {
  page.furrow = page.furrow || loader();
  furrow("newTracker", "sp", settings.collector, { appId: "shop" });
  const script = document.createElement("script");
  script.src = `${settings.collector}/furrow.js`;
  script.async = true;
  script.onerror = () => { document.documentElement.dataset.tracker = "absent"; };
  document.head.append(script);
}

const entity = (p: Product, quantity?: number): Record<string, unknown> =>
  ({ id: p.id, name: p.name, brand: p.brand, category: p.category, price: p.price, currency: p.currency, ...(quantity && { quantity }) });

const basket = (): Record<string, unknown> => ({ total_value: cart.total(), currency: "EUR" });

export const track = {
  page: () => furrow("trackPageView"),
  view: (p: Product) => furrow("trackProductView", entity(p)),
  click: (p: Product, list: string, position: number) =>
    furrow("trackProductListClick", { product: { ...entity(p), position }, name: list }),
  add: (p: Product) => furrow("trackAddToCart", { products: [entity(p, 1)], ...basket() }),
  remove: (p: Product, quantity: number) => furrow("trackRemoveFromCart", { products: [entity(p, quantity)], ...basket() }),
  buy: (id: string, lines: Line[], revenue: number) => furrow("trackTransaction", {
    transaction_id: id,
    revenue,
    currency: "EUR",
    payment_method: "card",
    total_quantity: lines.reduce((n, l) => n + l.quantity, 0),
    products: lines.map((l) => entity(products.get(l.id)!, l.quantity)),
  }),
};

export interface Suggestion { product: Product; source: string; why: string }

export interface Suggestions { list: Suggestion[]; ms: number; model: string }

interface Answer { items?: { id: string; source?: string; reasons?: string[] }[]; model?: string }

// Items that the shop does not sell are left out, so more are asked for than shown.
const MORE = 24;

function known(answer: Answer | null | undefined, started: number, without?: string): Suggestions {
  const list: Suggestion[] = [];
  for (const item of answer?.items || []) {
    const product = products.get(item.id);
    if (product && item.id !== without) list.push({ product, source: item.source || "unknown", why: (item.reasons || []).join(", ") });
  }
  return { list, ms: Math.round(performance.now() - started), model: answer?.model || "" };
}

// forVisitor asks for what suits this session, seen from an item if one is given.
export const forVisitor = (itemId?: string): Promise<Suggestions> => new Promise((resolve) => {
  // The clock starts when the tracker does: its loading is not the recommender's time.
  furrow("getSessionId", () => {
    const started = performance.now();
    furrow("recommend", { n: MORE, itemId }, (a: Answer | null) => resolve(known(a, started, itemId)));
  });
});

// forAnyone asks without a session: what the shop as a whole is looking at.
export async function forAnyone(): Promise<Suggestions> {
  const started = performance.now();
  try {
    const r = await fetch(`${settings.collector}/v1/recommend?n=${MORE}`, { credentials: "omit" });
    return known(r.ok ? await r.json() as Answer : null, started);
  } catch {
    return known(null, started);
  }
}
