// Sound: one decoded clip, played through one gain. Only one Sound of a page plays at a time.
//
// A decoded buffer, not an audio element: its place is exact, so a gain that follows a map stays in step with it.

import { bytes } from "./arrays.js";

const RAMP_SECONDS = 0.008;
let context = null;
let playing = null;

function audioContext() {
  context ??= new AudioContext();
  return context;
}

async function read(url) {
  if (url.startsWith("data:")) return bytes(url.slice(url.indexOf(",") + 1)).buffer;
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}

export class Sound {
  constructor(url, seconds, changed) {
    this.url = url;
    this.seconds = seconds;
    this.segments = []; // what to play in turn; empty for all
    this._changed = changed;
    this._buffers = new Map();
    this._track = url;
    this._envelope = null;
    this._offset = 0;
    this._source = null;
    this._ticket = 0;
  }

  get playing() {
    return this._source !== null;
  }

  /** What is heard now, in seconds. */
  get time() {
    if (!this._source) return this._offset;
    const latency = context.outputLatency || context.baseLatency || 0;
    const elapsed = context.currentTime - this._started - latency;
    return Math.min(this._offset + Math.max(elapsed, 0), this.seconds);
  }

  async play() {
    if (this.playing) return;
    const ticket = ++this._ticket;
    const track = this._track;
    const buffer = await this._decoded(track);
    const { state } = audioContext();
    if (state !== "running") await context.resume();
    // Meanwhile the user may have paused, or chosen another track.
    if (ticket !== this._ticket || this.playing) return;
    if (track !== this._track) return this.play();
    if (playing && playing !== this) playing.pause();
    playing = this;
    if (this._offset >= this.seconds - 0.02) this._offset = 0;
    this._start(buffer);
    this._changed();
  }

  pause() {
    this._ticket++;
    if (!this.playing) return;
    this._offset = this.time;
    this._stop();
    this._changed();
  }

  seek(seconds) {
    const wasPlaying = this.playing;
    if (wasPlaying) this._stop();
    this._offset = Math.min(Math.max(seconds, 0), this.seconds);
    if (wasPlaying) this._start(this._buffer);
  }

  /** Choose the audio: the clip, or another URL of the same length; keeps the place. */
  async useTrack(url = this.url) {
    if (url === this._track) return;
    this._track = url;
    if (!this.playing) return;
    const buffer = await this._decoded(url);
    if (this._track !== url || !this.playing) return;
    this._offset = this.time;
    this._stop();
    this._start(buffer);
  }

  /** Let only some stretches be heard: a list of {start, end}, or null for everything. */
  useEnvelope(kept, inverted = false) {
    this._envelope = kept && { kept, inverted };
    if (this.playing) this._schedule();
  }

  useSegments(segments) {
    this.segments = segments;
    if (segments.length) this.seek(segments[0][0]);
    else if (this.playing) this._watch();
  }

  destroy() {
    this.pause();
    if (playing === this) playing = null;
    this._buffers.clear();
  }

  gainAt(seconds) {
    if (!this._envelope) return 1;
    const { kept, inverted } = this._envelope;
    return kept.some(({ start, end }) => seconds >= start && seconds < end) !== inverted ? 1 : 0;
  }

  async _decoded(url) {
    if (!this._buffers.has(url)) {
      // Decoding at a low rate keeps a long song small; the context resamples while it plays.
      const decoder = new OfflineAudioContext(1, 1, 24000);
      this._buffers.set(url, await decoder.decodeAudioData(await read(url)));
    }
    return this._buffers.get(url);
  }

  _start(buffer) {
    this._buffer = buffer;
    const source = context.createBufferSource();
    source.buffer = buffer;
    this._gain = context.createGain();
    source.connect(this._gain).connect(context.destination);
    source.onended = () => {
      if (this._source !== source) return;
      this._stop();
      this._offset = this.seconds;
      this._changed();
    };
    this._started = context.currentTime;
    source.start(this._started, this._offset);
    this._source = source;
    this._schedule();
    this._watch();
  }

  _stop() {
    clearTimeout(this._timer);
    const source = this._source;
    this._source = null;
    source.onended = null;
    source.stop();
    source.disconnect();
    this._gain.disconnect();
  }

  /** Schedule the gain for the rest of the clip, in the clock of the context. */
  _schedule() {
    const { gain } = this._gain;
    const now = context.currentTime;
    const place = this._offset + (now - this._started);
    gain.cancelScheduledValues(0);
    gain.setValueAtTime(this.gainAt(place), now);
    if (!this._envelope) return;
    const { kept, inverted } = this._envelope;
    for (const { start, end } of kept) {
      for (const [border, level] of [[start, 1], [end, 0]]) {
        const when = now + border - place;
        if (when <= now + RAMP_SECONDS) continue;
        gain.setValueAtTime(inverted ? level : 1 - level, when - RAMP_SECONDS / 2);
        gain.linearRampToValueAtTime(inverted ? 1 - level : level, when + RAMP_SECONDS / 2);
      }
    }
  }

  /** At the end of a segment, go on with the next one. */
  _watch() {
    clearTimeout(this._timer);
    if (!this.segments.length) return;
    const time = this.time;
    const index = this.segments.findIndex(([start, end]) => time >= start - 0.05 && time < end - 0.01);
    if (index < 0) {
      const next = this.segments.find(([start]) => start > time) ?? this.segments[0];
      this._timer = setTimeout(() => this.seek(next[0]), 0);
      return;
    }
    const next = this.segments[(index + 1) % this.segments.length];
    const wait = (this.segments[index][1] - time) * 1000;
    this._timer = setTimeout(() => this.seek(next[0]), Math.max(wait, 20));
  }
}

/** A place in time without sound: of a clip without audio, or of a player that follows another one. */
export class Silence {
  constructor(seconds, clock = null) {
    this.seconds = seconds;
    this.url = null;
    this._clock = clock;
    this._time = 0;
  }
  get playing() {
    return this._clock ? this._clock.playing : false;
  }
  get time() {
    return this._clock ? Math.min(this._clock.time, this.seconds) : this._time;
  }
  async play() {
    await this._clock?.play();
  }
  pause() {
    this._clock?.pause();
  }
  seek(seconds) {
    if (this._clock) this._clock.seek(seconds);
    else this._time = Math.min(Math.max(seconds, 0), this.seconds);
  }
  useSegments() {}
  useEnvelope() {}
  async useTrack() {}
  destroy() {}
}
