// The page: a file is dropped or chosen, tagged here, and shown in the player.

import { mount } from "../../../keras_tagger/views/player/src/player.js";
import { clipDocument } from "./document.js";
import { read } from "./sound.js";
import { Tagger } from "./tagger.js";

const [status, input, drop, place] = ["status", "file", "drop", "player"].map((id) => document.getElementById(id));
const say = (text) => (status.textContent = text);

const loading = (async () => {
  const [facts, model] = await Promise.all([
    fetch("model.json").then((response) => response.json()),
    fetch("model.onnx").then((response) => response.arrayBuffer()),
  ]);
  return Tagger.load(facts, model);
})();
loading.then(
  (tagger) => {
    say(`Drop a file here, or choose one. Nothing leaves this computer. Model: ${tagger.facts.name}.`);
    document.documentElement.dataset.ready = "";
  },
  (error) => say(`The model cannot be loaded: ${error.message}`),
);

let url = null;

async function tag(file) {
  say(`Listening to ${file.name} …`);
  try {
    const tagger = await loading;
    const samples = await read(file, tagger.facts.sample_rate);
    const found = await tagger.analyze(samples, (share) => say(`${file.name}: ${Math.round(100 * share)} %`));
    if (url) URL.revokeObjectURL(url);
    url = URL.createObjectURL(file);
    const clip = clipDocument(file.name, samples, url, file.type, tagger.facts, found);
    mount(place, clip);
    const best = [...clip.tags].sort((a, b) => b.score - a.score).slice(0, 10);
    say(best.map(({ name, score }) => `${name} ${score.toFixed(2)}`).join(", "));
    // For programs, such as the test.
    window.kerasTagger = { tags: Object.fromEntries(clip.tags.map(({ name, score }) => [name, score])), clip };
    document.documentElement.dataset.tagged = file.name;
  } catch (error) {
    say(error.message);
  }
}

input.addEventListener("change", () => input.files.length && tag(input.files[0]));
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
document.addEventListener("dragover", () => drop.classList.add("over"));
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  drop.classList.remove("over");
  if (event.dataTransfer.files.length) tag(event.dataTransfer.files[0]);
});
