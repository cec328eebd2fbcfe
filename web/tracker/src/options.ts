// SelfDescribing is a payload with the Iglu address of its schema.
export interface SelfDescribing { schema: string; data: unknown }

// ContextMaker makes entities when an event is tracked.
export type ContextMaker = (about: { eventType: string; event: Payload }) => SelfDescribing | SelfDescribing[] | undefined;

// Payload is one event of the tracker protocol; every value is a string.
export type Payload = Record<string, string>;

// Common is what every track call may carry besides its own fields.
export interface Common {
  context?: SelfDescribing[] | null;
  timestamp?: number | { type: "dtm" | "ttm"; value: number };
}

// Options of newTracker. Names and defaults are those of Snowplow's tracker, but
// for `navigation`, which is ours.
export interface Options {
  appId?: string;
  platform?: string;
  postPath?: string;
  cookieName?: string;
  cookieDomain?: string;
  cookieLifetime?: number; // seconds
  cookieSameSite?: string;
  sessionCookieTimeout?: number; // seconds
  // Without cookies the visitor lives as long as the page.
  stateStorageStrategy?: "cookieAndLocalStorage" | "cookie" | "none";
  anonymousTracking?: Anonymous;
  respectDoNotTrack?: boolean;
  connectionTimeout?: number; // milliseconds
  maxLocalStorageQueueSize?: number; // events
  contexts?: { webPage?: boolean };
  // false leaves page views of a single-page app to the page.
  navigation?: boolean;
}

export type Anonymous = boolean | { withSessionTracking?: boolean; withServerAnonymisation?: boolean };

// storage is localStorage, or nothing where the browser refuses it.
export function storage(): Storage | undefined {
  try {
    return localStorage;
  } catch {
    return undefined;
  }
}
