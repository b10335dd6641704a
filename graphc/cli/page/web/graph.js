// The picture of the graph: laid out by dagre, moved by d3.
const TITLE_FONT = "600 12px system-ui, 'DejaVu Sans', sans-serif";
const DETAIL_FONT = "10.5px system-ui, 'DejaVu Sans', sans-serif";
const SIDE = 14; // between text and border
const FULL = 1; // scale of a picture that is not made smaller

const measure = (() => {
  const context = document.createElement("canvas").getContext("2d");
  return (text, font) => {
    context.font = font;
    return context.measureText(text).width;
  };
})();

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** The upper left corner of a group's frame. */
const cornersOf = (laid) => (g) => {
  const { x, y, width, height } = laid.node(`g${g}`);
  return { x: x - width / 2, y: y - height / 2 };
};

class GraphView {
  constructor(host, data, folding, onChoose) {
    Object.assign(this, { data, folding, onChoose });
    this.kinds = data.graph.kinds;
    this.steps = new Map(data.steps?.map((step) => [step.index, step]) ?? []);
    this.most = Math.max(1e-30, ...[...this.steps.values()].map((step) => step.part ?? 0));
    this.parts = data.graph.groups.map((_, g) => this.partOf(g));
    this.svg = d3.select(host).append("svg").attr("role", "group").attr("aria-label", "Graph of the model");
    const arrow = this.svg.append("defs").append("marker").attr("id", "arrow").attr("viewBox", "0 0 8 8");
    arrow.attr("refX", 7).attr("refY", 4).attr("markerWidth", 8).attr("markerHeight", 8).attr("markerUnits", "userSpaceOnUse").attr("orient", "auto");
    arrow.append("path").attr("d", "M0 0L8 4L0 8z");
    this.body = this.svg.append("g");
    this.zoom = d3.zoom().scaleExtent([0.02, 4]).on("zoom", (event) => this.body.attr("transform", event.transform));
    this.svg.call(this.zoom).on("dblclick.zoom", null);
    this.svg.on("click", (event) => event.target === this.svg.node() && this.choose(null));
    this.svg.on("keydown", (event) => this.key(event));
  }

  /** The part of the time that steps in a group take. */
  partOf(g) {
    const within = new Set(this.folding.within(g).map((n) => this.data.graph.nodes[n].step));
    return [...within].reduce((sum, index) => sum + (this.steps.get(index)?.part ?? 0), 0);
  }

  /** What a box says and how large it is. */
  shape(id) {
    const item = this.folding.of(id);
    const group = id[0] === "g";
    const step = this.steps.get(item.step);
    const kernel = !group || item.role === "kernel" || item.role === "graph";
    const lines = item.detail ? [cut(item.detail, 44)] : [];
    let part = kernel ? step?.part : this.parts[Number(id.slice(1))] || undefined;
    if (!group && this.folding.groups[item.parent].role === "kernel") part = undefined; // the frame around it has it
    if (kernel && part !== undefined) lines.push(`${step.time} · ${(100 * part).toFixed(1)} %`);
    else if (group) {
      const count = `${this.folding.within(Number(id.slice(1))).length} operators`;
      lines.push(part === undefined ? count : `${count} · ${(100 * part).toFixed(1)} %`);
    }
    const title = cut(item.title || item.name || item.op || "", 40);
    const widest = Math.max(measure(title, TITLE_FONT) + (group ? 26 : 0), ...lines.map((line) => measure(line, DETAIL_FONT)));
    const kind = group ? this.kindOf(item, id) : item.kind;
    return { id, item, title, lines, part, kind, group, step, width: Math.max(64, widest + 2 * SIDE), height: 26 + 14 * lines.length + (part === undefined ? 0 : 4) };
  }

  /** A kernel has the kind of its heaviest node; a block that of folded ones. */
  kindOf(item, id) {
    const known = item.role === "kernel" || item.role === "graph" ? this.data.graph.step_kinds[item.step] : undefined;
    return known ?? this.kinds.findIndex(([word]) => word.startsWith("block"));
  }

