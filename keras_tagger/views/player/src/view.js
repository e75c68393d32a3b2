// The visible stretch of time, shared by all lanes.

const SHORTEST_SECONDS = 0.25;

export class View {
  constructor(seconds) {
    this.seconds = seconds;
    this.start = 0;
    this.span = seconds;
  }

  get end() {
    return this.start + this.span;
  }

  set(start, span = this.span) {
    this.span = Math.min(Math.max(span, Math.min(SHORTEST_SECONDS, this.seconds)), this.seconds);
    this.start = Math.min(Math.max(start, 0), this.seconds - this.span);
  }

  /** Change the span around a place that stays where it is. */
  zoom(factor, around) {
    const share = (around - this.start) / this.span;
    const span = Math.min(Math.max(this.span * factor, Math.min(SHORTEST_SECONDS, this.seconds)), this.seconds);
    this.set(around - share * span, span);
  }

  x(seconds, width) {
    return ((seconds - this.start) / this.span) * width;
  }

  seconds_at(x, width) {
    return this.start + (x / width) * this.span;
  }

  /** Round places for ticks, about `spacing` pixels apart, and how many decimals they need. */
  ticks(width, spacing = 80) {
    const least = (this.span / width) * spacing;
    const steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
    const step = steps.find((one) => one >= least) ?? 3600;
    const places = [];
    for (let k = Math.ceil(this.start / step); k * step <= this.end + 1e-9; k++) places.push(k * step);
    return { places, step, digits: step >= 1 ? 0 : step >= 0.1 ? 1 : 2 };
  }
}

export function clock(seconds, digits = 1) {
  const scale = 10 ** digits;
  const rounded = Math.round(seconds * scale) / scale;
  const minutes = Math.floor(rounded / 60);
  const rest = (rounded - 60 * minutes).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return `${minutes}:${rest}`;
}
