// Colour tables. Every map is monotonic in lightness, or diverges from a neutral colour to blue and to orange, so that
// it can be read with any colour vision and in grey.

const VIRIDIS = "440154 482475 414487 355f8d 2a788e 21918c 22a884 44bf70 7ad151 bddf26 fde725";
const MAGMA = "000004 140e36 3b0f70 641a80 8c2981 b73779 de4968 f7705c fe9f6d fecf92 fcfdbf";
const MAPS = {
  dark: {
    sequential: VIRIDIS,
    spectrum: MAGMA,
    grey: "0c0f13 1a1f25 2b3139 444b55 5f6873 7d8793",
    diverging: "8ecbff 4f9fe6 2c6bab 23394f 262a30 4d3a22 a3671b e8963a ffd08a",
  },
  light: {
    sequential: "f1f4f6 c5e4da 8ccdbc 4fb0a5 268f92 25708c 2f4f82 371d5c",
    spectrum: "ffffff eceef2 d0d5dd a7afbd 77819a 4a5178 2b2456 150a2e",
    grey: "ffffff f1f2f4 e0e3e7 c9ced5 aeb5be 8e97a2",
    diverging: "08306b 1c62ab 5b9bd5 b3d0ec eef0f2 f6d5ab e69a45 b8650b 6b3600",
  },
};
const NEGATIVE = { dark: [79, 159, 230], light: [28, 98, 171] };
const POSITIVE = { dark: [255, 176, 80], light: [190, 90, 0] };

const pack = (r, g, b, a = 255) => ((a << 24) | (b << 16) | (g << 8) | r) >>> 0;

function stops(text) {
  return text.split(" ").map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
}

const ramps = new Map();

/** 256 packed colours of a map. */
export function ramp(theme, name) {
  const key = `${theme} ${name}`;
  if (!ramps.has(key)) {
    const colours = stops(MAPS[theme][name]);
    const out = new Uint32Array(256);
    for (let i = 0; i < 256; i++) {
      const place = (i / 255) * (colours.length - 1);
      const at = Math.min(Math.floor(place), colours.length - 2);
      const mix = colours[at].map((c, k) => Math.round(c + (place - at) * (colours[at + 1][k] - c)));
      out[i] = pack(...mix);
    }
    ramps.set(key, out);
  }
  return ramps.get(key);
}

/** Packed colours for an overlay: transparent at zero. */
export function overlayRamp(theme, signed) {
  const out = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    const t = signed ? (i / 255) * 2 - 1 : i / 255;
    const colour = t < 0 ? NEGATIVE[theme] : POSITIVE[theme];
    out[i] = pack(...colour, Math.round(255 * Math.min(Math.abs(t), 1) ** 0.6));
  }
  return out;
}

/** A colour for every code of a grid; `place` maps a value to 0..1 of the ramp. */
export function table(grid, colours, place) {
  const out = new Uint32Array(grid.steps + 1);
  for (let code = 0; code <= grid.steps; code++) {
    const t = place(grid.low + (code / grid.steps) * (grid.high - grid.low));
    out[code] = colours[Math.round(255 * Math.min(Math.max(t, 0), 1))];
  }
  return out;
}

/** Attention relative to uniform, on a logarithmic scale from 1/bound to bound: uniform is the neutral middle. */
export const aroundUniform = (uniform, bound) => (value) =>
  0.5 + Math.log(Math.max(value, 1e-9) / uniform) / (2 * Math.log(bound));

/** A scale from `low` to `high`, symmetric about 0 if there are negative values. */
export function scale(low, high) {
  if (low < 0) {
    const end = Math.max(-low, high) || 1;
    return { place: (value) => 0.5 + value / (2 * end), low: -end, high: end, signed: true };
  }
  const end = high || 1;
  return { place: (value) => value / end, low: 0, high: end, signed: false };
}
