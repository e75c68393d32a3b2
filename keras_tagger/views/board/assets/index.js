// The tab: runs, a clip, and one or two players whose maps follow a slider over the steps of training.

import { Chart, MOST_TAGS } from "./chart.js";
import { h } from "./dom.js";
import { colours, Host } from "./host.js";
import { mount } from "./player.js";

const KEPT = 200; // answers kept per tab
const PLAY_MILLISECONDS = 500;
const EXAMPLE = `import tensorflow as tf
import keras_tagger as kt
from keras_tagger.views import log_explanation

writer = tf.summary.create_file_writer("logs/my_run")
log_explanation(writer, kt.load("compact"), "song.mp3", step=1)
writer.flush()`;

/** TensorBoard calls this once. */
export function render() {
  document.documentElement.lang = "en";
  document.title = "Listen";
  for (const href of ["theme.css", "tab.css"]) document.head.append(h("link", { rel: "stylesheet", href }));
  const tab = new Tab(new Host());
  document.body.append(tab.element);
  return tab.start();
}

class Tab {
  constructor(host) {
    this._host = host;
    this._runs = [];
    this._colours = new Map();
    this._clip = null;
    this._wish = {};
    this._answers = new Map();
    this._chosenTags = null;
    this._filter = "";
    this._dark = false;

    this._chart = new Chart((step) => this._sides[0].goToStep(step));
    this._sides = [new Side(this, "A", null)];
    this._filterField = h("input", {
      type: "search",
      placeholder: "Filter runs (regex)",
      "aria-label": "Filter runs (regex)",
      oninput: (event) => {
        this._filter = event.target.value;
        this._fillRuns();
      },
    });
    this._runList = h("div", { class: "run-list" });
    this._runsSummary = h("summary", {}, "Runs");
    this._clipSelect = h("select", { onchange: (event) => this._chooseClip(event.target.value) });
    this._compare = h(
      "button",
      { type: "button", class: "compare", "aria-pressed": "false", onclick: () => this._toggleCompare() },
      "Compare",
    );
    this._tagField = h("input", {
      type: "search",
      list: "all-tags",
      placeholder: "Add a tag",
      "aria-label": "Add a tag to the chart",
      onchange: (event) => {
        if (this.addTag(event.target.value)) event.target.value = "";
      },
    });
    this._tagList = h("datalist", { id: "all-tags" });
    this._chips = h("ul", { class: "chips", "aria-label": "Tags in the chart" });
    this._players = h("div", { class: "sides" }, this._sides[0].element);
    new ResizeObserver(() => this.align()).observe(this._players);
    this._status = h("p", { class: "status", role: "status" }, "Loading …");
    const drawer = h("details", { class: "runs", open: true }, this._runsSummary, this._filterField, this._runList);
    if (matchMedia("(max-width: 760px)").matches) drawer.open = false;
    this._view = h(
      "div",
      { class: "view", hidden: true },
      drawer,
      h(
        "main",
        {},
        h(
          "div",
          { class: "toolbar" },
          h("label", {}, "Clip ", this._clipSelect),
          this._compare,
          h("div", { class: "tags" }, this._chips, this._tagField, this._tagList),
        ),
        this._chart.element,
        this._players,
      ),
    );
    this.element = h("div", { class: "tab" }, this._status, this._view);
  }

  async start() {
    this._host.onTheme((theme) => {
      this._dark = theme === "dark";
      document.documentElement.dataset.theme = theme;
      this._fillRuns();
      this._showChart();
      for (const side of this._sides) side.retheme();
    });
    this._host.onReload(() => this._reload());
    this._wish = this._host.address();
    await this._load();
    await this._arrange();
  }

  get theme() {
    return this._dark ? "dark" : "light";
  }

  get clip() {
    return this._clip;
  }

  clipOf(run) {
    return this._runs.find(({ name }) => name === run)?.clips.find(({ name }) => name === this._clip);
  }

  colour(run) {
    return (this._colours.get(run) ?? ["#888", "#888"])[this._dark ? 1 : 0];
  }

  /** The JSON of a route, kept until TensorBoard reloads. */
  ask(route, query = {}) {
    const url = `${route}?${new URLSearchParams(query)}`;
    if (!this._answers.has(url)) {
      const answer = getJSON(url);
      this._answers.set(url, answer);
      answer.catch(() => this._answers.delete(url));
      if (this._answers.size > KEPT) this._answers.delete(this._answers.keys().next().value);
    }
    return this._answers.get(url);
  }

