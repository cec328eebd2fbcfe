// Numbers and times as people read them.

const whole = new Intl.NumberFormat("en");

export const exact = (n: number): string => (n < 1e8 ? whole.format(n) : count(n));

export function count(n: number): string {
  if (n < 1e5) return whole.format(Math.round(n));
  const units: [number, string][] = [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e3, " k"]];
  const [size, unit] = units.find(([u]) => n >= u)!;
  return (n / size).toFixed(n / size < 100 ? 1 : 0) + unit;
}

export function rate(perSecond: number): string {
  if (perSecond <= 0) return "0";
  return perSecond < 10 ? perSecond.toFixed(1) : count(perSecond);
}

export function bytes(n: number): string {
  const units = ["B", "KB", "MB", "GB", "TB", "PB"];
  let i = 0;
  for (; n >= 1000 && i < units.length - 1; i++) n /= 1024;
  return (i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)) + " " + units[i];
}

export function span(seconds: number): string {
  if (seconds < 0) seconds = 0;
  if (seconds < 1) return Math.round(seconds * 1000) + " ms";
  if (seconds < 90) return (seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)) + " s";
  if (seconds < 5400) return Math.round(seconds / 60) + " min";
  if (seconds < 129600) return Math.round(seconds / 3600) + " h";
  return Math.round(seconds / 86400) + " days";
}

export function days(n: number | null): string {
  if (n === null) return "not known yet";
  if (n > 3650) return "over 10 years";
  return n < 10 ? n.toFixed(1) : count(n);
}

export function clock(time: string): string {
  const t = new Date(time);
  return isNaN(t.getTime()) ? time : t.toLocaleTimeString("en-GB");
}

export function moment(time: string): string {
  const t = new Date(time);
  if (isNaN(t.getTime())) return time;
  return t.toLocaleTimeString("en-GB") + "." + String(t.getMilliseconds()).padStart(3, "0");
}

// place shortens an address to what tells one page from another.
export function place(url: string): string {
  try {
    const u = new URL(url);
    return (u.pathname === "/" ? u.host + "/" : u.pathname) + u.search;
  } catch {
    return url;
  }
}

export const short = (id: string): string => (id.length > 10 ? id.slice(0, 8) + "…" : id);
