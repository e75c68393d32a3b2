// The lanes of maps: their rows, values and colours.

import { bytes, Grid } from "./arrays.js";
import { aroundUniform, ramp, scale, table } from "./colors.js";
import { h } from "./dom.js";
import { drawLegend, drawRows, prepare } from "./draw.js";

class Lane {
  constructor(map, grid, names) {
    this.map = map;
    this.id = map.id;
    this.kind = map.kind;
    this.method = map.method ?? map.id;
    this.about = map.about ?? "";
    this.grid = grid;
    this.names = names;
    this.shown = [];
    this.rowHeight = 20;
    this.openAtFirst = true;
  }

  order(place) {
    return this.names[this.sorted()[place]];
  }

  sorted() {
    return this.names.map((_, row) => row);
  }

  curve(row) {
    return this.grid.curve(row);
  }

  valueAt(row, seconds) {
    return this.grid.value(row, this.grid.column(seconds));
  }

  rowAt(y) {
    return this.shown[Math.floor(y * this.shown.length)] ?? null;
  }

  unit(value) {
    return format(value);
  }

  draw(view, width, theme, colours, scales, selected) {
    const height = Math.max(this.shown.length * this.rowHeight, 1);
    const context = prepare(this.canvas, width, height);
    const tables = this.tables(theme, scales, colours);
    drawRows(context, this.grid, this.shown, tables, view, width, this.rowHeight);
    const at = selected?.map === this.id ? this.shown.findIndex((row) => this.names[row] === selected.row) : -1;
    if (at >= 0) {
      context.strokeStyle = colours.accent;
      context.lineWidth = 2;
      context.strokeRect(1, at * this.rowHeight + 0.5, width - 2, this.rowHeight - 2);
    }
  }
}

class Rows extends Lane {
  constructor(map, grid, names, tags) {
    super(map, grid, names);
    const score = (row) => tags.get(names[row])?.score ?? -Infinity;
    this._sorted = names.map((_, row) => row).sort((a, b) => score(b) - score(a) || a - b);
    this._peaks = names.map((_, row) => this.curve(row).reduce((a, b) => Math.max(a, Math.abs(b)), 0));
  }

  sorted() {
    return this._sorted;
  }

  tables(theme, { ownScale }, colours) {
    const { low, high } = this.grid;
    const shared = scale(low, high);
    const colourRamp = ramp(theme, shared.signed ? "diverging" : "sequential");
    this.legend.set(
      colourRamp,
      ownScale ? (shared.signed ? "−max" : "0") : format(shared.low),
      ownScale ? "max" : format(shared.high),
      shared.signed ? 0.5 : null,
      colours.ink,
    );
    if (!ownScale) {
      const one = table(this.grid, colourRamp, shared.place);
      return this.shown.map(() => one);
    }
    return this.shown.map((row) => {
      const peak = this._peaks[row];
      return table(this.grid, colourRamp, scale(low < 0 ? -peak : 0, peak).place);
    });
  }
}

/** Attention per layer and head, on one scale for all documents: octaves around uniform. */
class Heads extends Lane {
  constructor(map, grid) {
    const { layers, heads } = map;
    const names = [];
    for (let layer = 1; layer <= layers; layer++) {
      for (let head = 1; head <= heads; head++) names.push(`layer ${layer}, head ${head}`);
    }
    for (let layer = 1; layer <= layers; layer++) names.push(heads > 1 ? `layer ${layer}, mean` : `layer ${layer}`);
    super(map, withMeans(grid, layers, heads), names);
    this.layers = layers;
    this.heads = heads;
    this.openAtFirst = true;
  }

  means() {
    return Array.from({ length: this.layers }, (_, layer) => this.layers * this.heads + layer);
  }

  everyHead() {
    return this.means().flatMap((mean, layer) => [
      mean,
      ...Array.from({ length: this.heads }, (_, head) => layer * this.heads + head),
    ]);
  }

  unit(value) {
    return `${format(value)}, ${(value / this.map.uniform).toFixed(2)} times uniform`;
  }

  tables(theme, { bound }, colours) {
    const colourRamp = ramp(theme, "diverging");
    this.legend.set(colourRamp, `1/${bound}`, `${bound} ×`, 0.5, colours.ink, `uniform ${format(this.map.uniform)}`);
    // Tens of thousands of logarithms, which only another theme or range changes.
    const key = `${theme} ${bound}`;
    if (this._key !== key) this._table = table(this.grid, colourRamp, aroundUniform(this.map.uniform, bound));
    this._key = key;
    return this.shown.map(() => this._table);
  }
}

/** Where a chosen token looks, beside the row of [CLS], layer by layer. */
class Query extends Lane {
  constructor(map, grid) {
    const names = [];
    for (let layer = 1; layer <= map.layers; layer++) names.push(`layer ${layer}, this moment`, `layer ${layer}, [CLS]`);
    super(map, null, names);
    this._source = grid;
    this._values = names.map(() => null);
    this.column = 0;
    this.step = 1;
  }

  point(column, heads) {
    const { map, _source: source } = this;
    const tokens = heads?.grid.columns ?? (source ? source.rows / map.layers : 0);
    this.column = Math.min(column, Math.max(tokens - 1, 0));
    this.uniform = map.uniform ?? heads?.map.uniform;
    this.step = heads?.grid.step ?? 1;
    this.first = heads?.grid.first ?? 0;
    const values = [];
    for (let layer = 0; layer < map.layers; layer++) {
      const row = new Float32Array(tokens).fill(NaN);
      if (this.asked) this.asked[layer].forEach((value, i) => (row[i] = value));
      else if (source) {
        const from = map.starts ? map.starts[this.column] : 0;
        const at = layer * (source.rows / map.layers) + this.column;
        for (let k = 0; k < source.columns && from + k < tokens; k++) row[from + k] = source.value(at, k);
      }
      values.push(row, heads ? heads.curve(heads.means()[layer]) : new Float32Array(tokens).fill(NaN));
    }
    this._values = values;
  }