  layout() {
    const laid = new dagre.graphlib.Graph({ compound: true, multigraph: false });
    laid.setGraph({ ranksep: 34, nodesep: 22, edgesep: 12, marginx: 20, marginy: 20 });
    const within = (id) => {
      const parent = this.folding.of(id).parent;
      if (parent > 0) laid.setParent(id, `g${parent}`);
    };
    for (const g of this.folding.frames()) laid.setNode(`g${g}`, {});
    for (const g of this.folding.frames()) within(`g${g}`);
    const shapes = this.folding.boxes().map((id) => this.shape(id));
    for (const shape of shapes) {
      laid.setNode(shape.id, { width: shape.width, height: shape.height });
      within(shape.id);
    }
    const edges = this.folding.drawn();
    for (const edge of edges) {
      const types = [...edge.types];
      edge.lines = types.length > 2 ? [...types.slice(0, 2), "…"] : types;
      const width = Math.max(0, ...edge.lines.map((line) => measure(line, "9.5px system-ui, sans-serif")));
      laid.setEdge(edge.source, edge.target, { width, height: 11 * edge.lines.length, labelpos: "c" });
    }
    dagre.layout(laid);
    for (const shape of shapes) Object.assign(shape, { x: laid.node(shape.id).x, y: laid.node(shape.id).y });
    return { laid, shapes, edges };
  }

  /** stay: the box or frame that keeps its place on the screen. */
  draw(stay = null) {
    const before = stay && this.placeOf(stay);
    const { laid, shapes, edges } = this.layout();
    Object.assign(this, { laid, shapes: new Map(shapes.map((shape) => [shape.id, shape])) });
    this.body.selectAll("*").remove();
    this.drawFrames(laid);
    const line = d3.line((p) => p.x, (p) => p.y).curve(d3.curveBasis);
    const lines = this.body.append("g").selectAll("path").data(edges).join("path");
    lines.attr("class", "edge").attr("marker-end", "url(#arrow)");
    lines.attr("d", (e) => line(laid.edge(e.source, e.target).points));
    lines.append("title").text((e) => [...e.values].slice(0, 12).join("\n"));
    this.lines = lines;
    const labels = edges.flatMap((e) => e.lines.map((text, i) => ({ text, i, n: e.lines.length, at: laid.edge(e.source, e.target) })));
    const types = this.body.append("g").selectAll("text").data(labels.filter((l) => l.at.x !== undefined)).join("text");
    types.attr("class", "type").attr("x", (l) => l.at.x).attr("y", (l) => l.at.y + 3 + 11 * (l.i - (l.n - 1) / 2));
    types.text((l) => l.text);
    this.drawTitles(laid);
    this.drawBoxes(shapes);
    this.mark();
    const after = stay && this.placeOf(stay);
    if (before && after) {
      const { k, x, y } = d3.zoomTransform(this.svg.node());
      const moved = d3.zoomIdentity.translate(x + k * (before.x - after.x), y + k * (before.y - after.y)).scale(k);
      this.svg.call(this.zoom.transform, moved);
    }
  }

  placeOf(id) {
    const shown = this.folding.isFrame(id) ? id : this.folding.shownAs(id);
    const found = this.laid?.node(shown) ?? this.laid?.node(id);
    return found && { x: found.x, y: found.y - found.height / 2 };
  }

  drawFrames(laid) {
    const frames = this.body.append("g").selectAll("g").data(this.folding.frames()).join("g");
    frames.attr("class", (g) => `frame ${this.folding.groups[g].role}`);
    const corner = cornersOf(laid);
    const rect = frames.append("rect").attr("class", "around").attr("rx", 8);
    rect.attr("x", (g) => corner(g).x).attr("y", (g) => corner(g).y);
    rect.attr("width", (g) => laid.node(`g${g}`).width).attr("height", (g) => laid.node(`g${g}`).height);
  }