  addTag(tag) {
    if (!this._allTags().includes(tag)) return false;
    const tags = this._chosenTags ?? this._shownTags();
    if (!tags.includes(tag)) this._chosenTags = [...tags.slice(tags.length >= MOST_TAGS ? 1 : 0), tag];
    this._showChart();
    return true;
  }

  /** Keep the lanes of two players at the same height, whatever is above them. */
  align() {
    const parts = this._sides.map(({ above }) => above).filter(Boolean);
    for (const part of parts) part.style.minHeight = "";
    const most = Math.max(...parts.map((part) => part.offsetHeight));
    if (parts.length > 1) for (const part of parts) part.style.minHeight = `${most}px`;
  }

  /** A side shows another run or step. */
  changed() {
    this._fillRuns();
    this._showChart();
  }

  // ---- data

  async _load() {
    this._answers.clear();
    try {
      this._runs = (await getJSON("runs")).runs;
    } catch (error) {
      this._status.textContent = `The runs cannot be read: ${error.message}`;
      throw error;
    }
    this._colours = colours(this._runs.map(({ name }) => name));
  }

  async _reload() {
    await this._load();
    await this._arrange();
  }

  /** The user has chosen, so what the address asked for no longer counts. */
  forgetAddress() {
    this._wish = {};
  }

  /** Show what the address asks for or what was chosen, if it exists; TensorBoard may not have read it yet. */
  async _arrange() {
    const address = this._wish;
    const logged = this._logged();
    this._status.replaceChildren(...(logged.length ? [] : this._layEmpty()));
    this._status.classList.toggle("empty", !logged.length);
    this._view.hidden = !logged.length;
    if (!logged.length) return;
    const names = [...new Set(logged.flatMap(({ clips }) => clips.map(({ name }) => name)))].sort();
    if (names.includes(address.clip)) this._clip = address.clip;
    if (!names.includes(this._clip)) {
      this._clip = logged[logged.length - 1].clips[0].name;
    }
    const asked = logged.find(({ name }) => name === address.run);
    if (asked && !asked.clips.some(({ name }) => name === this._clip)) this._clip = asked.clips[0].name;
    this._clipSelect.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
    this._clipSelect.value = this._clip;
    if (address.compare) this._setCompare(true);
    const wanted = [
      [address.run, address.step],
      [address.compare, address.compare_step],
    ];
    await Promise.all(this._sides.map((side, index) => side.arrange(logged, ...wanted[index])));
    const got = (side, run) => run === undefined || side?.run === run;
    if (got(this._sides[0], address.run) && got(this._sides[1], address.compare)) this.forgetAddress();
    this.changed();
  }

  _logged() {
    return this._runs.filter(({ clips }) => clips.length);
  }

  // ---- what the user does

  _chooseClip(name) {
    this._clip = name;
    this._chosenTags = null;
    this.forgetAddress();
    return this._arrange();
  }

  _toggleCompare() {
    this._setCompare(this._sides.length === 1);
    this.forgetAddress();
    return this._arrange();
  }

  _setCompare(on) {
    if (on === this._sides.length > 1) return;
    this._compare.setAttribute("aria-pressed", String(on));
    if (on) {
      this._sides.push(new Side(this, "B", this._sides[0]));
      this._players.append(this._sides[1].element);
    } else this._sides.pop().destroy();
    this._players.classList.toggle("two", on);
  }

  // ---- elements

  _layEmpty() {
    return [
      h("strong", {}, "No run here has clips to listen to yet."),
      h("p", {}, "keras_tagger's fit logs a few validation clips after every epoch (board.preview_clips). "),
      h("p", {}, "To log clips from your own training loop:"),
      h("pre", {}, EXAMPLE),
      h("p", {}, "The tab looks again whenever TensorBoard reloads its data."),
    ];
  }

  _fillRuns() {
    let pattern = null;
    try {
      pattern = new RegExp(this._filter, "i");
      this._filterField.setCustomValidity("");
    } catch {
      this._filterField.setCustomValidity("not a regular expression");
    }
    const shown = this._runs.filter(({ name }) => !pattern || pattern.test(name));
    this._runsSummary.textContent = `Runs (${this._logged().length})`;
    const rows = shown.map(({ name, clips }) => {
      const lacks = !clips.some((clip) => clip.name === this._clip);
      const why = clips.length ? "has not logged this clip" : "has logged no clips";
      const swatch = h("span", { class: "swatch" });
      swatch.style.background = this.colour(name);
      const choices = this._sides.map((side) =>
        h(
          "label",
          { class: "choice" },
          h("input", {
            type: "radio",
            name: `run-${side.name}`,
            disabled: lacks,
            checked: side.run === name,
            "aria-label": this._sides.length > 1 ? `${name} on side ${side.name}` : name,
            onchange: () => side.goToRun(name),
          }),
        ),
      );
      const text = h("span", { class: "run-name" }, name);
      text.addEventListener("click", () => !lacks && this._sides[0].goToRun(name));
      return h("div", { class: lacks ? "run lacking" : "run", title: lacks ? `${name} ${why}` : name }, choices, swatch, text);
    });
    const head =
      this._sides.length > 1
        ? [h("div", { class: "run head", "aria-hidden": "true" }, this._sides.map(({ name }) => h("span", { class: "choice" }, name)))]
        : [];
    const focused = document.activeElement?.getAttribute("aria-label");
    this._runList.replaceChildren(...head, ...rows);
    if (focused && document.activeElement === document.body) {
      [...this._runList.querySelectorAll("input")].find((one) => one.getAttribute("aria-label") === focused)?.focus();
    }
  }

