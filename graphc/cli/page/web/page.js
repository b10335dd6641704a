// Parts of the page as tabs, each drawn when it is first shown.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const MOST_FOUND = 60;

document.title = data.title;
byId("title").textContent = data.title;

// --- parts ---------------------------------------------------------------------------------------------------------
let view = null;
let plots = [];

function headed(host, title, table, empty = "") {
  if (!table?.rows.length && !empty) return;
  host.append(element("h2", {}, title));
  if (table.rows.length) makeTable(host, table, view || data.graph ? showStep : null);
  else host.append(element("p", { class: "soft" }, empty));
}

function plotted(host, draw) {
  const box = element("div", { class: "plot" });
  host.append(box);
  const again = () => {
    const plot = draw(Math.max(480, (host.clientWidth || 1100) - 36));
    onPoint(plot, showStep);
    box.replaceChildren(plot);
  };
  again();
  plots.push({ host, again });
}

const DRAWN = {
  overview() {
    for (const [name, text, more] of data.cards) {
      const card = element("li", {}, element("span", {}, name), element("b", {}, text), element("span", {}, more));
      byId("cards").append(card);
    }
    byId("cards").hidden = !data.cards.length;
    for (const [name, text] of data.facts) byId("facts").append(element("dt", {}, name), element("dd", {}, text));
    const notes = (title, texts, kind) => {
      if (!texts.length) return;
      const items = texts.map((text) => element("li", { class: kind }, text));
      byId("notes").append(element("h2", {}, title), element("ul", {}, ...items));
    };
    notes("Problems", data.problems, "problem");
    notes("Warnings", data.warnings, "warning");
    notes("On the host, in NumPy", data.hosted, "host");
    if (!data.problems.length && !data.warnings.length && !data.hosted.length)
      byId("notes").append(element("p", { class: "soft" }, "No problems, and nothing runs on the host."));
    if (data.operators) {
      byId("notes").append(element("h2", {}, "Where the time goes"));
      makeTable(byId("notes"), data.operators);
    }
    if (data.pending) headed(byId("notes"), "Planned when the model runs", data.pending);
  },
  graph: drawGraph,
  profile() {
    if (!data.profile) return false;
    makeTable(byId("profile"), data.profile, showStep);
  },
  roofline() {
    if (!data.roofline?.points.length) return false;
    plotted(byId("roofline"), (width) => rooflinePlot(data, width));
    byId("roofline").append(element("p", { class: "soft" }, "Each point is a step, the larger the longer it takes; an algorithm of fewer operations (Winograd) may pass the roof."));
    byId("roofline").append(element("p", { class: "soft" }, data.roofline.about), element("p", { class: "soft" }, data.roofline.rest));
  },
  memory() {
    if (!data.memory?.buffers.length) return false;
    byId("memory").append(element("p", {}, data.memory.about));
    plotted(byId("memory"), (width) => memoryPlot(data, width));
    headed(byId("memory"), "Buffers", data.memory.table);
  },
  why() {
    if (!data.profile) return false;
    headed(byId("why"), "Fusion", data.fusion, "no node was looked at");
    headed(byId("why"), "Rewrites that matched and did not apply", data.refused, "every rewrite that matched has been applied");
    headed(byId("why"), "Passes", data.passes, "none");
  },
};

// --- the graph -----------------------------------------------------------------------------------------------------
function drawGraph() {
  if (!data.graph) return false;
  const folding = new Folding(data.graph);
  const details = new Details(byId("details"), data, folding);
  view = new GraphView(byId("canvas"), data, folding, (id) => details.show(id));
  details.reveal = (id) => view.reveal(id);
  const said = (text) => (byId("said").textContent = text);
  const redraw = (place) => {
    view.draw();
    place.call(view);
  };
  byId("fit").addEventListener("click", () => view.fit());
  byId("fold").addEventListener("click", () => {
    folding.foldAll();
    redraw(view.begin);
  });
  byId("unfold").addEventListener("click", () => {
    const more = folding.unfoldMore();
    said(more || folding.boxes().length === folding.nodes.length ? "" : `more than ${MOST_BOXES} boxes: unfold single groups`);
    if (more) redraw(view.begin);
  });
  const used = new Set(data.graph.nodes.map((node) => node.kind));
  data.graph.kinds.forEach(([word, colour], kind) => {
    if (!used.has(kind)) return;
    const swatch = element("i");
    swatch.style.setProperty("--raw", colour);
    byId("legend").append(element("li", {}, swatch, word));
  });
  searching(folding);
  redraw(view.begin);
}

