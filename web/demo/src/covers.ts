// Pictures made from the item id: the same id always looks the same, and nothing
// is loaded from anywhere.
import { dice } from "./dom";
import { Product } from "./shop";

interface Brush { r: () => number; bg: string; a: string; b: string; c: string; ink: string }

// background, three colours, ink
const palettes = [
  ["#e9dfcf", "#b5532f", "#e0a458", "#2f4a3c", "#2b2118"],
  ["#dfe5dc", "#3d6b52", "#c9a24b", "#8a3b2a", "#1d2a22"],
  ["#e6dde4", "#6a4c6e", "#c77d6b", "#e8c07d", "#2a1f2c"],
  ["#dbe4ea", "#2f5d7c", "#d98e5f", "#f0d9a8", "#16242e"],
  ["#efe3d8", "#c26d4a", "#7a8b5a", "#f4c98b", "#33241b"],
  ["#e2e6e1", "#52665f", "#a8b89a", "#d9795d", "#1f2925"],
  ["#ece5d3", "#946b2d", "#3f5a68", "#d4a33f", "#29210f"],
  ["#e3dad3", "#7d3c3c", "#bc8a5f", "#40535b", "#271817"],
  ["#dde6e4", "#2e6e6a", "#e3b15a", "#c65b4a", "#12282a"],
  ["#eae0e0", "#a34a5a", "#546a8c", "#eac1a0", "#2b1b20"],
];

const esc = (s: string): string => s.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const pick = <T>(r: () => number, list: T[]): T => list[Math.floor(r() * list.length)];
const rep = (n: number, f: (i: number) => string): string => Array.from({ length: n }, (_, i) => f(i)).join("");
const shadow = (w: number, y = 236): string => `<ellipse cx="120" cy="${y}" rx="${w}" ry="7" fill="#000" opacity=".1"/>`;

const patterns: ((p: Brush) => string)[] = [
  (p) => `<circle cx="128" cy="146" r="36" fill="${p.b}"/><path d="M66 172q30-34 62-8t60-16v72H66z" fill="${p.c}"/><path d="M66 196q34-22 60-4t62-10v48H66z" fill="${p.ink}" opacity=".45"/>`,
  (p) => rep(7, (i) => `<rect x="${70 + i * 16}" y="${112 + ((i * 37) % 40)}" width="9" height="${112 - ((i * 37) % 40)}" fill="${i % 2 ? p.b : p.c}"/>`),
  (p) => rep(4, (i) => `<path d="M${76 + i * 9} 226v${-50 + i * 6}a${44 - i * 9} ${44 - i * 9} 0 0 1 ${88 - i * 18} 0v${50 - i * 6}z" fill="${[p.b, p.c, p.bg, p.ink][i]}" opacity="${i === 3 ? 0.5 : 1}"/>`),
  (p) => `<path d="M120 222V134" stroke="${p.bg}" stroke-width="3"/>${rep(4, (i) => `<path d="M120 ${206 - i * 20}q${i % 2 ? 36 : -36}-4 ${i % 2 ? 40 : -40}-30q${i % 2 ? -34 : 34} 0 ${i % 2 ? -40 : 40} 30z" fill="${i % 2 ? p.b : p.c}"/>`)}`,
  (p) => rep(16, (i) => `<circle cx="${84 + (i % 4) * 25}" cy="${126 + Math.floor(i / 4) * 25}" r="${4 + ((i * 7) % 9)}" fill="${[p.b, p.c, p.bg][(i * 5) % 3]}"/>`),
  (p) => `<path d="M66 226L118 128L150 184L164 162L188 204V226z" fill="${p.c}"/><path d="M118 128l17 30q-17 8-33-1z" fill="${p.bg}"/><circle cx="158" cy="128" r="13" fill="${p.b}"/>`,
  (p) => `<path d="M84 226q-6-62 36-104q42 42 36 104z" fill="${p.b}"/><path d="M104 226q-2-36 16-60q18 24 16 60z" fill="${p.ink}" opacity=".55"/>`,
  (p) => rep(6, (i) => `<path d="M66 ${132 + i * 17}q15-13 30 0t30 0t30 0t32 0" fill="none" stroke="${i % 2 ? p.b : p.bg}" stroke-width="5"/>`),
];

function lines(name: string): string[] {
  const out: string[] = [];
  for (const word of name.split(" ")) {
    if (out.length && `${out[out.length - 1]} ${word}`.length <= 12) out[out.length - 1] += ` ${word}`;
    else out.push(word);
  }
  return out.slice(0, 3);
}

