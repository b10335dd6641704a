// What is known of a node or a group that is chosen.
function list(pairs) {
  return element("dl", {}, ...pairs.flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]));
}

class Details {
  constructor(host, data, folding) {
    Object.assign(this, { host, data, folding });
    this.steps = new Map(data.steps?.map((step) => [step.index, step]) ?? []);
    this.reveal = () => {};
    this.show(null);
  }

  show(id) {
    const parts = id === null ? this.hints() : id[0] === "g" ? this.group(id) : this.node(this.data.graph.nodes[Number(id.slice(1))]);
    this.host.replaceChildren(...parts);
    this.host.scrollTop = 0;
  }

  hints() {
    return [
      element("h2", {}, "Nothing chosen"),
      element("p", { class: "soft" }, "Click a box: attributes, types, where it comes from, its kernel and its time."),
      element("p", { class: "soft" }, "+ unfolds a group, a click on a frame's title folds it. The wheel zooms, dragging moves."),
      element("p", { class: "soft" }, "Keys: / search, f fit, arrows go from box to box, Enter chooses, space unfolds."),
    ];
  }

  node(node) {
    const parts = [element("h2", {}, node.name || node.title), list([["operator", node.op ?? node.title], ...this.origin(node)])];
    return [...parts, ...this.rest(node), ...this.step(node.step)];
  }

  origin(item) {
    return item.source ? [["from", item.source]] : [];
  }

  rest(item) {
    const parts = [];
    const section = (title, pairs) => pairs?.length && parts.push(element("h3", {}, title), list(pairs));
    section("Attributes", item.attributes);
    section("Inputs", item.inputs?.map(([name, type, held]) => [name, held ? `${type}\n${held}` : type]));
    section("Outputs", item.outputs);
    return parts;
  }

  step(index) {
    const step = this.steps.get(index);
    return step ? [element("h3", {}, `Step ${index}`), list(step.told)] : [];
  }

  group(id) {
    const group = this.folding.of(id);
    const nodes = this.folding.within(Number(id.slice(1)));
    const roles = { block: "block", kernel: "nodes in one kernel", graph: "graph that a node holds", part: "part of a long block" };
    const steps = new Set(nodes.map((n) => this.data.graph.nodes[n].step).filter((index) => this.steps.has(index)));
    const facts = [["what", roles[group.role]], ["operators", String(nodes.length)]];
    if (group.role !== "kernel") facts.push(["steps", String(steps.size)]);
    const timed = [...steps].map((index) => this.steps.get(index).part).filter((part) => part !== undefined);
    if (timed.length) facts.push(["of the time", `${(100 * timed.reduce((a, b) => a + b, 0)).toFixed(1)} %`]);
    const items = nodes.slice(0, 60).map((n) => {
      const node = this.data.graph.nodes[n];
      const button = element("button", { type: "button" }, `${node.title} ${node.name}`);
      button.addEventListener("click", () => this.reveal(`n${n}`));
      return button;
    });
    const more = nodes.length > 60 ? [element("p", { class: "soft" }, `and ${nodes.length - 60} more`)] : [];
    return [
      element("h2", {}, group.title || group.name),
      list([...facts, ...(group.op ? [["operator", group.op]] : []), ...this.origin(group)]),
      ...this.rest(group),
      ...(group.role === "kernel" || group.role === "graph" ? this.step(group.step) : []),
      element("h3", {}, "Nodes"),
      ...items,
      ...more,
    ];
  }
}
