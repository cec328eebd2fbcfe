// What the shop knows: its settings, its products, the cart.
export interface Product { id: string; name: string; brand: string; category: string; price: number; currency: string }

export interface Settings { collector: string; inspector: string }

export interface Line { id: string; quantity: number }

export const settings = JSON.parse(document.getElementById("shop-config")?.textContent || "{}") as Settings;

export const products = new Map<string, Product>();

export async function stock(): Promise<void> {
  const answer = await fetch("/catalogue.json");
  if (!answer.ok) throw new Error(`the catalogue answers ${answer.status}`);
  const { products: list } = await answer.json() as { products: Product[] };
  for (const p of list) products.set(p.id, p);
}

export const categories = (): string[] => [...new Set([...products.values()].map((p) => p.category))].sort();

export const money = (n: number): string => new Intl.NumberFormat("en-IE", { style: "currency", currency: "EUR" }).format(n);

const CART = "shop_cart";
const SEEN = "shop_seen";

function read<T>(key: string, otherwise: T): T {
  try {
    return (JSON.parse(sessionStorage.getItem(key) || "null") as T) || otherwise;
  } catch {
    return otherwise;
  }
}

const write = (key: string, value: unknown): void => sessionStorage.setItem(key, JSON.stringify(value));

export const cart = {
  lines: (): Line[] => read<Line[]>(CART, []).filter((l) => products.has(l.id)),
  count: (): number => cart.lines().reduce((n, l) => n + l.quantity, 0),
  total: (): number => Math.round(cart.lines().reduce((n, l) => n + l.quantity * products.get(l.id)!.price, 0) * 100) / 100,
  add(id: string): void {
    const lines = cart.lines();
    const line = lines.find((l) => l.id === id);
    if (line) line.quantity++;
    else lines.push({ id, quantity: 1 });
    write(CART, lines);
  },
  remove(id: string): void { write(CART, cart.lines().filter((l) => l.id !== id)); },
  clear(): void { write(CART, []); },
};

// seen is the trail of products this visitor has looked at, newest first.
export const seen = {
  list: (): string[] => read<string[]>(SEEN, []),
  add(id: string): void { write(SEEN, [id, ...seen.list().filter((s) => s !== id)].slice(0, 30)); },
  clear(): void { write(SEEN, []); },
};
