// What a plugin in a frame learns from TensorBoard: reloads, the address, and whether it is dark.
//
// Reloads come through TensorBoard's experimental plugin library: JSON messages over a MessageChannel. It tells neither
// the selected runs nor their colours; `colours` follows the rule that TensorBoard's own tabs start with.

const VERSION = "experimental";

// TensorBoard's default palette, [light, dark].
const PALETTE = [
  ["#425066", "#8e98a3"],
  ["#12b5cb", "#12b5cb"],
  ["#e52592", "#e52592"],
  ["#f9ab00", "#f9ab00"],
  ["#9334e6", "#9334e6"],
  ["#7cb342", "#7cb342"],
  ["#e8710a", "#e8710a"],
];

export class Host {
  constructor() {
    this._listeners = new Map();
    if (window.parent === window) return;
    const { port1, port2 } = new MessageChannel();
    this._port = port1;
    port1.onmessage = (event) => this._receive(JSON.parse(event.data));
    window.parent.postMessage(`${VERSION}.bootstrap`, location.origin, [port2]);
  }

  /** Call back when TensorBoard has reloaded its data. */
  onReload(callback) {
    this._listeners.set(`${VERSION}.DataReloaded`, callback);
  }

  /** The plugin's part of the address: `#keras_tagger&p.keras_tagger.run=NAME` gives `{run: "NAME"}`. */
  address() {
    // TensorBoard 2.17 answers the library's GetURLPluginData with nothing, whatever the address is.
    const prefix = "p.keras_tagger.";
    const parts = new URLSearchParams(outside(() => window.parent.location.hash.slice(1)) ?? "");
    const ours = [...parts].filter(([key]) => key.startsWith(prefix));
    return Object.fromEntries(ours.map(([key, value]) => [key.slice(prefix.length), value]));
  }

  /** Call back with "dark" or "light", now and at every change of TensorBoard's own setting. */
  onTheme(callback) {
    const system = matchMedia("(prefers-color-scheme: dark)");
    const body = outside(() => (window.parent === window ? null : window.parent.document.body));
    const tell = () => callback((body ? body.classList.contains("dark-mode") : system.matches) ? "dark" : "light");
    if (body) new MutationObserver(tell).observe(body, { attributes: true, attributeFilter: ["class"] });
    else system.addEventListener("change", tell);
    tell();
  }

  _receive({ type, id, payload, isReply }) {
    if (isReply) return;
    this._listeners.get(type)?.(payload);
    this._port.postMessage(JSON.stringify({ type, id, payload: null, error: null, isReply: true }));
  }
}

/** What `read` finds in TensorBoard's page, or null in a frame of another origin, as in some notebooks. */
function outside(read) {
  try {
    return read();
  } catch {
    return null;
  }
}

/** The colour of each run, by name, as `[light, dark]`: TensorBoard's palette in the order of the runs. */
export function colours(names) {
  // As TensorBoard does, through the keys of an object, which puts names that are whole numbers first.
  const order = Object.keys(Object.fromEntries(names.map((name) => [name, true])));
  return new Map(order.map((name, index) => [name, PALETTE[index % PALETTE.length]]));
}