function book(p: Brush, item: Product): string {
  const title = lines(item.name);
  const size = Math.min(19, 190 / Math.max(...title.map((t) => t.length)));
  const text = title.map((t, i) => `<text x="127" y="${66 + i * (size + 3)}" font-size="${size.toFixed(1)}" text-anchor="middle" class="serif" fill="${p.bg}">${esc(t)}</text>`).join("");
  return `${shadow(72, 240)}<rect x="60" y="34" width="132" height="204" rx="3" fill="#fff"/><rect x="60" y="32" width="128" height="204" rx="3" fill="${p.a}"/>
    <clipPath id="c${item.id}"><rect x="60" y="108" width="128" height="104"/></clipPath><g clip-path="url(#c${item.id})">${pick(p.r, patterns)(p)}</g>
    ${text}<rect x="60" y="32" width="9" height="204" fill="#000" opacity=".16"/><rect x="69" y="32" width="1.5" height="204" fill="#fff" opacity=".25"/>
    <text x="127" y="229" font-size="8" text-anchor="middle" letter-spacing="1.2" class="sans" fill="${p.bg}">${esc(item.brand.toUpperCase())}</text>`;
}

const speckle = (p: Brush, x: number, y: number, w: number, h: number): string =>
  rep(26, () => `<circle cx="${(x + p.r() * w).toFixed(0)}" cy="${(y + p.r() * h).toFixed(0)}" r="${(0.6 + p.r()).toFixed(1)}" fill="${p.ink}" opacity=".28"/>`);

function tableware(p: Brush, item: Product): string {
  const n = item.name;
  if (/Plate|Platter/.test(n)) {
    return `<circle cx="120" cy="146" r="84" fill="#000" opacity=".07"/><circle cx="120" cy="140" r="84" fill="${p.a}"/><circle cx="120" cy="140" r="60" fill="${p.b}"/><circle cx="120" cy="140" r="58" fill="${p.a}" opacity=".55"/>${speckle(p, 66, 86, 108, 108)}`;
  }
  if (/Bowl/.test(n)) {
    return `${shadow(62)}<path d="M40 132h160q0 92-80 100q-80-8-80-100z" fill="${p.a}"/><path d="M46 164q8 52 74 60q66-8 74-60q-74 20-148 0z" fill="${p.c}" opacity=".85"/><ellipse cx="120" cy="132" rx="80" ry="17" fill="${p.b}"/><ellipse cx="120" cy="135" rx="68" ry="11" fill="${p.ink}" opacity=".35"/>${speckle(p, 62, 150, 116, 60)}`;
  }
  if (/Mug|Cup|Tumbler/.test(n)) {
    const handle = /Tumbler/.test(n) ? "" : `<path d="M168 134q44-4 40 34t-46 34" fill="none" stroke="${p.a}" stroke-width="14"/>`;
    return `${shadow(64)}${handle}<path d="M66 104h108l-7 118q-2 14-16 14H89q-14 0-16-14z" fill="${p.a}"/><path d="M68 150h104l-4.6 72q-2 14-16 14H89q-14 0-16-14z" fill="${p.b}" opacity=".9"/><ellipse cx="120" cy="104" rx="54" ry="12" fill="${p.ink}" opacity=".55"/>${speckle(p, 78, 116, 84, 104)}`;
  }
  const spout = /Teapot|Pitcher/.test(n) ? `<path d="M160 118q40 6 34 52t-38 36" fill="none" stroke="${p.a}" stroke-width="11"/>` : "";
  return `${shadow(56)}${spout}<path d="M98 56h44q2 34 14 54t20 62q4 64-24 64H88q-28 0-24-64q8-42 20-62t14-54z" fill="${p.a}"/><path d="M66 178q26 18 54 4t54-4q2 58-22 58H88q-24 0-22-58z" fill="${p.c}" opacity=".85"/><ellipse cx="120" cy="57" rx="22" ry="6" fill="${p.ink}" opacity=".5"/>${speckle(p, 84, 110, 72, 60)}`;
}

