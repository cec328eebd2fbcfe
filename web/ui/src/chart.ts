// The rate of the last two minutes as a small area chart.
import { svg } from "./dom";

const points = 120;
const width = 240;
const height = 56;

export class Chart {
  private readonly values: number[] = [];
  private readonly area = svg("path", { class: "area" });
  private readonly line = svg("path", { class: "line" });
  readonly node = svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", class: "chart", role: "img" },
    this.area,
    this.line,
  );

  get peak(): number {
    return Math.max(0, ...this.values);
  }

  add(value: number): void {
    this.values.push(value);
    if (this.values.length > points) this.values.shift();
    const top = Math.max(1, this.peak) * 1.12;
    const step = width / (points - 1);
    const first = width - (this.values.length - 1) * step;
    const path = this.values
      .map((v, i) => `${(first + i * step).toFixed(1)} ${(height - 1 - (v / top) * (height - 2)).toFixed(1)}`)
      .join("L");
    this.line.setAttribute("d", "M" + path);
    this.area.setAttribute("d", `M${first.toFixed(1)} ${height}L${path}L${width} ${height}Z`);
    this.node.setAttribute("aria-label", `Events per second in the last two minutes, now ${value.toFixed(1)}`);
  }
}
