// The scores of a few tags over the steps of training: a line per tag, whole for A and dashed for B.

import { h, svg } from "./dom.js";

const HEIGHT = 168;
const MARGIN = { left: 38, right: 12, top: 8, bottom: 22 };
// Wong's colours (Nature Methods 8, 2011), which can be told apart with any colour vision; [light, dark].
const COLOURS = [
  ["#0072b2", "#56b4e9"],
  ["#d55e00", "#e69f00"],
  ["#009e73", "#2ecc9b"],
  ["#a8467f", "#e79cc6"],
  ["#8a6d00", "#f0e442"],
  ["#555555", "#bbbbbb"],
];
export const MOST_TAGS = COLOURS.length;

export class Chart {
  /** `choose(step)` is called when a step is clicked. */
  constructor(choose) {
    this._choose = choose;
    this._sides = [];
    this._tags = [];
    this._dark = false;
    this._svg = svg("svg", { role: "img", height: HEIGHT, onclick: (event) => this._click(event) });
    this._svg.addEventListener("pointermove", (event) => this._say(this._stepAt(event)));
    this._svg.addEventListener("pointerleave", () => this._say(null));
    this._readout = h("p", { class: "readout" });
    this.element = h("div", { class: "chart" }, this._svg, this._readout);
    new ResizeObserver(() => this._draw()).observe(this.element);
  }

  colour(tag) {
    return COLOURS[this._tags.indexOf(tag) % COLOURS.length][this._dark ? 1 : 0];
  }

  /** `sides`: for A and B the `scores` {tags, steps, scores} and the `step` shown; `tags`: which lines. */
  set(sides, tags, dark) {
    Object.assign(this, { _sides: sides.filter((side) => side.scores), _tags: tags, _dark: dark });
    this._draw();
    this._say(null);
  }

  _draw() {
    const width = this.element.clientWidth;
    if (!width || !this._sides.length) return this._svg.replaceChildren();
    const steps = this._sides.flatMap(({ scores }) => scores.steps);
    const [low, high] = [Math.min(...steps), Math.max(...steps)];
    const right = width - MARGIN.right;
    const bottom = HEIGHT - MARGIN.bottom;
    this._x = (step) => MARGIN.left + (high > low ? (step - low) / (high - low) : 0.5) * (right - MARGIN.left);
    this._low = low;
    this._high = high;
    const y = (score) => bottom - Math.min(Math.max(score, 0), 1) * (bottom - MARGIN.top);
    const parts = [];
    for (const mark of [0, 0.25, 0.5, 0.75, 1]) {
      parts.push(svg("line", { class: "grid", x1: MARGIN.left, x2: right, y1: y(mark), y2: y(mark) }));
      parts.push(svg("text", { x: MARGIN.left - 6, y: y(mark) + 4, "text-anchor": "end" }, String(mark)));
    }
    for (const mark of ticks(low, high, Math.max(2, Math.floor(width / 110)))) {
      const anchor = high === low ? "middle" : mark === low ? "start" : mark === high ? "end" : "middle";
      parts.push(svg("text", { x: this._x(mark), y: HEIGHT - 5, "text-anchor": anchor }, mark.toLocaleString("en")));
    }
    this._sides.forEach(({ step, name }) => {
      if (step === null) return;
      const x = this._x(step);
      parts.push(svg("line", { class: `at side-${name}`, x1: x, x2: x, y1: MARGIN.top, y2: bottom }));
    });
    for (const { scores, step, name } of this._sides) {
      for (const tag of this._tags) {
        const column = scores.tags.indexOf(tag);
        if (column < 0) continue;
        const points = scores.steps.map((at, i) => [at, scores.scores[i][column]]).filter(([, one]) => Number.isFinite(one));
        const colour = this.colour(tag);
        const line = points.map(([at, one]) => `${this._x(at).toFixed(1)},${y(one).toFixed(1)}`).join(" ");
        parts.push(svg("polyline", { points: line, stroke: colour, class: `line side-${name}` }));
        const here = points.find(([at]) => at === step);
        if (here) parts.push(svg("circle", { cx: this._x(here[0]), cy: y(here[1]), r: 3.5, fill: colour }));
      }
    }
    this._svg.setAttribute("width", width);
    this._svg.setAttribute("aria-label", `Scores of ${this._tags.join(", ")} over the steps ${low} to ${high}`);
    this._svg.replaceChildren(...parts);
  }

  _stepAt(event) {
    if (!this._sides.length || !this._x) return null;
    const x = event.clientX - this._svg.getBoundingClientRect().left;
    const steps = this._sides[0].scores.steps;
    return steps.reduce((best, step) => (Math.abs(this._x(step) - x) < Math.abs(this._x(best) - x) ? step : best));
  }

  _click(event) {
    const step = this._stepAt(event);
    if (step !== null) this._choose(step);
  }

  _say(step) {
    const texts = this._sides.map(({ scores, name, step: shown }) => {
      const at = step ?? shown;
      const row = scores.scores[scores.steps.indexOf(at)];
      if (!row) return "";
      const found = this._tags.map((tag) => [tag, row[scores.tags.indexOf(tag)]]).filter(([, one]) => Number.isFinite(one));
      const list = found.map(([tag, one]) => `${tag} ${one.toFixed(2)}`).join(", ");
      return `${this._sides.length > 1 ? `${name}: ` : ""}step ${at.toLocaleString("en")}: ${list}`;
    });
    this._readout.textContent = texts.filter(Boolean).join("  ·  ");
  }
}

/** At most `most` whole numbers from `low` to `high`, both included. */
function ticks(low, high, most) {
  if (low === high) return [low];
  const count = Math.min(most, high - low + 1);
  return [...new Set(Array.from({ length: count }, (_, i) => Math.round(low + ((high - low) * i) / (count - 1))))];
}