function searching(folding) {
  const [input, found] = [byId("search"), byId("found")];
  const items = data.graph.nodes.map((node, i) => ({
    id: `n${i}`,
    name: node.name || node.title,
    what: node.op ?? node.title,
    text: [node.name, node.title, node.op, ...(node.outputs ?? []).map(([name]) => name)].join("\n").toLowerCase(),
  }));
  data.graph.groups.forEach((group, i) => {
    if (i && group.role !== "part") items.push({ id: `g${i}`, name: group.name || group.title, what: group.role, text: `${group.name}\n${group.title}`.toLowerCase() });
  });
  let hits = [];
  let now = -1;
  const go = (i) => {
    now = (i + hits.length) % hits.length;
    [...found.children].forEach((li, j) => li.classList.toggle("now", j === now));
    found.children[now]?.scrollIntoView({ block: "nearest" });
    view.reveal(hits[now].id);
  };
  input.addEventListener("input", () => {
    const text = input.value.trim().toLowerCase();
    hits = text ? items.filter((item) => item.text.includes(text)) : [];
    now = -1;
    byId("said").textContent = text ? `${hits.length} found` : "";
    found.replaceChildren(
      ...hits.slice(0, MOST_FOUND).map((hit, i) => {
        const li = element("li", {}, element("span", {}, hit.name), element("span", {}, hit.what));
        li.addEventListener("mousedown", (event) => {
          event.preventDefault();
          go(i);
        });
        return li;
      }),
    );
    found.hidden = !hits.length;
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") input.blur();
    else if (hits.length && (event.key === "Enter" || event.key === "ArrowDown")) go(now + (event.shiftKey ? -1 : 1));
    else if (hits.length && event.key === "ArrowUp") go(now - 1);
    else return;
    event.preventDefault();
  });
  input.addEventListener("focus", () => (found.hidden = !hits.length));
  input.addEventListener("blur", () => (found.hidden = true));
}

/** The box of a step, in the graph. */
function showStep(index) {
  if (!data.graph) return;
  const kernel = data.graph.groups.findIndex((group) => group.step === index);
  const node = data.graph.nodes.findIndex((one) => one.step === index);
  const id = kernel >= 0 ? `g${kernel}` : node >= 0 ? `n${node}` : null;
  if (id === null) return;
  show("graph");
  view.reveal(id);
}

// --- tabs ----------------------------------------------------------------------------------------------------------
const sections = [...document.querySelectorAll("main > section")];
const THERE = {
  graph: data.graph,
  profile: data.profile,
  roofline: data.roofline?.points.length,
  memory: data.memory?.buffers.length,
  why: data.profile,
};
const shown = sections.filter((section) => section.id === "overview" || THERE[section.id]);
const drawn = new Set();
for (const section of sections) if (!shown.includes(section)) section.classList.add("empty");

function draw(section) {
  if (drawn.has(section)) return;
  drawn.add(section);
  DRAWN[section.id]();
}

function show(id) {
  const chosen = shown.find((section) => section.id === id) ?? shown[0];
  for (const section of sections) section.hidden = section !== chosen;
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const selected = tab.getAttribute("aria-controls") === chosen.id;
    tab.setAttribute("aria-selected", selected);
    tab.tabIndex = selected ? 0 : -1;
  }
  draw(chosen);
  try {
    history.replaceState(null, "", `#${chosen.id}`);
  } catch {} // of a page without an address
}

const nav = document.querySelector("nav");
for (const section of shown) {
  const tab = element("button", { role: "tab", type: "button", "aria-controls": section.id }, section.dataset.title);
  section.setAttribute("role", "tabpanel");
  section.setAttribute("aria-label", section.dataset.title);
  tab.addEventListener("click", () => show(section.id));
  nav.append(tab);
}
nav.addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by) return;
  const tabs = [...nav.children];
  const next = tabs[(tabs.indexOf(document.activeElement) + by + tabs.length) % tabs.length];
  next.click();
  next.focus();
});

// --- keys, theme, size, paper --------------------------------------------------------------------------------------
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey || !data.graph) return;
  if (event.key === "/") {
    show("graph");
    byId("search").focus();
    event.preventDefault();
  } else if (event.key === "f" && view && !byId("graph").hidden) view.fit();
  else if (event.key === "Escape" && view) view.choose(null);
});
byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const next = { undefined: dark ? "light" : "dark", light: dark ? "dark" : "", dark: dark ? "" : "light" }[root.dataset.theme];
  if (next) root.dataset.theme = next;
  else delete root.dataset.theme;
});
addEventListener("resize", () => plots.filter(({ host }) => !host.hidden).forEach(({ again }) => again()));
addEventListener("beforeprint", () => {
  shown.forEach((section) => {
    section.hidden = false; // it has a size while it is drawn
    draw(section);
  });
  view?.onPaper(true);
});
addEventListener("afterprint", () => {
  view?.onPaper(false);
  show(location.hash.slice(1));
});
addEventListener("hashchange", () => show(location.hash.slice(1)));
show(location.hash.slice(1) || "overview");
document.documentElement.dataset.ready = "yes";
