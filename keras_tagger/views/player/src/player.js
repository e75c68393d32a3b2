// The player: lanes on one time axis, a playhead that follows the sound, and the keyboard.

import { stretches, strongest } from "./arrays.js";
import { Silence, Sound } from "./audio.js";
import { overlayRamp, ramp, scale, table } from "./colors.js";
import { h, icon, ICONS } from "./dom.js";
import { drawImage, drawPeaks, drawRuler, prepare } from "./draw.js";
import { bandOf, format, legend, makeLanes, readPeaks, spectrumGrid } from "./lanes.js";
import css from "./style.css";
import { clock, View } from "./view.js";

const SHORT_LIST = 10;
const BOUNDS = [8, 2, 1.1];
const SOLOS = [
  ["clip", "Clip", "the clip as it is"],
  ["kept", "Kept", "only what the selected row marks most"],
  ["removed", "Removed", "the clip without what the selected row marks most"],
];
// Labels of the frequency axis, the most wanted first; one that would touch another is left out.
const MARKS_HZ = [1000, 4000, 2000, 500, 8000, 200, 100, 50, 16000];
const LABEL_PIXELS = 13;
const HEIGHTS = { overview: 26, ruler: 24, waveform: 64, spectrogram: 160 };
const KEYS = [
  ["Space", "play or pause"],
  ["← →", "one second back or on; with Shift five, with Alt one column"],
  ["Home End", "the beginning, the end"],
  ["↑ ↓", "the row above or below"],
  ["Enter or l", "loop the strongest moments of the row, or stop that"],
  ["s", "solo: the clip, what the row keeps, what it removes"],
  ["q", "where the moment at the playhead looks"],
  ["+ −", "zoom in or out at the playhead; 0 shows all"],
  ["/", "search tags and methods"],
  ["t", "light, dark, or as the system"],
  ["Esc", "stop the loop and the solo, leave the search"],
  ["?", "this list"],
];

let sheet = null;
let numbers = 0;

/**
 * Show a clip document in an element.
 * @returns {Player}
 */
export function mount(element, clip, options = {}) {
  return new Player(element, clip, options);
}

class Player {
  constructor(element, clip, options) {
    this.options = options;
    this._callbacks = { time: [], select: [], query: [] };
    this._theme = "auto";
    this._solo = "clip";
    this._share = 0.25;
    this._opacity = 0.75;
    this._ownScale = false;
    this._bounds = new Map();
    this._search = "";
    this._open = new Map((options.lanes ?? []).map((id) => [id, true]));
    this._full = new Set();
    this._selected = null; // {map, row}: an id and a name, so that they outlive an update
    this._overlay = null; // {map, row}
    this._query = { on: false, column: null, rows: null };
    this._loop = null;
    this._hover = null;
    this._number = ++numbers;

    this._host = element;
    const root = element.shadowRoot ?? element.attachShadow({ mode: "open" });
    root.replaceChildren();
    if (!sheet) {
      sheet = new CSSStyleSheet();
      sheet.replaceSync(css);
    }
    root.adoptedStyleSheets = [sheet];
    this._root = root;
    this._dark = matchMedia("(prefers-color-scheme: dark)");
    this._retheme = () => this._redraw();
    this._dark.addEventListener("change", this._retheme);
    this._resize = new ResizeObserver(() => this._redraw());
    this._build(clip);
    this._resize.observe(this._section);
  }

  // ---- what others call

  get time() {
    return this._sound.time;
  }

  get playing() {
    return this._sound.playing;
  }

  /** How many seconds are visible. */
  get span() {
    return this._view.span;
  }

  async play() {
    try {
      await this._sound.play();
    } catch (error) {
      this._say(`The audio cannot be played: ${error.message}`);
    }
    this._tick();
  }

  pause() {
    this._sound.pause();
    this._tick();
  }

  seek(seconds) {
    this._sound.seek(seconds);
    this._reveal();
    this._tick();
  }

  on(name, callback) {
    this._callbacks[name].push(callback);
    return this;
  }

  /** Show another document of the clip; the place, the zoom and the choices stay. */
  update(clip) {
    const { time, playing, _sound: sound, _view: view } = this;
    const focused = this._root.activeElement?.dataset?.row;
    this._build(clip, view);
    if (this._sound !== sound) {
      this._sound.seek(time);
      if (playing) this.play();
    }
    if (focused) (this._options().find((one) => one.dataset.row === focused) ?? this._slider).focus();
  }

  destroy() {
    cancelAnimationFrame(this._frame);
    cancelAnimationFrame(this._drawing);
    this._sound.destroy();
    this._resize.disconnect();
    this._dark.removeEventListener("change", this._retheme);
    this._root.replaceChildren();
  }

  // ---- the document

