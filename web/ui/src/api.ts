// What the inspector answers; the names are those of its JSON.

export interface Counter { name: string; value: number }
export interface Stage {
  name: string;
  kind: string;
  ready: boolean;
  reason?: string;
  counters: Counter[];
  lag_records: number;
  lag_seconds: number;
  details?: { name: string; value: string }[];
}
export interface Storage { path: string; rows: number; bad_rows: number; bytes: number; bytes_per_event: number }
export interface Disk {
  used_bytes: number;
  budget_bytes: number;
  free_bytes: number;
  bytes_per_day: number;
  days_until_full: number | null;
}
export interface Status {
  version: string;
  started: string;
  now: string;
  data_dir: string;
  listen: string;
  public_url?: string;
  roles: string[];
  stages: Stage[];
  database?: Storage;
  archive?: Storage;
  disk: Disk;
}
export interface Health { ok: boolean; checks: { name: string; ready: boolean; healthy: boolean; reason?: string }[] }
export interface EventSummary {
  id: string;
  time: string;
  recorded: string;
  latency_ms: number;
  app_id?: string;
  event_name: string;
  page_url?: string;
  page_title?: string;
  user_id?: string;
  domain_userid?: string;
  network_userid?: string;
  domain_sessionid?: string;
  action?: string;
  item?: string;
  v_tracker?: string;
}
export interface EventDetail extends EventSummary {
  record: string;
  index: number;
  cut: boolean;
  event: Record<string, unknown>;
}
export interface BadSummary { id: string; time: string; schema: string; message: string; event_index: number }
export interface BadDetail extends BadSummary {
  record: string;
  schema_uri: string;
  failure: unknown;
  request?: Record<string, string>;
  payload_bytes: number;
  payload_text?: string;
  payload_base64: string;
  cut: boolean;
}
export interface Coverage {
  page_views: number;
  interactions: number;
  share: number;
  unmatched: { path: string; count: number }[];
  suggestion?: { pattern: string; matches: number; preview: string[] };
}
export interface Recommended { id: string; score?: number; source?: string; reasons?: string[] }
export interface Recommendation { items: Recommended[]; fallback?: boolean; lag_ms?: number }

export class Refused extends Error {
  constructor(readonly code: number, text: string) {
    super(text);
  }
}

// get asks for JSON; an answer other than those expected becomes a Refused with
// the server's own words.
export async function get<T>(path: string, accept: number[] = [200], init: RequestInit = {}): Promise<T> {
  const answer = await fetch(path, { cache: "no-store", ...init });
  const text = await answer.text();
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    body = undefined;
  }
  if (accept.includes(answer.status) && body !== undefined) return body as T;
  const said = (body as { error?: unknown } | undefined)?.error;
  throw new Refused(answer.status, typeof said === "string" ? said : "answered " + answer.status);
}

// sendTest has Furrow send itself an event through its own collector. The header
// is what no form of another site can send.
export async function sendTest(): Promise<string> {
  const answer = await get<{ event_id: string }>("/api/test-event", [202], {
    method: "POST",
    headers: { "X-Furrow-Admin": "1" },
  });
  return answer.event_id;
}

// publicBase is how a browser reaches the public listener: as configured, else
// the host of this page with that listener's port.
export function publicBase(status: Status | undefined): string {
  if (status?.public_url) return status.public_url.replace(/\/$/, "");
  const listen = status?.listen || ":8080";
  const at = listen.lastIndexOf(":");
  const host = listen.slice(0, at);
  const any = host === "" || host === "0.0.0.0" || host === "[::]";
  return "http://" + (any ? location.hostname : host) + listen.slice(at);
}