  _allTags() {
    return [...new Set(this._sides.flatMap(({ scores }) => scores?.tags ?? []))];
  }

  /** The tags that were chosen, or the best ones of the last step. */
  _shownTags() {
    if (this._chosenTags) return this._chosenTags;
    const { scores } = this._sides[0];
    if (!scores?.steps.length) return [];
    const last = scores.scores[scores.scores.length - 1];
    return scores.tags
      .map((tag, i) => [tag, last[i] ?? -1])
      .sort((a, b) => b[1] - a[1])
      .slice(0, MOST_TAGS - 1)
      .map(([tag]) => tag);
  }

  _showChart() {
    const tags = this._shownTags();
    this._chart.set(this._sides, tags, this._dark);
    const all = this._allTags();
    if (this._tagList.childElementCount !== all.length) {
      this._tagList.replaceChildren(...all.map((tag) => h("option", { value: tag })));
    }
    this._chips.replaceChildren(
      ...tags.map((tag) => {
        const swatch = h("span", { class: "swatch" });
        swatch.style.background = this._chart.colour(tag);
        const remove = () => {
          this._chosenTags = tags.filter((one) => one !== tag);
          this._showChart();
        };
        const button = h("button", { type: "button", "aria-label": `Remove ${tag}`, onclick: remove }, "×");
        return h("li", {}, swatch, tag, button);
      }),
    );
  }
}

/** One player with the run and the step that it shows. */
class Side {
  constructor(tab, name, leader) {
    this.name = name;
    this.run = null;
    this.step = null;
    this.scores = null;
    this.player = null;
    this._tab = tab;
    this._leader = leader;
    this._ticket = 0;
    this._steps = [];
    this._swatch = h("span", { class: "swatch" });
    this._title = h("h2", {});
    this._truth = h("span", { class: "truth" });
    this._slider = h("input", {
      type: "range",
      min: 0,
      step: 1,
      "aria-label": `Step of side ${name}`,
      oninput: () => this.goToStep(this._steps[this._slider.valueAsNumber]),
    });
    this._output = h("output", {});
    const button = (text, label, onclick) =>
      h("button", { type: "button", "aria-label": label, title: label, onclick }, text);
    this._play = button("Play steps", "Play the steps", () => this._togglePlay());
    this._host = h("div", { class: "player" });
    this._message = h("p", { class: "message", role: "status" });
    this.element = h(
      "section",
      { class: "side", "aria-label": `Side ${name}` },
      h("header", {}, this._swatch, this._title, this._truth),
      h(
        "div",
        { class: "steps" },
        button("‹", "Previous step", () => this._move(-1)),
        this._slider,
        button("›", "Next step", () => this._move(1)),
        this._play,
        this._output,
      ),
      this._message,
      this._host,
    );
  }

  /** Show the wanted run and step, else those shown before, else the newest. */
  arrange(logged, run, step) {
    const having = logged.filter(({ clips }) => clips.some(({ name }) => name === this._tab.clip));
    const names = having.map(({ name }) => name);
    const newest = names[names.length - 1];
    // A second side starts with another run, or else with the first step of the same one.
    const other = this._leader && (names.filter((name) => name !== this._leader.run).pop() ?? newest);
    const chosen = [run, this.run, other ?? newest].find((name) => names.includes(name));
    if (chosen === undefined) return this._clear();
    const wasLast = this.step === this._steps[this._steps.length - 1];
    const sameRun = this._leader && this.run === null && chosen === this._leader.run;
    const followed = wasLast && !sameRun ? null : sameRun ? 0 : this.step;
    return this._show(chosen, step === undefined ? followed : Number(step));
  }

  goToRun(run) {
    this._tab.forgetAddress();
    return this._show(run, this.step);
  }