  _build(clip, view = null) {
    const url = this.options.clock ? null : clip.audio?.url ?? null;
    if (!this._sound || this._sound.url !== url) {
      this._sound?.destroy();
      this._sound = url
        ? new Sound(url, clip.seconds, () => this._tick())
        : new Silence(clip.seconds, this.options.clock);
    }
    this._clip = clip;
    this._view = new View(clip.seconds);
    if (view && view.span < view.seconds) this._view.set(view.start, view.span);
    this._peaks = readPeaks(clip.peaks);
    this._tags = new Map((clip.tags ?? []).map((tag) => [tag.name, tag]));
    this._lanes = makeLanes(clip, this._tags);
    const images = this._lanes.filter((lane) => lane.kind === "image");
    if (!images.some((lane) => lane.id === this._overlay?.map && lane.names.includes(this._overlay.row))) {
      this._overlay = images.length ? { map: images[0].id, row: images[0].order(0) } : null;
    }
    if (this._selected && !this._lane(this._selected.map)?.names.includes(this._selected.row)) this._selected = null;
    for (const lane of this._lanes) {
      if (!this._open.has(lane.id)) this._open.set(lane.id, lane.openAtFirst && !this.options.lanes);
    }
    this._lay();
    this._applySolo();
    this._redraw();
    this._tick();
  }

  _bound(lane) {
    return this._bounds.get(lane.id) ?? BOUNDS[0];
  }

  _lane(id) {
    return this._lanes.find((lane) => lane.id === id);
  }

  // ---- elements

