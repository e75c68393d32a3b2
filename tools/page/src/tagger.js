// The model on a clip of any length: cut into windows and joined as `keras_tagger.audio.windows` does.

import * as ort from "onnxruntime-web/wasm";

ort.env.wasm.numThreads = 1; // more need headers that a plain server does not send
ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.wasm", document.baseURI).href };

export class Tagger {
  /** @param facts model.json @param model the bytes of model.onnx */
  static async load(facts, model) {
    const tagger = new Tagger();
    tagger.facts = facts;
    tagger.session = await ort.InferenceSession.create(model);
    return tagger;
  }

  /**
   * Tag a clip.
   * @returns {tags, contributions, attention, spectrogram}: the scores, and maps {times, values: a row per tag, head or
   * band}, times being the centres of the columns in seconds
   */
  async analyze(samples, progress) {
    const { window_samples: size, token_samples: token, sample_rate: rate, hop_length: hop, tags } = this.facts;
    const scores = new Float64Array(tags.length);
    const contributions = new Stitcher();
    const attention = new Stitcher();
    const spectrogram = new Stitcher();
    for (let begin = 0; begin < samples.length; begin += size) {
      const fresh = Math.min(size, samples.length - begin);
      const start = begin > 0 ? begin + fresh - size : 0;
      const wave = samples.slice(start, begin + fresh);
      const found = await this.session.run({ waveform: new ort.Tensor("float32", wave, [1, wave.length]) });
      let heard = false;
      for (let i = 0; i < tags.length; i++) {
        scores[i] += (found.tags.data[i] * fresh) / samples.length;
        heard ||= found.tags.data[i] > 0;
      }
      const place = { start, fresh, length: wave.length, token, rate };
      const columns = found.contributions.dims[2];
      contributions.add(place, token, columns, rowsOf(found.contributions.data, tags.length, columns, heard ? 1 : 0));
      attention.add(place, token, columns, clsRows(found.attention));
      const [, frames, bands] = found.spectrogram.dims;
      spectrogram.add(place, hop, frames, transposed(found.spectrogram.data, frames, bands));
      progress?.((begin + fresh) / samples.length);
    }
    return { tags: scores, contributions, attention, spectrogram };
  }
}

/** Joins the maps of windows, taking from each the columns that no earlier window has. */
class Stitcher {
  times = [];
  values = []; // a row each

  add({ start, fresh, length, token, rate }, step, columns, rows) {
    const end = Math.max(Math.ceil(length / token), 1) * token;
    for (let column = 0; column < columns; column++) {
      const centre = (column + 0.5) * step;
      if (centre + step / 2 <= length - fresh + 0.5 || centre >= end - 0.5) continue;
      this.times.push((start + centre) / rate);
      rows.forEach((row, i) => (this.values[i] ??= []).push(row[column]));
    }
  }

  /** The rows on columns of equal length: each takes the value at its centre. */
  regular(step) {
    const { times } = this;
    const edges = times.map((time, i) => (i ? (times[i - 1] + time) / 2 : time - step / 2));
    edges.push(times[times.length - 1] + step / 2);
    const count = Math.max(Math.ceil((edges[edges.length - 1] - edges[0]) / step - 0.01), 1);
    const from = [];
    for (let i = 0, at = 0; i < count; i++) {
      while (at < times.length - 1 && edges[at + 1] <= edges[0] + (i + 0.5) * step) at++;
      from.push(at);
    }
    return this.values.map((row) => from.map((at) => row[at]));
  }
}

function rowsOf(data, rows, columns, factor) {
  return Array.from({ length: rows }, (_, row) => data.slice(row * columns, (row + 1) * columns).map((x) => x * factor));
}

function transposed(data, frames, bands) {
  return Array.from({ length: bands }, (_, band) => Array.from({ length: frames }, (_, i) => data[i * bands + band]));
}

/** The rows of [CLS] without itself as a key, layer by layer and head by head. */
function clsRows({ data, dims: [, layers, heads, size] }) {
  return Array.from({ length: layers * heads }, (_, i) => data.slice(i * size * size + 1, i * size * size + size));
}
