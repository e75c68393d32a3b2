// Arrays of the clip document, and their coarser levels for drawing.

export function bytes(base64) {
  const text = atob(base64);
  const out = new Uint8Array(text.length);
  for (let i = 0; i < out.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

/** Codes of a document's array, `rows` times `columns` times `depth`, columns over time. */
export class Grid {
  constructor(array, { rows, columns, depth = 1, step, first = 0, labels = [] }) {
    const raw = bytes(array.data);
    const codes = array.dtype === "uint16" ? new Uint16Array(raw.buffer) : raw;
    this.rows = rows;
    this.columns = columns;
    this.depth = depth;
    this.step = step;
    this.first = first;
    this.labels = labels;
    this.steps = array.dtype === "uint16" ? 65535 : 255;
    [this.low, this.high] = array.range;
    this.levels = [{ codes, columns }];
  }

  /** Every level has half the columns of the one before, each the mean of two. */
  level(number) {
    while (this.levels.length <= number) {
      const { codes, columns } = this.levels[this.levels.length - 1];
      if (columns < 2) return this.levels[this.levels.length - 1];
      const half = Math.ceil(columns / 2);
      const { rows, depth } = this;
      const out = new codes.constructor(rows * half * depth);
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < half; column++) {
          const a = (row * columns + 2 * column) * depth;
          const b = 2 * column + 1 < columns ? a + depth : a;
          const to = (row * half + column) * depth;
          for (let k = 0; k < depth; k++) out[to + k] = (codes[a + k] + codes[b + k] + 1) >> 1;
        }
      }
      this.levels.push({ codes: out, columns: half });
    }
    return this.levels[number];
  }

  column(seconds) {
    return Math.floor((seconds - this.first) / this.step);
  }

  value(row, column, k = 0) {
    if (column < 0 || column >= this.columns) return NaN;
    const code = this.levels[0].codes[(row * this.columns + column) * this.depth + k];
    return this.low + (code / this.steps) * (this.high - this.low);
  }

  /** The values of a row over time; the mean over its depth. */
  curve(row) {
    const { columns, depth } = this;
    const out = new Float32Array(columns);
    for (let column = 0; column < columns; column++) {
      let sum = 0;
      for (let k = 0; k < depth; k++) sum += this.value(row, column, k);
      out[column] = sum / depth;
    }
    return out;
  }
}

/** Stretches [start, end] in seconds in which a curve is above zero and among its highest `share`. */
export function stretches(curve, share, step, first) {
  const border = [...curve].sort((a, b) => b - a)[Math.max(Math.round(share * curve.length), 1) - 1];
  const found = [];
  for (let i = 0; i < curve.length; i++) {
    if (!(curve[i] >= border && curve[i] > 0)) continue;
    const last = found[found.length - 1];
    const [start, end] = [first + i * step, first + (i + 1) * step];
    if (last && Math.abs(last.end - start) < step / 2) {
      last.end = end;
      last.weight += curve[i];
    } else found.push({ start, end, weight: curve[i] });
  }
  return found;
}

/** Up to `most` strong moments in order of time, each at least `shortest` seconds long. */
export function strongest(curve, step, first, seconds, most = 5, shortest = 1) {
  const best = stretches(curve, 0.1, step, first)
    .sort((a, b) => b.weight - a.weight)
    .slice(0, most)
    .map(({ start, end }) => {
      const more = Math.max(shortest - (end - start), 0) / 2;
      return [Math.max(start - more, 0), Math.min(end + more, seconds)];
    })
    .sort((a, b) => a[0] - b[0]);
  const merged = [];
  for (const [start, end] of best) {
    const last = merged[merged.length - 1];
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else merged.push([start, end]);
  }
  return merged;
}
