"use strict";
(() => {
  const { tags, colours, rows } = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const most = 200; // rows of the table that are shown
  const canvas = byId("map"), pen = canvas.getContext("2d");
  let sort = "score", down = true, shown = rows, chosen = null;

  const clock = (s) => `${Math.floor(Math.round(s) / 60)}:${String(Math.round(s) % 60).padStart(2, "0")}`;
  const colour = (row) => colours.find(([tag]) => tag === row.present[0])?.[1] ?? "#8b95a1";
  const place = (row) => [20 + row.x * (canvas.width - 40), 20 + (1 - row.y) * (canvas.height - 40)];
  const tag = () => Number(byId("tag").value);
  const score = (row) => (tag() < 0 ? Math.max(...row.scores) : row.scores[tag()]);

  function draw() {
    pen.clearRect(0, 0, canvas.width, canvas.height);
    const kept = new Set(shown);
    for (const pass of [false, true]) {
      for (const row of rows) {
        if (kept.has(row) !== pass) continue;
        const [x, y] = place(row);
        pen.globalAlpha = pass ? 0.85 : 0.08;
        pen.fillStyle = colour(row);
        pen.beginPath();
        pen.arc(x, y, rows.length > 2000 ? 3 : 6, 0, 7);
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
    if (chosen) {
      pen.strokeStyle = getComputedStyle(document.body).color;
      pen.lineWidth = 3;
      pen.beginPath();
      pen.arc(...place(chosen), 12, 0, 7);
      pen.stroke();
    }
  }

  function cell(text, kind) {
    const found = document.createElement("td");
    if (kind) found.className = kind;
    found.textContent = text;
    return found;
  }

  function list() {
    const keys = { name: (row) => row.name.toLowerCase(), seconds: (row) => row.seconds, score };
    const key = keys[sort], sign = down ? -1 : 1;
    shown.sort((a, b) => (key(a) < key(b) ? -sign : key(a) > key(b) ? sign : 0));
    const body = document.querySelector("#tracks tbody");
    body.replaceChildren(...shown.slice(0, most).map((row) => {
      const line = document.createElement("tr"), name = document.createElement("td"), button = document.createElement("button");
      button.type = "button";
      button.textContent = row.name;
      button.title = row.href;
      button.addEventListener("click", () => choose(row));
      const about = document.createElement("div");
      about.className = "about";
      about.style.margin = "0";
      about.textContent = row.present.map((index) => tags[index]).join(", ");
      name.append(button, about);
      line.className = row === chosen ? "chosen" : "";
      line.append(name, cell(clock(row.seconds), "number"), cell((score(row) / 100).toFixed(2), "number"));
      return line;
    }));
    byId("count").textContent =
      `${shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} tracks` +
      (shown.length > most ? `; the table has the first ${most}` : "");
    for (const button of document.querySelectorAll("[data-sort]")) {
      const order = button.dataset.sort === sort ? (down ? "descending" : "ascending") : "none";
      button.closest("th").setAttribute("aria-sort", order);
    }
  }

  function choose(row) {
    chosen = row;
    byId("heard").hidden = false;
    byId("name").textContent = row.name;
    const best = row.scores.map((value, index) => [value, tags[index]]).sort((a, b) => b[0] - a[0]).slice(0, 6);
    byId("best").textContent = best.map(([value, name]) => `${name} ${(value / 100).toFixed(2)}`).join(", ");
    byId("player").src = row.href;
    update(false);
  }

  function update(filter = true) {
    if (filter) {
      const text = byId("text").value.toLowerCase(), least = Number(byId("least").value), without = Number(byId("without").value);
      byId("shown").textContent = (least / 100).toFixed(2);
      shown = rows.filter((row) =>
        (!text || row.href.toLowerCase().includes(text) || row.name.toLowerCase().includes(text)) &&
        score(row) >= least && (without < 0 || !row.present.includes(without)));
    }
    list();
    draw();
  }

  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let best = null, least = 900;
    for (const row of shown) {
      const [a, b] = place(row), distance = (a - x) ** 2 + (b - y) ** 2;
      if (distance < least) [best, least] = [row, distance];
    }
    if (best) choose(best);
  });
  for (const button of document.querySelectorAll("[data-sort]")) {
    button.addEventListener("click", () => {
      down = button.dataset.sort === sort ? !down : button.dataset.sort === "score";
      sort = button.dataset.sort;
      update(false);
    });
  }
  byId("filters").addEventListener("input", () => update());
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("legend").replaceChildren(...colours.map(([index, value]) => {
    const item = document.createElement("li"), button = document.createElement("button"), dot = document.createElement("i");
    dot.style.background = value;
    button.type = "button";
    button.append(dot, tags[index]);
    button.addEventListener("click", () => {
      byId("tag").value = String(index);
      update();
    });
    item.append(button);
    return item;
  }));
  update();
})();
