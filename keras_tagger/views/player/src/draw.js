// Drawing of lanes on canvases: for every pixel the mean of the columns below it, from the level that is just fine
// enough. That costs pixels, not columns, so a long song is as quick as a short one.

import { clock } from "./view.js";

const scratch = document.createElement("canvas");

/** Give a canvas the pixels of its size on the screen, and return its context in CSS pixels. */
export function prepare(canvas, width, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const [w, h] = [Math.max(Math.round(width * ratio), 1), Math.max(Math.round(height * ratio), 1)];
  if (canvas.width !== w) canvas.width = w;
  if (canvas.height !== h) canvas.height = h;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** For every pixel of the width, the column of a level, or -1. */
function columnsOf(grid, view, pixels) {
  const wanted = Math.floor(Math.log2(view.span / pixels / grid.step));
  const number = Math.min(Math.max(wanted, 0), Math.floor(Math.log2(grid.columns)));
  const level = grid.level(number);
  const step = grid.step * 2 ** number;
  const index = new Int32Array(pixels);
  for (let x = 0; x < pixels; x++) {
    const seconds = view.start + ((x + 0.5) / pixels) * view.span;
    const column = Math.floor((seconds - grid.first) / step);
    index[x] = column >= 0 && column < level.columns ? column : -1;
  }
  return { codes: level.codes, columns: level.columns, index };
}

function image(width, height) {
  scratch.width = width;
  scratch.height = height;
  const context = scratch.getContext("2d");
  const data = context.createImageData(width, height);
  return { context, data, out: new Uint32Array(data.data.buffer) };
}

/** Rows of a grid as strips; `rows` are their indices and `tables` their colours. */
export function drawRows(context, grid, rows, tables, view, width, rowHeight, gap = 1) {
  const pixels = Math.max(Math.round(width), 1);
  const { codes, columns, index } = columnsOf(grid, view, pixels);
  const target = image(pixels, Math.max(rows.length, 1));
  rows.forEach((row, y) => {
    const colours = tables[y];
    for (let x = 0; x < pixels; x++) {
      if (index[x] >= 0) target.out[y * pixels + x] = colours[codes[row * columns + index[x]]];
    }
  });
  target.context.putImageData(target.data, 0, 0);
  context.imageSmoothingEnabled = false;
  rows.forEach((_, y) => context.drawImage(scratch, 0, y, pixels, 1, 0, y * rowHeight, width, rowHeight - gap));
}

/** One row of a grid over frequency as a picture, low frequencies at the bottom. */
export function drawImage(context, grid, row, colours, view, width, height, opacity = 1) {
  const pixels = Math.max(Math.round(width), 1);
  const { codes, columns, index } = columnsOf(grid, view, pixels);
  const { depth } = grid;
  const target = image(pixels, depth);
  for (let x = 0; x < pixels; x++) {
    if (index[x] < 0) continue;
    const from = (row * columns + index[x]) * depth;
    for (let k = 0; k < depth; k++) target.out[(depth - 1 - k) * pixels + x] = colours[codes[from + k]];
  }
  target.context.putImageData(target.data, 0, 0);
  context.imageSmoothingEnabled = false;
  context.globalAlpha = opacity;
  context.drawImage(scratch, 0, 0, width, height);
  context.globalAlpha = 1;
}

/** Peaks of the waveform; `strong(seconds)` says what is in the strong colour. */
export function drawPeaks(context, peaks, view, width, height, colours, strong = () => true) {
  const middle = height / 2;
  const most = Math.max(peaks.most, 1);
  for (let x = 0; x < width; x++) {
    const from = Math.floor((view.start + (x / width) * view.span) / peaks.seconds);
    const to = Math.max(Math.ceil((view.start + ((x + 1) / width) * view.span) / peaks.seconds), from + 1);
    let [low, high] = [127, -127];
    for (let i = from; i < Math.min(to, peaks.low.length); i++) {
      if (peaks.low[i] < low) low = peaks.low[i];
      if (peaks.high[i] > high) high = peaks.high[i];
    }
    if (low > high) continue;
    context.fillStyle = strong(view.seconds_at(x + 0.5, width)) ? colours.wave : colours.waveMuted;
    const top = middle - (high / most) * (middle - 1);
    context.fillRect(x, top, 1, Math.max(middle - (low / most) * (middle - 1) - top, 1));
  }
}

/** Ticks and numbers in seconds; the segments of a loop below them. */
export function drawRuler(context, view, width, height, colours, segments) {
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "top";
  const { places, digits } = view.ticks(width);
  for (const seconds of places) {
    const x = Math.round(view.x(seconds, width)) + 0.5;
    context.strokeStyle = colours.line;
    context.beginPath();
    context.moveTo(x, height - 6);
    context.lineTo(x, height);
    context.stroke();
    const text = clock(seconds, digits);
    const wide = context.measureText(text).width;
    context.fillStyle = colours.muted;
    context.fillText(text, Math.min(Math.max(x - wide / 2, 0), width - wide), 3);
  }
  context.fillStyle = colours.accent;
  for (const [start, end] of segments) {
    const x = view.x(start, width);
    context.fillRect(x, height - 4, Math.max(view.x(end, width) - x, 2), 4);
  }
}

/** A scale of colours from left to right, with a mark. */
export function drawLegend(canvas, colours, mark, ink) {
  const [width, height] = [96, 10];
  const context = prepare(canvas, width, height);
  const target = image(256, 1);
  target.out.set(colours);
  target.context.putImageData(target.data, 0, 0);
  context.drawImage(scratch, 0, 0, width, height);
  if (mark === null) return;
  context.fillStyle = ink;
  context.fillRect(mark * width - 0.75, 0, 1.5, height);
}