function lighting(p: Brush, item: Product): string {
  const glow = `<circle cx="120" cy="120" r="104" fill="#fff" opacity=".28"/><circle cx="120" cy="126" r="70" fill="#fff" opacity=".35"/>`;
  const n = item.name;
  if (/Pendant|Ceiling|Hanging/.test(n)) {
    return `${glow}<path d="M120 0v86" stroke="${p.ink}" stroke-width="2.5"/><rect x="112" y="82" width="16" height="16" rx="3" fill="${p.c}"/>${pick(p.r, [
      `<path d="M48 172q0-76 72-76t72 76z" fill="${p.a}"/><ellipse cx="120" cy="172" rx="72" ry="10" fill="${p.b}"/>`,
      `<circle cx="120" cy="148" r="54" fill="${p.b}"/>${rep(5, (i) => `<ellipse cx="120" cy="148" rx="${8 + i * 11.5}" ry="54" fill="none" stroke="${p.a}" stroke-width="1.5"/>`)}`,
      `<path d="M96 98h48l34 76H62z" fill="${p.a}"/><path d="M62 174h116l-6 10H68z" fill="${p.b}"/>`,
    ])}`;
  }
  if (/Lantern/.test(n)) {
    return `${glow}${shadow(46)}<rect x="78" y="96" width="84" height="136" rx="12" fill="${p.a}"/><rect x="90" y="110" width="60" height="108" rx="6" fill="${p.b}" opacity=".9"/><rect x="110" y="164" width="20" height="54" fill="#fff" opacity=".85"/><path d="M120 132q14 16 0 30q-14-14 0-30z" fill="${p.c}"/><path d="M92 96q28-52 56 0" fill="none" stroke="${p.ink}" stroke-width="4"/>`;
  }
  if (/Floor|Reading|Arm/.test(n)) {
    return `${glow}${shadow(40)}<path d="M120 232V120q0-66 52-58" fill="none" stroke="${p.ink}" stroke-width="5"/><rect x="84" y="227" width="72" height="8" rx="4" fill="${p.ink}"/><path d="M150 62l44-14l20 50l-58 18z" fill="${p.a}"/><path d="M156 116l58-18l4 10l-56 18z" fill="${p.b}"/>`;
  }
  return `${glow}${shadow(50)}<path d="M82 62h76l28 82H54z" fill="${p.a}"/><path d="M54 144h132l3 9H51z" fill="${p.b}"/><path d="M112 153h16l6 50q16 6 16 30H90q0-24 16-30z" fill="${p.c}"/>`;
}

function textiles(p: Brush, item: Product): string {
  const weave = pick(p.r, [
    rep(9, (i) => `<rect x="${44 + i * 18}" y="70" width="7" height="160" fill="${i % 3 ? p.b : p.c}"/>`),
    rep(10, (i) => `<path d="M40 ${78 + i * 17}l20 12l20-12l20 12l20-12l20 12l20-12l20 12l20-12" fill="none" stroke="${i % 2 ? p.b : p.c}" stroke-width="4.5"/>`),
    rep(8, (i) => `<rect x="40" y="${76 + i * 20}" width="160" height="${i % 2 ? 4 : 9}" fill="${i % 2 ? p.c : p.b}"/>`),
    rep(48, (i) => `<rect x="${46 + (i % 8) * 19}" y="${78 + Math.floor(i / 8) * 25}" width="11" height="15" rx="2" fill="${(i + Math.floor(i / 8)) % 2 ? p.b : p.c}" opacity=".8"/>`),
  ]);
  return `${shadow(82, 240)}<clipPath id="c${item.id}"><rect x="40" y="70" width="160" height="166" rx="10"/></clipPath><rect x="40" y="70" width="160" height="166" rx="10" fill="${p.a}"/><g opacity=".9" clip-path="url(#c${item.id})">${weave}</g>
    <rect x="40" y="222" width="160" height="14" rx="7" fill="${p.ink}" opacity=".16"/><path d="M40 104V80q0-10 10-10h140q10 0 10 10v24q-80 16-160 0z" fill="${p.a}"/><path d="M40 104q80 16 160 0" fill="none" stroke="${p.ink}" stroke-width="2" opacity=".3"/>${rep(14, (i) => `<path d="M${50 + i * 10.8} 236v9" stroke="${p.a}" stroke-width="2.5"/>`)}`;
}

function garden(p: Brush, item: Product): string {
  if (/Trowel|Scoop|Weeder|Dibber/.test(item.name)) {
    return `<g transform="rotate(${-28 + p.r() * 14} 120 140)"><rect x="109" y="28" width="22" height="84" rx="11" fill="${p.b}"/><rect x="109" y="92" width="22" height="9" fill="${p.ink}" opacity=".4"/><path d="M116 110h8v40h-8z" fill="${p.c}"/><path d="M92 150q28-14 56 0v34q0 40-28 64q-28-24-28-64z" fill="${p.a}"/><path d="M120 154v84" stroke="#fff" stroke-width="3" opacity=".35"/></g>`;
  }
  const n = 5 + Math.floor(p.r() * 3);
  const leaves = rep(n, (i) => {
    const turn = -62 + (124 / (n - 1)) * i + (p.r() - 0.5) * 10;
    return `<g transform="rotate(${turn.toFixed(0)} 120 172)"><path d="M120 172q-24-46 0-${(92 + p.r() * 26).toFixed(0)}q24 58 0 ${(92 + p.r() * 14).toFixed(0)}z" fill="${i % 2 ? p.c : p.b}"/><path d="M120 168v-70" stroke="${p.ink}" stroke-width="1.2" opacity=".35"/></g>`;
  });
  return `${shadow(48)}${leaves}<path d="M74 170h92l-11 58q-2 8-10 8H95q-8 0-10-8z" fill="${p.a}"/><rect x="68" y="162" width="104" height="18" rx="4" fill="${p.a}"/><rect x="68" y="176" width="104" height="5" fill="${p.ink}" opacity=".18"/>`;
}