  _lay() {
    const { _clip: clip } = this;
    const id = `kt${this._number}`;
    this._section?.remove();
    const canvas = (label) => h("canvas", label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" });

    this._button = h("button", { class: "play", type: "button", onclick: () => this._toggle() }, icon(ICONS.play));
    this._clock = h("span", { class: "clock" });
    const solo = h(
      "div",
      { class: "group", role: "group", "aria-label": "Solo" },
      SOLOS.map(([key, text, title]) =>
        h("button", { type: "button", title, "data-solo": key, onclick: () => this._chooseSolo(key) }, text),
      ),
    );
    const share = h(
      "select",
      { "aria-label": "Share of the row that solo keeps", title: "share that solo keeps", onchange: (event) => {
        this._share = Number(event.target.value);
        this._applySolo();
      } },
      [0.1, 0.25, 0.5].map((one) =>
        h("option", { value: String(one), selected: one === this._share }, `top ${Math.round(100 * one)} %`),
      ),
    );
    const scales = h(
      "select",
      { "aria-label": "Scale of the colours", onchange: (event) => {
        this._ownScale = event.target.value === "own";
        this._redraw();
      } },
      h("option", { value: "shared", selected: !this._ownScale }, "one scale"),
      h("option", { value: "own", selected: this._ownScale }, "scale per row"),
    );
    const button = (text, label, onclick, more = {}) =>
      h("button", { type: "button", "aria-label": label, title: label, onclick, ...more }, text);
    this._searchField = h("input", {
      type: "search",
      placeholder: "Tag or method",
      "aria-label": "Search tags and methods",
      oninput: (event) => {
        this._search = event.target.value;
        this._fill();
      },
    });
    this._searchField.value = this._search;
    const hasAudio = !(this._sound instanceof Silence) || this.options.clock;
    this._button.disabled = !hasAudio;
    const bar = h(
      "div",
      { class: "bar" },
      this._button,
      this._clock,
      h(
        "div",
        { class: "group", role: "group", "aria-label": "Zoom" },
        button("−", "Zoom out", () => this._zoom(2)),
        button("+", "Zoom in", () => this._zoom(0.5)),
        button("All", "Show the whole clip", () => this._showAll()),
      ),
      this.options.clock ? null : h("span", { class: "solo" }, h("span", { class: "label" }, "Solo"), solo, share),
      scales,
      this._searchField,
      button("◐", "Light, dark or as the system", () => this._nextTheme(), { class: "plain" }),
      button("?", "Keyboard and mouse", () => this._help.showModal(), { class: "plain" }),
    );
    this._status = h("p", { class: "status" });
    this._live = h("p", { class: "hidden", role: "status" });

    this._slider = h(
      "div",
      {
        class: "ruler",
        role: "slider",
        tabindex: "0",
        "aria-label": "Position",
        "aria-valuemin": "0",
        "aria-valuemax": clip.seconds.toFixed(2),
      },
      (this._ruler = canvas()),
    );
    this._overview = canvas();
    this._pointers(this._slider, null);
    this._overviewPointer();

    this._waveCanvas = canvas(`Waveform of ${clock(clip.seconds)}`);
    const wave = h(
      "div",
      { class: "lane" },
      h("div", { class: "name" }, "waveform"),
      h("div", { class: "plot" }, this._waveCanvas),
    );
    this._pointers(this._waveCanvas, { kind: "waveform", about: "The sound pressure, as the model hears it." });

    const body = [wave];
    if (clip.spectrogram) body.push(this._laySpectrogram(canvas));
    for (const lane of this._lanes) if (lane.kind !== "image") body.push(this._layLane(lane, id, canvas));

    this._head = h("div", { class: "head" });
    this._hairline = h("div", { class: "hairline" });
    this._stage = h(
      "div",
      { class: "stage" },
      h("div", { class: "lane top" }, h("div", { class: "name" }), h("div", { class: "plot" }, this._overview, this._slider)),
      body,
      h("div", { class: "over" }, this._hairline, this._head),
    );
    this._tip = h("div", { class: "tip", "aria-hidden": "true" });
    this._help = this._layHelp();
    this._section = h(
      "section",
      { class: "player", "aria-label": `Player: ${clip.name}`, "data-theme": this._theme },
      this.options.title === false ? null : this._layTitle(),
      (clip.warnings ?? []).map((text) => h("p", { class: "warning" }, text)),
      h("div", { class: "sticky" }, bar, this._status),
      this._live,
      this._stage,
      this._layFooter(),
      this._tip,
      this._help,
    );
    this._section.addEventListener("keydown", (event) => this.key(event));
    this._root.append(this._section);
    this._resize.disconnect();
    this._resize.observe(this._section);
    this._fill();
    this._marks();
  }

  _layTitle() {
    const { name, model, seconds } = this._clip;
    const parts = [clock(seconds), model?.name && `model ${model.name}`, model?.sha256 && `weights ${model.sha256.slice(0, 12)}…`].filter(Boolean);
    return h("header", {}, h("h2", {}, name), h("p", {}, parts.join(" · ")));
  }

  _layFooter() {
    const { model = {}, maps = [] } = this._clip;
    const facts = [
      ["model", model.name],
      ["weights, SHA-256", model.sha256],
      ["version", model.version],
      ...Object.entries(model.settings ?? {}).map(([key, value]) => [
        key,
        typeof value === "object" ? JSON.stringify(value) : String(value),
      ]),
    ].filter(([, value]) => value);
    return h(
      "details",
      { class: "about", open: true },
      h("summary", {}, "Model, methods and settings"),
      h("dl", {}, facts.map(([key, value]) => [h("dt", {}, key), h("dd", {}, value)]).flat()),
      h("dl", {}, maps.map((map) => [h("dt", {}, map.method ?? map.id), h("dd", {}, map.about ?? "")]).flat()),
    );
  }

  _layHelp() {
    const dialog = h(
      "dialog",
      { "aria-label": "Keyboard and mouse" },
      h("h3", {}, "Keyboard"),
      h("dl", {}, KEYS.map(([keys, what]) => [h("dt", {}, h("kbd", {}, keys)), h("dd", {}, what)]).flat()),
      h("h3", {}, "Mouse"),
      h(
        "p",
        {},
        "Click or drag in a lane to go to a moment. Click a row's name to loop its strongest moments. " +
          "Turn the wheel with Ctrl to zoom, with Shift to move. Drag the strip at the top to move what is shown.",
      ),
      h("button", { type: "button", onclick: () => dialog.close() }, "Close"),
    );
    return dialog;
  }

  _laySpectrogram(canvas) {
    const { hz } = this._clip.spectrogram;
    this._specCanvas = canvas("Mel spectrogram");
    const images = this._lanes.filter((lane) => lane.kind === "image");
    const axis = h("div", { class: "axis", "aria-hidden": "true" });
    const places = [];
    for (const mark of MARKS_HZ) {
      const place = bandOf(hz, mark);
      const bottom = ((place + 0.5) / hz.length) * HEIGHTS.spectrogram;
      if (place === null || places.some((other) => Math.abs(other - bottom) < LABEL_PIXELS)) continue;
      places.push(bottom);
      const span = h("span", {}, mark >= 1000 ? `${mark / 1000}k` : String(mark));
      span.style.bottom = `${Math.min(bottom, HEIGHTS.spectrogram - 6)}px`;
      axis.append(span);
    }
    let controls = null;
    if (images.length) {
      const select = h(
        "select",
        {
          "aria-label": "Map over the spectrogram",
          onchange: (event) => {
            const [map, row] = event.target.value ? JSON.parse(event.target.value) : [];
            this._overlay = map ? { map, row } : null;
            if (map) this._select(map, row);
            this._redraw();
          },
        },
        h("option", { value: "" }, "no map"),
        images.map((lane) =>
          h(
            "optgroup",
            { label: lane.method },
            lane.names.map((name) =>
              h(
                "option",
                {
                  value: JSON.stringify([lane.id, name]),
                  selected: this._overlay?.map === lane.id && this._overlay?.row === name,
                },
                name,
              ),
            ),
          ),
        ),
      );
      const opacity = h("input", {
        type: "range",
        min: "0",
        max: "1",
        step: "0.05",
        "aria-label": "Opacity of the map",
        oninput: (event) => {
          this._opacity = Number(event.target.value);
          this._redraw();
        },
      });
      opacity.value = String(this._opacity);
      this._overlaySelect = select;
      this._overlayLegend = legend();
      controls = h("div", { class: "controls" }, select, opacity, this._overlayLegend.element);
    }
    this._pointers(this._specCanvas, { kind: "spectrogram", about: "The mel spectrogram that the model sees." });
    return h(
      "div",
      { class: "lane", role: "group", "aria-label": "Spectrogram" },
      h("div", { class: "heading" }, h("h3", {}, "spectrogram"), controls),
      h("div", { class: "name" }, h("span", { class: "unit" }, "Hz"), axis),
      h("div", { class: "plot" }, this._specCanvas),
    );
  }

  _layLane(lane, id, canvas) {
    const bodyId = `${id}-${this._lanes.indexOf(lane)}`;
    lane.canvas = canvas(`${lane.method}, ${lane.names.length} rows`);
    lane.list = h("div", { class: "name rows", role: "listbox", "aria-label": lane.method });
    lane.more = h("button", {
      type: "button",
      class: "more",
      onclick: () => {
        if (this._full.has(lane.id)) this._full.delete(lane.id);
        else this._full.add(lane.id);
        this._fill();
      },
    });
    lane.legend = legend();
    lane.toggle = h(
      "button",
      {
        type: "button",
        class: "toggle",
        "aria-controls": bodyId,
        onclick: () => {
          this._open.set(lane.id, !this._open.get(lane.id));
          this._fill();
        },
      },
      lane.method,
    );
    const bounds = lane.kind !== "rows" && h(
      "select",
      { "aria-label": `Range of the colours of ${lane.method}`, onchange: (event) => {
        this._bounds.set(lane.id, Number(event.target.value));
        this._redraw();
      } },
      BOUNDS.map((one) =>
        h("option", { value: String(one), selected: one === this._bound(lane) }, `up to ${one} × uniform`),
      ),
    );
    lane.body = h("div", { class: "body", id: bodyId }, lane.list, h("div", { class: "plot" }, lane.canvas), lane.more);
    lane.element = h(
      "div",
      { class: "lane", role: "group", "aria-label": lane.method },
      h("div", { class: "heading" }, h("h3", {}, lane.toggle), h("div", { class: "controls" }, bounds, lane.legend.element)),
      h("p", { class: "meaning" }, lane.about),
      lane.body,
    );
    this._pointers(lane.canvas, lane);
    return lane.element;
  }

  /** Fill the lists of rows: what is open, found by the search and not cut off. */
  _fill() {
    const wanted = this._search.trim().toLowerCase();
    const focused = this._root.activeElement?.dataset?.row;
    for (const lane of this._lanes) {
      if (lane.kind === "image") continue;
      const isMethod = wanted && `${lane.id} ${lane.method}`.toLowerCase().includes(wanted);
      let rows = lane.sorted();
      if (wanted && !isMethod) rows = rows.filter((row) => lane.names[row].toLowerCase().includes(wanted));
      const searching = wanted && lane.kind === "rows";
      const open = this._open.get(lane.id) || isMethod || (searching && rows.length > 0);
      lane.element.hidden = Boolean(lane.kind === "query" ? !this._query.on : wanted && !isMethod && !rows.length);
      lane.body.hidden = !open;
      lane.toggle.setAttribute("aria-expanded", String(Boolean(open)));
      const all = this._full.has(lane.id) || Boolean(wanted);
      const collapsed = lane.kind === "heads" && !all;
      lane.shown = lane.kind === "heads" ? (collapsed ? lane.means() : lane.everyHead()) : all ? rows : rows.slice(0, SHORT_LIST);
      lane.more.hidden = Boolean(wanted) || (lane.kind === "heads" ? lane.heads < 2 : rows.length <= SHORT_LIST);
      lane.more.textContent =
        lane.kind === "heads" ? (collapsed ? "show heads" : "hide heads") : all ? "show fewer" : `show all ${rows.length}`;
      lane.list.replaceChildren(...lane.shown.map((row) => this._layRow(lane, row)));
    }
    this._roving();
    if (focused) (this._options().find((one) => one.dataset.row === focused) ?? this._slider).focus();
    this._redraw();
  }

  _layRow(lane, row) {
    const name = lane.names[row];
    const tag = lane.kind === "rows" ? this._tags.get(name) : null;
    const parts = [h("span", { class: "text", title: name }, name)];
    const facts = [name];
    if (tag && Number.isFinite(tag.score)) {
      const meter = h("span", { class: "meter", "aria-hidden": "true" });
      meter.style.setProperty("--score", String(tag.score));
      facts.push(`score ${tag.score.toFixed(2)}`);
      if (Number.isFinite(tag.threshold)) {
        meter.style.setProperty("--threshold", String(tag.threshold));
        meter.classList.add("with-threshold");
        meter.title = `threshold ${tag.threshold.toFixed(2)}`;
        facts.push(`threshold ${tag.threshold.toFixed(2)}`);
      }
      parts.push(meter, h("span", { class: "number" }, tag.score.toFixed(2)));
      if (tag.present) facts.push("present");
      if (tag.heard === false) facts.push("training had no example of it");
    }
    const option = h(
      "div",
      {
        role: "option",
        class: ["row", tag?.present && "present", tag?.heard === false && "unheard"].filter(Boolean).join(" "),
        tabindex: "-1",
        "data-row": JSON.stringify([lane.id, name]),
        "aria-label": facts.join(", "),
        title: "loop the strongest moments",
        onclick: () => {
          this._select(lane.id, name);
          this._toggleLoop(true);
        },
        onfocus: () => this._select(lane.id, name),
      },
      parts,
    );
    return option;
  }

  _options() {
    return [...this._section.querySelectorAll("[role=option]")].filter((one) => !one.closest("[hidden]"));
  }

  /** One row per list can be reached by Tab; the arrows go on from there. */
  _roving() {
    const selected = this._selected && JSON.stringify([this._selected.map, this._selected.row]);
    for (const list of this._section.querySelectorAll("[role=listbox]")) {
      const options = [...list.children];
      const chosen = options.find((one) => one.dataset.row === selected);
      for (const one of options) {
        one.tabIndex = one === (chosen ?? options[0]) ? 0 : -1;
        one.setAttribute("aria-selected", String(one === chosen));
      }
    }
  }

  // ---- choices

  _select(map, row) {
    if (this._selected?.map === map && this._selected?.row === row) return;
    this._selected = { map, row };
    if (this._loop) this._toggleLoop(false);
    const lane = this._lane(map);
    // A map over frequency follows the tag that is chosen elsewhere.
    const overlay = this._overlay && this._lane(this._overlay.map);
    if (lane.kind === "rows" && overlay?.names.includes(row)) {
      this._overlay = { map: overlay.id, row };
      if (this._overlaySelect) this._overlaySelect.value = JSON.stringify([overlay.id, row]);
    }
    this._roving();
    this._applySolo();
    this._redraw();
    for (const callback of this._callbacks.select) callback({ map, row });
  }

  _selectedRow() {
    const lane = this._selected && this._lane(this._selected.map);
    return lane ? { lane, row: lane.names.indexOf(this._selected.row) } : null;
  }

  _needSelection() {
    if (!this._selected) {
      const lane = this._lanes.find((one) => one.kind === "rows") ?? this._lanes.find((one) => one.names.length);
      if (lane) this._select(lane.id, lane.order(0));
    }
    return this._selectedRow();
  }

  _toggleLoop(on = !this._loop) {
    const found = on ? this._needSelection() : null;
    this._loop = null;
    if (found) {
      const { lane, row } = found;
      const curve = lane.curve(row);
      const segments = strongest(curve, lane.grid.step, lane.grid.first, this._clip.seconds);
      if (segments.length) this._loop = segments;
      else this._say(`Nothing speaks for ${lane.names[row]}.`);
    }
    this._sound.useSegments(this._loop ?? []);
    if (this._loop) {
      this._say(`Looping the strongest moments of ${this._selected.row}.`);
      this.play();
    }
    this._reveal();
    this._redraw();
  }

  _chooseSolo(solo) {
    this._solo = solo;
    if (solo !== "clip") this._needSelection();
    this._applySolo();
  }

  _applySolo() {
    const found = this._solo === "clip" ? null : this._selectedRow();
    let [kept, track, problem] = [null, undefined, ""];
    if (found) {
      const { lane, row } = found;
      const tracks = this._clip.solo?.[lane.id]?.[lane.names[row]];
      if (tracks) track = tracks[this._solo];
      else if (lane.kind === "image") problem = `The page has no solo of ${lane.method}; it is added when asked for.`;
      else kept = stretches(lane.curve(row), this._share, lane.grid.step, lane.grid.first);
    }
    if (problem) this._solo = "clip";
    this._kept = kept;
    this._sound.useEnvelope(kept, this._solo === "removed");
    this._sound.useTrack(track ?? this._sound.url);
    if (problem) this._say(problem);
    else if (found) this._say(`Solo: ${this._solo} by ${found.lane.names[found.row]}.`);
    this._marks();
    this._redraw();
  }

  async _toggleQuery(on = !this._query.on) {
    const lane = this._lanes.find((one) => one.kind === "query");
    if (!lane && !this.options.query) {
      this._say("This document does not hold where each moment looks.");
      return;
    }
    this._query.on = on;
    if (on) await this._ask(this.time);
    this._fill();
  }

  async _ask(seconds) {
    const lane = this._lanes.find((one) => one.kind === "query");
    const column = Math.floor((seconds - this._clip.first_seconds) / this._clip.token_seconds);
    this._query.column = Math.max(column, 0);
    if (this.options.query && lane) lane.asked = await this.options.query(seconds);
    if (lane) lane.point(this._query.column, this._lanes.find((one) => one.kind === "heads"));
    for (const callback of this._callbacks.query) callback({ seconds, token: this._query.column });
    this._say(`Where the moment at ${clock(seconds)} looks, beside [CLS].`);
    this._fill();
  }

  _nextTheme() {
    const order = ["auto", "light", "dark"];
    this._theme = order[(order.indexOf(this._theme) + 1) % 3];
    this._section.dataset.theme = this._theme;
    this._say(`Colours: ${this._theme === "auto" ? "as the system" : this._theme}.`);
    this._redraw();
  }

  // ---- time

  _toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  _zoom(factor) {
    const { time, _view: view } = this;
    const inside = time >= view.start && time <= view.end;
    view.zoom(factor, inside ? time : view.start + view.span / 2);
    this._redraw();
  }

  _showAll() {
    this._view.set(0, this._clip.seconds);
    this._redraw();
  }

  /** Bring the playhead into view, a page at a time: nothing slides. */
  _reveal() {
    const { time, _view: view } = this;
    if (time >= view.start && time <= view.end) return;
    view.set(time - 0.05 * view.span);
    this._redraw();
  }

  _goTo(seconds) {
    if (this._loop && !this._loop.some(([start, end]) => seconds >= start && seconds <= end)) this._toggleLoop(false);
    this.seek(seconds);
    if (this._query.on) this._ask(this.time);
  }

  /** Move the playhead; while there is sound, at every frame. */
  _tick() {
    cancelAnimationFrame(this._frame);
    const { time, playing, _view: view } = this;
    if (playing) {
      this._frame = requestAnimationFrame(() => this._tick());
      this._reveal();
    } else if (this.options.clock) {
      this._frame = requestAnimationFrame(() => this._tick());
    }
    const width = this._plotWidth ?? 0;
    const x = view.x(time, width);
    this._head.hidden = x < -1 || x > width + 1;
    this._head.style.transform = `translateX(${x.toFixed(2)}px)`;
    if (time === this._shownTime && playing === this._shownPlaying) return;
    for (const callback of this._callbacks.time) callback(time);
    // Text costs a layout, so while there is sound it changes ten times a second.
    if (playing && this._shownPlaying && Math.abs(time - this._shownTime) < 0.1) return;
    this._shownTime = time;
    this._clock.textContent = `${clock(time)} / ${clock(this._clip.seconds)}`;
    this._slider.setAttribute("aria-valuenow", time.toFixed(2));
    this._slider.setAttribute("aria-valuetext", `${clock(time)} of ${clock(this._clip.seconds)}`);
    this._describeSelected();
    if (playing !== this._shownPlaying) this._marks();
  }

  _marks() {
    this._shownPlaying = this.playing;
    this._button.setAttribute("aria-label", this.playing ? "Pause" : "Play");
    this._button.replaceChildren(icon(this.playing ? ICONS.pause : ICONS.play));
    for (const one of this._section.querySelectorAll("[data-solo]")) {
      one.setAttribute("aria-pressed", String(one.dataset.solo === this._solo));
    }
  }

  // ---- what is said

  _say(text) {
    this._live.textContent = text;
    this._note = text;
    this._describeSelected();
  }

  _describeSelected() {
    const found = this._selectedRow();
    if (!found) {
      this._status.textContent = this._note ?? "Choose a row to read its value at the playhead.";
      return;
    }
    const { lane, row } = found;
    const value = lane.kind === "image" ? null : lane.valueAt(row, this.time);
    this._status.replaceChildren(
      h("strong", {}, lane.names[row]),
      ` ${lane.method}${value === null ? "" : ` ${format(value)}`} at ${clock(this.time)}. ${lane.about}`,
    );
  }

  _showTip(event, target, seconds, text) {
    this._tip.replaceChildren(
      h("strong", {}, `${seconds.toFixed(2)} s${text ? ` · ${text}` : ""}`),
      target?.about ? h("span", {}, target.about) : "",
    );
    this._tip.style.display = "block";
    const box = this._section.getBoundingClientRect();
    const { offsetWidth, offsetHeight } = this._tip;
    const left = Math.min(event.clientX - box.left + 14, box.width - offsetWidth - 4);
    const below = event.clientY + 18 + offsetHeight < window.innerHeight;
    const top = event.clientY - box.top + (below ? 18 : -offsetHeight - 12);
    this._tip.style.transform = `translate(${Math.max(left, 0)}px, ${top}px)`;
  }

  _hideTip() {
    this._tip.style.display = "none";
    this._hairline.hidden = true;
  }

  // ---- pointer

  _pointers(element, target) {
    let dragging = false;
    const place = (event) => {
      const box = element.getBoundingClientRect();
      const x = Math.min(Math.max(event.clientX - box.left, 0), box.width);
      return { seconds: this._view.seconds_at(x, box.width), x, y: (event.clientY - box.top) / box.height };
    };
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      dragging = true;
      element.setPointerCapture(event.pointerId);
      const { seconds, y } = place(event);
      const row = target?.rowAt?.(y);
      if (row !== undefined && row !== null) this._select(target.id, target.names[row]);
      this._goTo(seconds);
    });
    element.addEventListener("pointermove", (event) => {
      const { seconds, x, y } = place(event);
      if (dragging) this.seek(seconds);
      if (event.pointerType === "touch") return;
      this._hairline.hidden = false;
      this._hairline.style.transform = `translateX(${x}px)`;
      const overlay = target?.kind === "spectrogram" && this._overlay && this._lane(this._overlay.map);
      this._showTip(event, overlay || target, seconds, this._textAt(target, seconds, y));
    });
    for (const name of ["pointerup", "pointercancel"]) {
      element.addEventListener(name, () => {
        if (dragging && this._query.on) this._ask(this.time);
        dragging = false;
      });
    }
    element.addEventListener("pointerleave", () => this._hideTip());
    element.addEventListener(
      "wheel",
      (event) => {
        const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
        if (event.ctrlKey || event.metaKey) this._view.zoom(Math.exp(event.deltaY / 300), place(event).seconds);
        else if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
          this._view.set(this._view.start + (sideways / 600) * this._view.span);
        } else return;
        event.preventDefault();
        this._redraw();
        this._tick();
      },
      { passive: false },
    );
  }

  _textAt(target, seconds, y) {
    if (!target) return "";
    if (target.kind === "spectrogram") {
      const { hz } = this._clip.spectrogram;
      const band = Math.min(Math.max(Math.floor((1 - y) * hz.length), 0), hz.length - 1);
      const parts = [`${Math.round(hz[band]).toLocaleString("en")} Hz`];
      const overlay = this._overlay && this._lane(this._overlay.map);
      if (overlay) {
        const row = overlay.names.indexOf(this._overlay.row);
        const value = overlay.grid.value(row, overlay.grid.column(seconds), band);
        parts.push(`${overlay.names[row]}, ${overlay.method} ${format(value)}`);
      }
      return parts.join(" · ");
    }
    if (!target.rowAt) return "";
    const row = target.rowAt(y);
    return row === null ? "" : `${target.names[row]} ${target.unit(target.valueAt(row, seconds))}`;
  }

  _overviewPointer() {
    let grip = null;
    const seconds = (event) => {
      const box = this._overview.getBoundingClientRect();
      return ((event.clientX - box.left) / box.width) * this._clip.seconds;
    };
    const move = (event) => {
      this._view.set(seconds(event) - grip);
      this._redraw();
      this._tick();
    };
    this._overview.addEventListener("pointerdown", (event) => {
      this._overview.setPointerCapture(event.pointerId);
      const at = seconds(event);
      if (this._view.span >= this._clip.seconds) return this._goTo(at);
      grip = at >= this._view.start && at <= this._view.end ? at - this._view.start : this._view.span / 2;
      move(event);
    });
    this._overview.addEventListener("pointermove", (event) => grip !== null && move(event));
    this._overview.addEventListener("pointerup", () => (grip = null));
  }

  // ---- keyboard

  /** Do what a key of the list of keys says, and keep it from doing anything else. */
  key(event) {
    if (this._help.open || event.ctrlKey || event.metaKey) return;
    const target = event.composedPath()[0];
    const typing = target.tagName === "INPUT" && target.type === "search";
    const control = ["SELECT", "INPUT"].includes(target.tagName);
    const { key } = event;
    if (key === "Escape") {
      if (typing) {
        this._search = target.value = "";
        this._fill();
        this._slider.focus();
      }
      this._toggleLoop(false);
      this._chooseSolo("clip");
      return event.preventDefault();
    }
    if (typing) return;
    const button = ["BUTTON", "SUMMARY"].includes(target.tagName);
    // Controls keep the keys that they need themselves.
    if (control && (key.startsWith("Arrow") || [" ", "Home", "End", "Enter"].includes(key))) return;
    if (button && (key === "Enter" || (key === " " && target !== this._button))) return;
    const step = event.altKey ? this._clip.token_seconds : event.shiftKey ? 5 : 1;
    const actions = {
      " ": () => this._toggle(),
      k: () => this._toggle(),
      ArrowLeft: () => this._goTo(Math.max(this.time - step, 0)),
      ArrowRight: () => this._goTo(Math.min(this.time + step, this._clip.seconds)),
      Home: () => this._goTo(0),
      End: () => this._goTo(this._clip.seconds),
      ArrowUp: () => this._moveRow(-1),
      ArrowDown: () => this._moveRow(1),
      Enter: () => this._toggleLoop(),
      l: () => this._toggleLoop(),
      s: () => this._chooseSolo(SOLOS[(SOLOS.findIndex(([one]) => one === this._solo) + 1) % 3][0]),
      q: () => this._toggleQuery(),
      "+": () => this._zoom(0.5),
      "=": () => this._zoom(0.5),
      "-": () => this._zoom(2),
      0: () => this._showAll(),
      "/": () => this._searchField.focus(),
      t: () => this._nextTheme(),
      "?": () => this._help.showModal(),
    };
    const action = actions[key];
    if (!action) return;
    event.preventDefault();
    action();
    this._tick();
  }

  _moveRow(by) {
    const options = this._options();
    if (!options.length) return;
    const selected = this._selected && JSON.stringify([this._selected.map, this._selected.row]);
    const at = options.findIndex((one) => one.dataset.row === selected);
    const next = options[at < 0 ? 0 : Math.min(Math.max(at + by, 0), options.length - 1)];
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }

  // ---- drawing

  _redraw() {
    this._drawing ??= requestAnimationFrame(() => {
      this._drawing = null;
      this._draw();
    });
  }

  _draw() {
    const width = this._waveCanvas.parentElement.clientWidth;
    if (!width) return;
    this._plotWidth = width;
    const style = getComputedStyle(this._section);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const theme = colour("theme") === "dark" ? "dark" : "light";
    const colours = {
      wave: colour("wave"),
      waveMuted: colour("wave-muted"),
      muted: colour("muted"),
      line: colour("line"),
      accent: colour("accent"),
      ink: colour("ink"),
    };
    const { _view: view, _clip: clip } = this;

    const whole = new View(clip.seconds);
    let context = prepare(this._overview, width, HEIGHTS.overview);
    drawPeaks(context, this._peaks, whole, width, HEIGHTS.overview, colours, (s) => s >= view.start && s < view.end);
    if (view.span < clip.seconds) {
      const [a, b] = [whole.x(view.start, width), whole.x(view.end, width)];
      context.strokeStyle = colours.accent;
      context.lineWidth = 2;
      context.strokeRect(a + 1, 1, Math.max(b - a, 4) - 2, HEIGHTS.overview - 2);
    }
    drawRuler(prepare(this._ruler, width, HEIGHTS.ruler), view, width, HEIGHTS.ruler, colours, this._loop ?? []);

    context = prepare(this._waveCanvas, width, HEIGHTS.waveform);
    const kept = this._kept;
    const inverted = this._solo === "removed";
    drawPeaks(context, this._peaks, view, width, HEIGHTS.waveform, colours, (seconds) =>
      kept ? kept.some(({ start, end }) => seconds >= start && seconds < end) !== inverted : true,
    );
    if (clip.spectrogram) this._drawSpectrogram(width, theme, colours);
    for (const lane of this._lanes) {
      if (lane.kind === "image" || lane.element.hidden || lane.body.hidden) continue;
      const scales = { ownScale: this._ownScale, bound: this._bound(lane) };
      lane.draw(view, width, theme, colours, scales, this._selected);
    }
    this._tick();
  }

  _drawSpectrogram(width, theme, colours) {
    const height = HEIGHTS.spectrogram;
    const context = prepare(this._specCanvas, width, height);
    const spectrum = this._clip.spectrogram;
    this._spectrum = this._spectrumOf === spectrum ? this._spectrum : spectrumGrid(spectrum);
    this._spectrumOf = spectrum;
    const overlay = this._overlay && this._lane(this._overlay.map);
    drawImage(context, this._spectrum, 0, ramp(theme, overlay ? "grey" : "spectrum"), this._view, width, height);
    if (!overlay) return;
    const { grid } = overlay;
    const { place, low, high, signed } = scale(grid.low, grid.high);
    const shown = table(grid, overlayRamp(theme, signed), place);
    const row = overlay.names.indexOf(this._overlay.row);
    drawImage(context, grid, row, shown, this._view, width, height, this._opacity);
    this._overlayLegend.set(overlayRamp(theme, signed), format(low), format(high), signed ? 0.5 : null, colours.ink);
  }
}
