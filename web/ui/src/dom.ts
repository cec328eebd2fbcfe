// Small ways to build the page. Text always goes in as text: what a visitor sent
// is shown, never interpreted.

type Child = Node | string | number | null | undefined | false;
type Attributes = Record<string, string | number | boolean | EventListener | undefined>;

const SVG = "http://www.w3.org/2000/svg";

function fill(node: Element, attributes: Attributes, children: Child[]): void {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(key, value);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
}

export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  fill(node, attributes, children);
  return node;
}

export function svg(tag: string, attributes: Attributes = {}, ...children: Child[]): SVGElement {
  const node = document.createElementNS(SVG, tag);
  fill(node, attributes, children);
  return node as SVGElement;
}

export function byId<T extends HTMLElement>(id: string): T {
  const node = document.getElementById(id);
  if (!node) throw new Error("the page has no #" + id);
  return node as T;
}

// put sets a node's text only when it changed, so that selections and assistive
// technology are left alone.
export function put(node: Element, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

export function copyButton(text: () => string, label = "Copy"): HTMLButtonElement {
  const button = el("button", { type: "button", class: "button quiet copy" }, label);
  button.addEventListener("click", () => {
    copy(text()).then(
      () => flash(button, "Copied", label),
      () => flash(button, "Select and copy by hand", label),
    );
  });
  return button;
}

function copy(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  return Promise.reject(new Error("no clipboard"));
}

function flash(button: HTMLButtonElement, text: string, back: string): void {
  button.textContent = text;
  setTimeout(() => (button.textContent = back), 1600);
}