function stationery(p: Brush, item: Product): string {
  if (/Pen$|Rollerball/.test(item.name)) {
    return `<g transform="rotate(38 120 140)"><rect x="106" y="26" width="28" height="150" rx="13" fill="${p.a}"/><rect x="106" y="112" width="28" height="10" fill="${p.b}"/><rect x="128" y="34" width="5" height="66" rx="2.5" fill="${p.b}"/><path d="M108 176h24l-6 40l-6 24l-6-24z" fill="${p.c}"/><path d="M120 196v40" stroke="${p.bg}" stroke-width="2"/></g>`;
  }
  if (/Card|Envelope|Letter/.test(item.name)) {
    return `${shadow(78)}<g transform="rotate(-8 120 140)"><rect x="48" y="88" width="144" height="108" rx="5" fill="${p.b}"/></g><rect x="48" y="108" width="144" height="116" rx="5" fill="${p.a}"/><path d="M48 113l72 62l72-62" fill="none" stroke="${p.bg}" stroke-width="3.5"/><circle cx="120" cy="172" r="14" fill="${p.c}"/>`;
  }
  return `${shadow(66, 242)}<rect x="64" y="46" width="120" height="190" rx="8" fill="#fff"/><rect x="58" y="42" width="120" height="192" rx="8" fill="${p.a}"/><rect x="58" y="42" width="18" height="192" rx="6" fill="${p.ink}" opacity=".2"/>${pick(p.r, [
    `<rect x="96" y="80" width="62" height="44" rx="3" fill="${p.bg}"/><path d="M106 96h42M106 108h28" stroke="${p.ink}" stroke-width="2" opacity=".5"/>`,
    rep(20, (i) => `<circle cx="${96 + (i % 4) * 20}" cy="${76 + Math.floor(i / 4) * 32}" r="3.5" fill="${p.b}"/>`),
    `<circle cx="127" cy="138" r="34" fill="${p.b}"/><path d="M93 138a34 34 0 0 0 68 0z" fill="${p.c}"/>`,
  ])}<rect x="160" y="42" width="6" height="192" fill="${p.c}"/>`;
}

function games(p: Brush): string {
  const shades = [p.a, p.b, p.c, p.ink];
  const tile = (x: number, y: number): string => {
    const f = pick(p.r, shades);
    const g = pick(p.r, shades.filter((s) => s !== f));
    const art = pick(p.r, [
      `<circle cx="21" cy="21" r="12" fill="${g}"/>`,
      `<path d="M0 42V0a42 42 0 0 1 42 42z" fill="${g}"/>`,
      `<path d="M0 0h42L0 42z" fill="${g}"/>`,
      `<path d="M21 6l15 30H6z" fill="${g}"/>`,
      `<path d="M0 21a21 21 0 0 1 42 0z" fill="${g}"/>`,
    ]);
    return `<g transform="translate(${x} ${y})"><rect width="42" height="42" fill="${f}"/>${art}</g>`;
  };
  return `${shadow(84, 240)}<rect x="48" y="60" width="150" height="176" rx="6" fill="#000" opacity=".18"/><rect x="42" y="56" width="150" height="176" rx="6" fill="${p.bg}"/><rect x="42" y="56" width="150" height="176" rx="6" fill="#fff" opacity=".55"/>
    ${rep(12, (i) => tile(52 + (i % 3) * 44, 66 + Math.floor(i / 3) * 40))}<rect x="42" y="56" width="150" height="176" rx="6" fill="none" stroke="${p.ink}" stroke-width="2" opacity=".25"/>`;
}

const painters: Record<string, (p: Brush, item: Product) => string> =
  { Novels: book, Cookbooks: book, Tableware: tableware, Lighting: lighting, Textiles: textiles, Garden: garden, Stationery: stationery, Games: games };

// cover is the picture of a product.
export function cover(item: Product): Element {
  const r = dice(item.id);
  const [bg, a, b, c, ink] = pick(r, palettes);
  const art = (painters[item.category] || games)({ r, bg, a, b, c, ink }, item);
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 240 280" class="cover" role="img" aria-label="${esc(item.name)}"><rect width="240" height="280" fill="${bg}"/>${art}</svg>`;
  return new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
}
