// A file as mono samples at the model's rate.

// As soxr's HQ: what is below this share of the lower rate's half stays, and nothing is left from the half on.
const PASSED = 0.913;
const REJECTION_DECIBELS = 126;

/** Decode a file and resample it to `rate`. */
export async function read(file, rate) {
  const content = await file.arrayBuffer();
  const own = rateOf(new DataView(content));
  let decoded;
  try {
    // At the file's own rate, as the browser would resample it otherwise.
    decoded = await new OfflineAudioContext(1, 1, own).decodeAudioData(content);
  } catch {
    throw new Error(`expected audio that this browser can decode. Received: ${file.name}.`);
  }
  const mono = new Float32Array(decoded.length);
  for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
    const samples = decoded.getChannelData(channel);
    for (let i = 0; i < mono.length; i++) mono[i] += samples[i] / decoded.numberOfChannels;
  }
  return resampled(mono, own, rate);
}

function textOf(view, at, length) {
  return String.fromCharCode(...new Uint8Array(view.buffer, at, Math.min(length, view.byteLength - at)));
}

/** The sample rate in the header of wav, flac, Ogg Vorbis and mp3, or else 48000, which is that of Opus. */
function rateOf(view) {
  let rate = 48000;
  if (view.byteLength < 64) return rate;
  const head = textOf(view, 0, 64);
  if (head.startsWith("RIFF")) rate = view.getUint32(head.indexOf("fmt ") + 12, true);
  else if (head.startsWith("fLaC")) rate = view.getUint32(18) >>> 12;
  else if (head.includes("\x01vorbis")) rate = view.getUint32(head.indexOf("\x01vorbis") + 12, true);
  else if (head.startsWith("ID3") || view.getUint16(0) >>> 5 === 0x7ff) {
    const size = [6, 7, 8, 9].reduce((sum, at) => sum * 128 + view.getUint8(at), 0);
    const frame = head.startsWith("ID3") ? 10 + size : 0;
    if (frame + 4 > view.byteLength) return rate;
    const bits = view.getUint32(frame);
    const base = [44100, 48000, 32000][(bits >>> 10) & 3];
    rate = base && base / [4, 1, 2, 1][(bits >>> 19) & 3];
  }
  return rate >= 8000 && rate <= 96000 ? rate : 48000;
}

/** Resample by a linear-phase low-pass filter (Kaiser's window), one set of taps for each phase. */
function resampled(samples, from, to) {
  if (from === to) return samples;
  const divisor = gcd(from, to);
  const [up, down] = [to / divisor, from / divisor];
  const lower = Math.min(1, to / from); // the lower rate's half, in halves of the old rate
  const half = Math.ceil((REJECTION_DECIBELS - 7.95) / (2.285 * Math.PI * (1 - PASSED) * lower) / 2);
  const beta = 0.1102 * (REJECTION_DECIBELS - 8.7);
  const cutoff = ((1 + PASSED) / 2) * lower;
  const phases = Array.from({ length: up }, (_, phase) => {
    const taps = new Float64Array(2 * half + 1);
    for (let i = -half; i <= half; i++) {
      const place = i - phase / up;
      const inside = Math.max(1 - (place / (half + 1)) ** 2, 0);
      const sinc = place === 0 ? cutoff : Math.sin(Math.PI * cutoff * place) / (Math.PI * place);
      taps[i + half] = (sinc * bessel(beta * Math.sqrt(inside))) / bessel(beta);
    }
    return taps;
  });
  const out = new Float32Array(Math.ceil((samples.length * up) / down));
  for (let n = 0; n < out.length; n++) {
    const taps = phases[(n * down) % up];
    const first = Math.floor((n * down) / up) - half;
    const end = Math.min(first + taps.length, samples.length);
    let sum = 0;
    for (let i = Math.max(first, 0); i < end; i++) sum += samples[i] * taps[i - first];
    out[n] = sum;
  }
  return out;
}

function gcd(a, b) {
  return b ? gcd(b, a % b) : a;
}

/** The modified Bessel function of the first kind of order 0. */
function bessel(x) {
  let sum = 1;
  let term = 1;
  for (let k = 1; term > 1e-12 * sum; k++) {
    term *= (x / 2 / k) ** 2;
    sum += term;
  }
  return sum;
}