  /** Above the edges. */
  drawTitles(laid) {
    const corner = cornersOf(laid);
    const frames = this.body.append("g").selectAll("g").data(this.folding.frames()).join("g").attr("class", "frame");
    const title = frames.append("text").attr("x", (g) => corner(g).x + 8).attr("y", (g) => corner(g).y + 14);
    title.text((g) => `− ${this.frameTitle(g, laid.node(`g${g}`).width)}`);
    title.attr("tabindex", 0).attr("role", "button").attr("data-id", (g) => `g${g}`);
    title.attr("aria-label", (g) => `Fold ${this.folding.groups[g].title}`);
    title.append("title").text((g) => `${this.folding.groups[g].name || this.folding.groups[g].title}: click to fold`);
    title.on("click", (_, g) => this.toggle(`g${g}`));
  }

  frameTitle(g, width) {
    const { title, detail, role } = this.folding.groups[g];
    const text = role === "kernel" ? detail : title;
    return cut(text, Math.max(3, Math.floor((width - 22) / 6.2)));
  }

  drawBoxes(shapes) {
    const boxes = this.body.append("g").selectAll("g").data(shapes, (s) => s.id).join("g");
    boxes.attr("class", (s) => `box${s.group ? " group" : ""}${s.step?.host ? " host" : ""}`).attr("data-id", (s) => s.id);
    boxes.attr("transform", (s) => `translate(${s.x - s.width / 2} ${s.y - s.height / 2})`);
    boxes.style("--raw", (s) => this.kinds[s.kind][1]);
    boxes.attr("tabindex", (_, i) => (i ? -1 : 0)).attr("role", "button").attr("aria-label", (s) => [s.title, s.item.name, ...s.lines].join(", "));
    boxes.append("title").text((s) => s.item.name || s.title);
    const sheets = boxes.filter((s) => s.group).append("rect").attr("class", "sheet").attr("rx", 6).attr("x", 4).attr("y", 4);
    sheets.attr("width", (s) => s.width).attr("height", (s) => s.height);
    const back = boxes.append("rect").attr("class", "back").attr("rx", (s) => (s.item.op === "input" || s.item.op === "output" ? 12 : 6));
    back.attr("width", (s) => s.width).attr("height", (s) => s.height);
    const title = boxes.append("text").attr("class", "title").attr("x", (s) => s.width / 2 - (s.group ? 9 : 0)).attr("y", 17);
    title.text((s) => s.title);
    boxes.each(function (s) {
      s.lines.forEach((line, i) => {
        d3.select(this).append("text").attr("class", "detail").attr("x", s.width / 2).attr("y", 31 + 14 * i).text(line);
      });
    });
    const timed = boxes.filter((s) => s.part !== undefined);
    for (const [name, width] of [["track", (s) => s.width - 12], ["part", (s) => (s.width - 12) * Math.min(1, s.part / this.most)]])
      timed.append("rect").attr("class", name).attr("rx", 1.5).attr("x", 6).attr("y", (s) => s.height - 5.5).attr("height", 3).attr("width", width);
    const sign = boxes.filter((s) => s.group).append("g").attr("class", "sign").attr("transform", (s) => `translate(${s.width - 20} 5)`);
    sign.append("rect").attr("width", 15).attr("height", 15).attr("rx", 4);
    sign.append("text").attr("x", 7.5).attr("y", 12).text("+");
    sign.on("click", (event, s) => {
      event.stopPropagation();
      this.toggle(s.id);
    });
    boxes.on("click", (_, s) => this.choose(s.id)).on("dblclick", (_, s) => s.group && this.toggle(s.id));
  }

  toggle(id) {
    const g = Number(id.slice(1));
    if (this.folding.isFrame(id)) this.folding.fold(g);
    else this.folding.unfold(g);
    this.draw(id);
    const now = this.folding.isFrame(id) ? `.frame text[data-id="${id}"]` : `.box[data-id="${id}"]`;
    this.body.select(now).node()?.focus({ preventScroll: true });
  }

