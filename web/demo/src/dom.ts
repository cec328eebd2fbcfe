export type Child = Node | string | number | null | undefined | false;

// h makes an element. Texts become text nodes, so nothing a product is called can
// become markup; `on…` attributes are listeners.
export function h(tag: string, attrs: Record<string, string | number | undefined | ((e: Event) => void)> = {}, ...children: (Child | Child[])[]): HTMLElement {
  const el = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs)) {
    if (typeof v === "function") el.addEventListener(k.slice(2), v);
    else if (v !== undefined) el.setAttribute(k, `${v}`);
  }
  for (const c of ([] as Child[]).concat(...children)) if (c !== null && c !== undefined && c !== false) el.append(typeof c === "number" ? `${c}` : c);
  return el;
}

// dice makes a sequence of numbers in [0, 1) that is the same for the same text.
export function dice(text: string): () => number {
  let a = 2166136261;
  for (let i = 0; i < text.length; i++) a = Math.imul(a ^ text.charCodeAt(i), 16777619);
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
