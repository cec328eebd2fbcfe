// One watcher for the page: whoever registers hears once of each change of path
// or query, after the task that made it, so that a router's push-then-replace
// counts as one navigation.
//
// A listener is called with `true` while the page that is being left still has its
// title, and without once the new place is certain.
type Listener = (leaving?: boolean) => void;

let listeners: Listener[] | undefined;

export const place = (): string => location.pathname + location.search;

// changed tells the listeners of a navigation that no one has looked at yet. A
// track call asks too, so that its event lands on the new page view.
let last = "";
export function changed(): void {
  if (!listeners || place() === last) return;
  last = place();
  listeners.forEach((f) => f());
}

export function watch(f: Listener): void {
  if (!listeners) {
    listeners = [];
    last = place();
    const soon = (): void => {
      if (place() !== last) listeners!.forEach((g) => g(true));
      setTimeout(changed);
    };
    for (const name of ["pushState", "replaceState"] as const) {
      const original = history[name];
      history[name] = function (this: History, ...args: Parameters<History["pushState"]>) {
        original.apply(this, args);
        soon();
      };
    }
    addEventListener("popstate", soon);
  }
  listeners.push(f);
}