  choose(id) {
    this.chosen = id;
    this.mark();
    this.onChoose(id);
  }

  mark() {
    const shown = this.chosen && (this.folding.isFrame(this.chosen) ? this.chosen : this.folding.shownAs(this.chosen));
    this.body.selectAll(".box").classed("chosen", (s) => s.id === shown);
    this.lines.classed("near", (e) => shown && (e.source === shown || e.target === shown)).filter(".near").raise();
  }

  /** Unfold what is around it, choose it, and move there. */
  reveal(id) {
    const around = this.folding.above(id);
    if (around.some((g) => !this.folding.open.has(g))) {
      this.folding.unfold(around[around.length - 1]);
      this.draw();
    }
    this.choose(id);
    this.centre(id);
  }

  centre(id) {
    const place = this.laid.node(this.folding.isFrame(id) ? id : this.folding.shownAs(id));
    const { width, height } = this.svg.node().getBoundingClientRect();
    const k = Math.max(d3.zoomTransform(this.svg.node()).k, 0.9);
    this.svg.call(this.zoom.transform, d3.zoomIdentity.translate(width / 2 - k * place.x, height / 2 - k * place.y).scale(k));
  }

  fit() {
    const { width, height } = this.svg.node().getBoundingClientRect();
    const { width: w, height: h } = this.laid.graph();
    const k = Math.min(FULL, width / w, height / h);
    this.svg.call(this.zoom.transform, d3.zoomIdentity.translate((width - k * w) / 2, (height - k * h) / 2).scale(k));
  }

  /** The beginning of the graph, large enough to read. */
  begin() {
    const { width, height } = this.svg.node().getBoundingClientRect();
    const { width: w, height: h } = this.laid.graph();
    const k = Math.min(FULL, Math.max(width / w, 0.7), Math.max(height / h, 0.7));
    const first = this.shapes.values().next().value;
    const x = k * w <= width ? (width - k * w) / 2 : width / 2 - k * (first?.x ?? w / 2);
    this.svg.call(this.zoom.transform, d3.zoomIdentity.translate(x, k * h <= height ? (height - k * h) / 2 : 0).scale(k));
  }

  key(event) {
    const id = event.target.dataset?.id;
    const arrows = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
    if (event.key === "+" || event.key === "-") this.svg.call(this.zoom.scaleBy, event.key === "+" ? 1.25 : 0.8);
    else if (id && event.key === " ") id[0] === "g" && this.toggle(id);
    else if (id && event.key === "Enter") this.folding.isFrame(id) ? this.toggle(id) : this.choose(id);
    else if (id && arrows[event.key]) this.step(id, arrows[event.key]);
    else return;
    event.preventDefault();
  }

  /** To the nearest box that way. */
  step(id, [right, down]) {
    const from = this.shapes.get(id) ?? this.laid.node(id);
    const score = (s) => {
      const [along, across] = [(s.x - from.x) * right + (s.y - from.y) * down, (s.x - from.x) * down + (s.y - from.y) * right];
      return along > 1 ? along + 2 * Math.abs(across) : Infinity;
    };
    const next = [...this.shapes.values()].filter((s) => s.id !== id).reduce((a, b) => (a && score(a) <= score(b) ? a : b), null);
    if (!next || score(next) === Infinity) return;
    this.body.selectAll(".box").attr("tabindex", (s) => (s.id === next.id ? 0 : -1));
    this.body.select(`.box[data-id="${next.id}"]`).node().focus({ preventScroll: true });
    this.centre(next.id);
  }

  /** For paper: all of it, whatever is on the screen. */
  onPaper(yes) {
    const { width, height } = this.laid.graph();
    this.svg.attr("viewBox", yes ? `0 0 ${width} ${height}` : null);
    this.body.attr("transform", yes ? null : d3.zoomTransform(this.svg.node()));
  }
}
