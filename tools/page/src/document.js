// The clip document of the player (docs/player.md), from what the model says.

const PEAK_SECONDS = 0.01;

/** Describe a clip for the player. */
export function clipDocument(name, samples, url, type, facts, found) {
  const { sample_rate: rate, hop_length: hop, token_samples: token, tags, layers, hz } = facts;
  const step = token / rate;
  const attention = found.attention.regular(step);
  const present = presentOf(tags, found.tags);
  const silent = found.tags.every((score) => score === 0);
  return {
    version: 1,
    name,
    seconds: samples.length / rate,
    model: { name: facts.name, settings: `${facts.precision}, ONNX Runtime in this browser` },
    audio: { url, type },
    peaks: peaks(samples, rate),
    token_seconds: step,
    first_seconds: 0,
    tags: tags.map(({ name: tag, threshold, heard }, i) => {
      const score = found.tags[i];
      return { name: tag, score, threshold, heard, present: present[i] && !silent };
    }),
    spectrogram: {
      values: encode(columnsOf(found.spectrogram.regular(hop / rate)), quantileOf(found.spectrogram.values.flat(), 0.01)),
      hz,
      seconds: hop / rate,
    },
    maps: [
      {
        id: "contributions",
        kind: "rows",
        method: "contributions",
        about: "Each tag's probability if the last layer attended to that moment only.",
        rows: tags.map((tag) => tag.name),
        values: encode(found.contributions.regular(step), 0),
      },
      {
        id: "attention",
        kind: "heads",
        method: "attention of [CLS]",
        about: "How much [CLS], from which the tags are read, attends to each moment; uniform means to all alike.",
        layers,
        heads: attention.length / layers,
        uniform: 1 / (Math.min(Math.ceil(samples.length / token), facts.window_samples / token) + 1),
        values: encode(attention, 0, 65535),
      },
    ],
    warnings: silent ? ["The clip is silent."] : [],
  };
}

/**
 * Which tags are present, as `keras_tagger.tags.judged` has it: their scores reach their thresholds, and voices and
 * "no vocals" are never both present: the family with the larger margin stays.
 */
function presentOf(tags, scores) {
  const present = tags.map(({ threshold }, i) => scores[i] >= threshold);
  const families = ["voices", "no voices"].map((name) => tags.map(({ family }) => family === name));
  if (!families.every((family) => present.some((yes, i) => yes && family[i]))) return present;
  const margins = tags.map(({ threshold, heard }, i) => (heard ? logit(scores[i]) - logit(threshold) : -Infinity));
  const best = families.map((family) => Math.max(...margins.map((margin, i) => (family[i] ? margin : -Infinity))));
  const weaker = families[best[0] >= best[1] ? 1 : 0];
  return present.map((yes, i) => yes && !weaker[i]);
}

function logit(probability) {
  const inside = Math.min(Math.max(probability, 1e-6), 1 - 1e-6);
  return Math.log(inside / (1 - inside));
}

/** Encode rows of numbers as little-endian integers with their range. */
function encode(rows, low, steps = 255) {
  const columns = rows[0].length;
  const out = steps > 255 ? new Uint16Array(rows.length * columns) : new Uint8Array(rows.length * columns);
  let high = low;
  for (const row of rows) for (const value of row) high = Math.max(high, value);
  const scale = steps / (high - low || 1);
  rows.forEach((row, i) => {
    row.forEach((value, j) => (out[i * columns + j] = Math.round(Math.min(Math.max((value - low) * scale, 0), steps))));
  });
  const dtype = steps > 255 ? "uint16" : "uint8";
  return { shape: [rows.length, columns], dtype, range: [low, high], data: base64(out) };
}

function peaks(samples, rate) {
  const size = Math.max(Math.round(PEAK_SECONDS * rate), 1);
  const count = Math.ceil(samples.length / size);
  const [low, high] = [new Int8Array(count), new Int8Array(count)];
  for (let i = 0; i < count; i++) {
    const block = samples.subarray(i * size, (i + 1) * size);
    let [least, most] = [1, -1];
    for (const value of block) {
      least = Math.min(least, value);
      most = Math.max(most, value);
    }
    if (block.length < size) [least, most] = [Math.min(least, 0), Math.max(most, 0)];
    [low[i], high[i]] = [Math.round(Math.max(least, -1) * 127), Math.round(Math.min(most, 1) * 127)];
  }
  return { seconds: size / rate, low: base64(low), high: base64(high) };
}

function columnsOf(rows) {
  return rows[0].map((_, column) => rows.map((row) => row[column]));
}

function quantileOf(values, share) {
  const sorted = Float32Array.from(values).sort();
  return sorted[Math.floor(share * (sorted.length - 1))];
}

function base64(array) {
  const raw = new Uint8Array(array.buffer);
  let text = "";
  for (let i = 0; i < raw.length; i += 32768) text += String.fromCharCode(...raw.subarray(i, i + 32768));
  return btoa(text);
}
