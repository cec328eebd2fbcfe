// Activity calls ping while the visitor does something: once after the minimum,
// then every heartbeat in which something happened.
export interface Activity {
  restart(): void;
  touch(): void;
}

export type Ping = (offsets: { pp_mix: string; pp_max: string; pp_miy: string; pp_may: string }) => void;

export function newActivity(minimum: number, heartbeat: number, ping: Ping): Activity {
  let active = 0;
  let timer = 0;
  let x: number[];
  let y: number[];
  const here = (): void => { x = [scrollX, scrollX]; y = [scrollY, scrollY]; };
  const touch = (): void => { active = Date.now(); };
  const beat = (span: number): void => {
    timer = window.setTimeout(() => {
      if (Date.now() - active < span) {
        const s = (n: number): string => `${Math.round(Math.max(0, n))}`;
        ping({ pp_mix: s(x[0]), pp_max: s(x[1]), pp_miy: s(y[0]), pp_may: s(y[1]) });
        here();
      }
      beat(heartbeat);
    }, span);
  };
  for (const name of ["mousedown", "mousemove", "wheel", "keydown", "touchstart", "touchmove", "click"]) {
    document.addEventListener(name, touch, { passive: true, capture: true });
  }
  addEventListener("scroll", () => {
    touch();
    x = [Math.min(x[0], scrollX), Math.max(x[1], scrollX)];
    y = [Math.min(y[0], scrollY), Math.max(y[1], scrollY)];
  }, { passive: true });
  here();
  return {
    touch,
    restart() {
      clearTimeout(timer);
      active = 0;
      here();
      beat(minimum || heartbeat);
    },
  };
}
