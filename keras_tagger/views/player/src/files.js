// A table of files, sorted by the score of a tag or by name or length.

import { h } from "./dom.js";
import css from "./style.css";
import { clock } from "./view.js";

const BEST = 3;

export function mountIndex(element, rows) {
  const root = element.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  root.adoptedStyleSheets = [sheet];
  const tags = [...new Set(rows.flatMap((row) => Object.keys(row.scores)))].sort((a, b) => a.localeCompare(b));
  const best = (row) => Object.entries(row.scores).sort((a, b) => b[1] - a[1]).slice(0, BEST);
  const total = new Map(tags.map((tag) => [tag, rows.reduce((sum, row) => sum + (row.scores[tag] ?? 0), 0)]));
  let tag = tags.reduce((a, b) => (total.get(b) > total.get(a) ? b : a), tags[0]);
  let order = { key: "score", up: false };

  const select = h(
    "select",
    { id: "tag", onchange: (event) => {
      tag = event.target.value;
      order = { key: "score", up: false };
      fill();
    } },
    tags.map((one) => h("option", { value: one, selected: one === tag }, one)),
  );
  const columns = [
    ["name", "file", (row) => row.name],
    ["seconds", "length", (row) => row.seconds],
    ["score", "score", (row) => row.scores[tag] ?? -1],
    ["best", "best tags", null],
  ];
  const heads = columns.map(([key, text, value]) =>
    h("th", { scope: "col" }, value
      ? h("button", { type: "button", class: "plain", onclick: () => {
          order = { key, up: order.key === key ? !order.up : key !== "score" };
          fill();
        } }, text)
      : text),
  );
  const body = h("tbody");

  function fill() {
    const value = columns.find(([key]) => key === order.key)[2];
    const compare = (a, b) => (typeof value(a) === "string" ? value(a).localeCompare(value(b)) : value(a) - value(b));
    const sorted = [...rows].sort((a, b) => (order.up ? compare(a, b) : compare(b, a)));
    columns.forEach(([key, text], i) => {
      if (key !== order.key) heads[i].removeAttribute("aria-sort");
      else heads[i].setAttribute("aria-sort", order.up ? "ascending" : "descending");
      if (key === "score") heads[i].firstChild.textContent = `score of ${tag}`;
      else if (heads[i].firstChild.nodeName === "BUTTON") heads[i].firstChild.textContent = text;
    });
    body.replaceChildren(
      ...sorted.map((row) => {
        const score = row.scores[tag];
        const bar = h("span", { class: "bar-of-score", "aria-hidden": "true" });
        bar.style.setProperty("--score", String(score ?? 0));
        return h(
          "tr",
          {},
          h("th", { scope: "row" }, h("a", { href: row.href }, row.name)),
          h("td", {}, clock(row.seconds, 0)),
          h("td", {}, bar, score === undefined ? "–" : score.toFixed(2)),
          h("td", {}, best(row).map(([name, one]) => `${name} ${one.toFixed(2)}`).join(", ")),
        );
      }),
    );
  }

  fill();
  root.append(
    h(
      "section",
      { class: "player index" },
      h("header", {}, h("h1", {}, document.title), h("p", {}, `${rows.length} files`)),
      h("div", { class: "bar" }, h("label", { for: "tag" }, "Sort by tag"), select),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Files" }, h("table", {}, h("thead", {}, h("tr", {}, heads)), body)),
    ),
  );
}
