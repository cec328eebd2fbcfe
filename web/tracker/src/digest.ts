// Cookie names carry the first four hex digits of a SHA-1, and crypto.subtle is
// neither synchronous nor there on plain http: so a small one of our own, for
// ASCII. It is used for naming only, never for secrets.
export function sha1(text: string): string {
  const words: number[] = new Array((((text.length + 8) >> 6) + 1) * 16).fill(0);
  for (let i = 0; i <= text.length; i++) words[i >> 2] |= (text.charCodeAt(i) || 128) << (24 - (i & 3) * 8);
  words[words.length - 1] = text.length * 8;
  let h = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
  const w: number[] = [];
  for (let at = 0; at < words.length; at += 16) {
    let [a, b, c, d, e] = h;
    for (let i = 0; i < 80; i++) {
      const round = (i / 20) | 0;
      const x = i < 16 ? words[at + i] : w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16];
      w[i] = i < 16 ? x : (x << 1) | (x >>> 31);
      const mix = [(b & c) | (~b & d), b ^ c ^ d, (b & c) | (b & d) | (c & d), b ^ c ^ d][round];
      // The constants of the four rounds are roots of 2, 3, 5 and 10.
      const t = (((a << 5) | (a >>> 27)) + mix + e + w[i] + Math.floor(Math.sqrt([2, 3, 5, 10][round]) * 2 ** 30)) | 0;
      [a, b, c, d, e] = [t, a, (b << 30) | (b >>> 2), c, d];
    }
    h = [a, b, c, d, e].map((v, i) => (h[i] + v) | 0);
  }
  return h.map((v) => (v >>> 0).toString(16).padStart(8, "0")).join("");
}

// uuid draws a version 4 UUID. crypto.randomUUID exists on https only.
export function uuid(): string {
  const b = crypto.getRandomValues(new Uint8Array(16));
  b[6] = (b[6] & 15) | 64;
  b[8] = (b[8] & 63) | 128;
  return Array.from(b, (v, i) => ([4, 6, 8, 10].includes(i) ? "-" : "") + (v + 256).toString(16).slice(1)).join("");
}
