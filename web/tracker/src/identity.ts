import { sha1, uuid } from "./digest";
import { Options } from "./options";

// The fields of the id cookie, in the order in which dots join them.
const enum F { User, Created, Visits, Now, LastVisit, Session, Previous, FirstEvent, FirstTime, Index }

// Identity is who the visitor is and which visit this is. It reads and writes the
// two cookies of Snowplow's tracker, so that both trackers see one visitor.
export interface Identity {
  // touch applies the session rule and returns the id cookie's fields; with an
  // event id it counts that event too.
  touch(eventId?: string): string[];
  // forget deletes both cookies; the next event is a new visitor's.
  forget(): void;
  // keep says whether anything may be stored.
  keep(on: boolean): void;
}

const readCookie = (name: string): string | undefined => (`; ${document.cookie}`.split(`; ${name}=`)[1] || "").split(";")[0];

export function newIdentity(o: Options): Identity {
  const idle = o.sessionCookieTimeout || 1800;
  // Every strategy but the cookie ones lives in memory.
  const may = /^cookie/.test(o.stateStorageStrategy || "cookie");
  const host = location.hostname;
  let site = o.cookieDomain;
  let stored = may;
  let fields: string[] = [];
  let seen = 0; // when the last event was, for a visitor without cookies

  const write = (name: string, value: string, age: number): void => {
    document.cookie = `${name}=${value};path=/;max-age=${age}${site ? `;domain=${site}` : ""};samesite=${o.cookieSameSite || "Lax"}${location.protocol === "https:" ? ";secure" : ""}`;
  };

  // The shortest suffix of the host name on which a cookie sticks is the site.
  if (!site && may) {
    const labels = host.split(".");
    for (let n = 2, found = false; n <= labels.length && !found; n++) {
      site = labels.slice(-n).join(".");
      write("_sp_test", "1", 9);
      found = !!readCookie("_sp_test");
      write("_sp_test", "", 0);
      if (!found) site = "";
    }
  }
  const name = (kind: string): string => `${o.cookieName || "_sp_"}${kind}.${sha1(`${site || host}/`).slice(0, 4)}`;
  const id = name("id");
  const ses = name("ses");

  return {
    touch(eventId) {
      const now = Date.now();
      const s = `${Math.round(now / 1000)}`;
      const text = stored && readCookie(id);
      const f = fields = text ? text.split(".") : fields.length ? fields : [uuid(), s, "0"];
      while (f.length < 10) f.push("");
      if (!f[F.Session] || !((stored && readCookie(ses)) || now - seen < idle * 1000)) {
        f[F.Previous] = f[F.Session];
        f[F.LastVisit] = f[F.Now];
        f[F.Visits] = `${+f[F.Visits] + 1}`;
        f[F.Session] = uuid();
        f[F.FirstEvent] = f[F.FirstTime] = f[F.Index] = "";
      }
      f[F.User] = f[F.User] || uuid();
      f[F.Now] = s;
      if (eventId && !+f[F.Index]) {
        f[F.FirstEvent] = eventId;
        f[F.FirstTime] = `${now}`;
      }
      f[F.Index] = `${+f[F.Index] + (eventId ? 1 : 0)}`;
      seen = now;
      if (stored) {
        write(id, f.join("."), o.cookieLifetime || 63072000);
        write(ses, "*", idle);
      }
      return f;
    },
    forget() {
      write(id, "", 0);
      write(ses, "", 0);
      fields = [];
      seen = 0;
    },
    keep(on) {
      if (!on) this.forget();
      stored = on && may;
    },
  };
}