  goToStep(step) {
    this._tab.forgetAddress();
    return this._show(this.run, step);
  }

  /** Show the step nearest to `step`, or the last one if it is null. */
  async _show(run, step) {
    const clip = this._tab.clipOf(run);
    if (!clip) return this._clear();
    const ticket = ++this._ticket;
    const other = run !== this.run;
    this._steps = clip.steps;
    const index = step === null ? this._steps.length - 1 : nearest(this._steps, step);
    Object.assign(this, { run, step: this._steps[index] });
    this._swatch.style.background = this._tab.colour(run);
    this._title.textContent = run;
    this._slider.max = String(this._steps.length - 1);
    this._slider.value = String(index);
    this._slider.setAttribute("aria-valuetext", `step ${this.step}`);
    this._output.textContent = `step ${this.step.toLocaleString("en")} (${index + 1} of ${this._steps.length})`;
    if (other) this.scores = null;
    this._tab.changed();
    const query = { run, clip: clip.name };
    try {
      const [fixed, maps, scores] = await Promise.all([
        this._tab.ask("clip", query),
        this._tab.ask("maps", { ...query, step: this.step }),
        this._tab.ask("scores", query),
      ]);
      if (ticket !== this._ticket) return;
      this.scores = scores;
      this._message.textContent = "";
      const truth = maps.tags.filter((tag) => tag.truth).map(({ name }) => name);
      this._truth.textContent = truth.length ? `true tags: ${truth.join(", ")}` : "";
      const url = new URL(`audio?${new URLSearchParams(query)}`, document.baseURI).href;
      this._present({ ...fixed, ...maps, audio: fixed.audio && { ...fixed.audio, url } });
      this._tab.changed();
    } catch (error) {
      if (ticket === this._ticket) this._message.textContent = `This step cannot be shown: ${error.message}`;
      return;
    }
    // The neighbours come at once then.
    for (const near of [this._steps[index + 1], this._steps[index - 1]]) {
      if (near !== undefined) this._tab.ask("maps", { ...query, step: near }).catch(() => {});
    }
  }

  _present(clip) {
    this.element.dataset.step = String(this.step);
    if (this.player && JSON.stringify(clip) === JSON.stringify(this._shown)) return;
    if (this.player) this.player.update(clip);
    else {
      const options = { title: false, ...(this._leader?.player ? { clock: this._leader.player } : {}) };
      this.player = mount(this._host, clip, options);
      this.player.on("select", ({ row }) => this._tab.addTag(row));
    }
    this._shown = clip;
    // The player follows the system, unless its own button was used; TensorBoard has a setting of its own.
    const section = this._host.shadowRoot.querySelector("[data-theme]");
    if (["auto", this._theme].includes(section.dataset.theme)) section.dataset.theme = this._tab.theme;
    this._theme = this._tab.theme;
    this._tab.align();
  }

  /** What the player has above its lanes. */
  get above() {
    return this._host.shadowRoot?.querySelector(".sticky") ?? null;
  }

  retheme() {
    this._swatch.style.background = this._tab.colour(this.run);
    const shown = this._shown;
    this._shown = null;
    if (shown) this._present(shown);
  }

  destroy() {
    this._ticket++;
    clearInterval(this._timer);
    this.player?.destroy();
    this.element.remove();
  }

  _clear() {
    this._ticket++;
    Object.assign(this, { run: null, step: null, scores: null, _steps: [] });
    this.player?.destroy();
    Object.assign(this, { player: null, _shown: null });
    this._title.textContent = "";
    this._message.textContent = "No run has logged this clip.";
  }

  _move(by) {
    const index = this._slider.valueAsNumber + by;
    if (index >= 0 && index < this._steps.length) return this.goToStep(this._steps[index]);
  }

  _togglePlay() {
    const stop = () => {
      clearInterval(this._timer);
      this._timer = null;
      this._play.textContent = "Play steps";
      this._play.setAttribute("aria-label", "Play the steps");
    };
    if (this._timer) return stop();
    if (this._slider.valueAsNumber === this._steps.length - 1) this.goToStep(this._steps[0]);
    this._play.textContent = "Stop";
    this._play.setAttribute("aria-label", "Stop the steps");
    this._timer = setInterval(() => {
      if (this._slider.valueAsNumber >= this._steps.length - 1) stop();
      else this._move(1);
    }, PLAY_MILLISECONDS);
  }
}

function nearest(steps, wanted) {
  return steps.reduce((best, step, i) => (Math.abs(step - wanted) < Math.abs(steps[best] - wanted) ? i : best), 0);
}

async function getJSON(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error((await response.text()) || response.statusText);
  return response.json();
}
