// Cookie names carry the first four hex digits of a SHA-1, and crypto.subtle is
// neither synchronous nor there on plain http: so a small one of our own.
// It is used for naming only, never for secrets.
export function sha1(text: string): string {
  const bytes = new TextEncoder().encode(text);
  const words: number[] = new Array((((bytes.length + 8) >> 6) + 1) * 16).fill(0);
  bytes.forEach((b, i) => { words[i >> 2] |= b << (24 - (i & 3) * 8); });
  words[bytes.length >> 2] |= 0x80 << (24 - (bytes.length & 3) * 8);
  words[words.length - 1] = bytes.length * 8;
  const h = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
  const w: number[] = [];
  for (let at = 0; at < words.length; at += 16) {
    let [a, b, c, d, e] = h;
    for (let i = 0; i < 80; i++) {
      const x = i < 16 ? words[at + i] : w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16];
      w[i] = i < 16 ? x : (x << 1) | (x >>> 31);
      const mix = i < 20 ? ((b & c) | (~b & d)) + 0x5a827999
        : i < 40 ? (b ^ c ^ d) + 0x6ed9eba1
          : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
            : (b ^ c ^ d) + 0xca62c1d6;
      const t = (((a << 5) | (a >>> 27)) + mix + e + w[i]) | 0;
      e = d; d = c; c = (b << 30) | (b >>> 2); b = a; a = t;
    }
    [a, b, c, d, e].forEach((v, i) => { h[i] = (h[i] + v) | 0; });
  }
  return h.map((v) => (v >>> 0).toString(16).padStart(8, "0")).join("");
}

// uuid draws a version 4 UUID. crypto.randomUUID exists on https only.
export function uuid(): string {
  const b = crypto.getRandomValues(new Uint8Array(16));
  b[6] = (b[6] & 15) | 64;
  b[8] = (b[8] & 63) | 128;
  return Array.from(b, (v, i) => (/^[4-9]$|^10$/.test(`${i}`) && !(i & 1) ? "-" : "") + (v + 256).toString(16).slice(1)).join("");
}