  curve(row) {
    return Float32Array.from(this._values[row] ?? [0], (value) => value || 0);
  }

  valueAt(row, seconds) {
    return this._values[row]?.[Math.floor((seconds - this.first) / this.step)] ?? NaN;
  }

  unit(value) {
    return Number.isNaN(value) ? "outside the window" : `${format(value)}, ${(value / this.uniform).toFixed(2)} times uniform`;
  }

  draw(view, width, theme, colours, scales, selected) {
    const columns = this._values[0]?.length ?? 0;
    if (!columns) return;
    const floats = this._values;
    const place = aroundUniform(this.uniform, scales.bound);
    const colourRamp = ramp(theme, "diverging");
    const codes = new Uint8Array(floats.length * columns);
    floats.forEach((row, y) =>
      row.forEach((value, x) => {
        codes[y * columns + x] = Number.isNaN(value) ? 0 : Math.round(1 + 254 * Math.min(Math.max(place(value), 0), 1));
      }),
    );
    const grid = Object.create(Grid.prototype);
    Object.assign(grid, { rows: floats.length, columns, depth: 1, step: this.step, first: this.first, steps: 255 });
    grid.levels = [{ codes, columns }];
    this.grid = Object.assign(grid, { low: 0, high: 1 });
    const one = Uint32Array.from(colourRamp);
    one[0] = 0;
    this.tables = () => this.shown.map(() => one);
    this.legend.set(colourRamp, `1/${scales.bound}`, `${scales.bound} ×`, 0.5, colours.ink, `uniform ${format(this.uniform)}`);
    super.draw(view, width, theme, colours, scales, selected);
    // The moment that looks.
    const context = this.canvas.getContext("2d");
    const x = view.x(this.first + (this.column + 0.5) * this.step, width);
    context.fillStyle = colours.ink;
    context.beginPath();
    context.moveTo(x - 5, 0);
    context.lineTo(x + 5, 0);
    context.lineTo(x, 7);
    context.fill();
  }
}

export function makeLanes(clip, tags) {
  const lanes = [];
  for (const map of clip.maps ?? []) {
    const [step, first] = [map.seconds ?? clip.token_seconds, map.first ?? clip.first_seconds ?? 0];
    const { values } = map;
    if (map.kind === "query") {
      const [layers, tokens, keys] = values?.shape ?? [map.layers, 0, 0];
      const grid = values && new Grid(values, { rows: layers * tokens, columns: keys, step, first });
      lanes.push(new Query(map, grid));
    } else if (map.kind === "heads") {
      const [rows, columns] = values.shape;
      lanes.push(new Heads(map, new Grid(values, { rows, columns, step, first })));
    } else if (map.kind === "image") {
      const [rows, columns, depth] = values.shape;
      lanes.push(new Rows(map, new Grid(values, { rows, columns, depth, step, first }), map.rows, tags));
    } else if (map.kind === "rows") {
      const [rows, columns] = values.shape;
      lanes.push(new Rows(map, new Grid(values, { rows, columns, step, first }), map.rows, tags));
    }
  }
  return lanes;
}

function withMeans(grid, layers, heads) {
  const { columns } = grid;
  const { codes } = grid.levels[0];
  const out = new codes.constructor((grid.rows + layers) * columns);
  out.set(codes);
  for (let layer = 0; layer < layers; layer++) {
    for (let column = 0; column < columns; column++) {
      let sum = 0;
      for (let head = 0; head < heads; head++) sum += codes[(layer * heads + head) * columns + column];
      out[(grid.rows + layer) * columns + column] = Math.round(sum / heads);
    }
  }
  grid.rows += layers;
  grid.levels = [{ codes: out, columns }];
  return grid;
}

export function spectrumGrid({ values, seconds }) {
  const [columns, depth] = values.shape;
  return new Grid(values, { rows: 1, columns, depth, step: seconds });
}

export function readPeaks(peaks) {
  const [low, high] = [peaks.low, peaks.high].map((text) => new Int8Array(bytes(text).buffer));
  let most = 1;
  for (let i = 0; i < low.length; i++) most = Math.max(most, high[i], -low[i]);
  return { seconds: peaks.seconds, low, high, most };
}

export function bandOf(hz, wanted) {
  const last = hz.length - 1;
  // Half a band is missing above the last centre.
  if (wanted < hz[0] || wanted > hz[last] + 1.5 * (hz[last] - hz[last - 1])) return null;
  if (wanted > hz[last]) return last;
  const above = hz.findIndex((one) => one >= wanted);
  return above === 0 ? 0 : above - 1 + (wanted - hz[above - 1]) / (hz[above] - hz[above - 1]);
}

export function legend() {
  const canvas = h("canvas", { "aria-hidden": "true" });
  const [low, high, note] = [h("span"), h("span"), h("span", { class: "note" })];
  const element = h("span", { class: "legend" }, low, canvas, high, note);
  let shown = [];
  return {
    element,
    set(colours, from, to, mark, ink, text = "") {
      const wanted = [colours, from, to, mark, ink, text];
      if (wanted.every((one, i) => one === shown[i])) return;
      shown = wanted;
      drawLegend(canvas, colours, mark, ink);
      low.textContent = from;
      high.textContent = to;
      note.textContent = text;
    },
  };
}

export function format(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size && size < 0.001) return value.toExponential(1).replaceAll("-", "−");
  return String(Number(value.toPrecision(size >= 100 ? 3 : 2))).replace("-", "−");
}
