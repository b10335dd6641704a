// Which groups of the graph are unfolded, and what is to be seen so: boxes, frames around them, edges between them.
const MOST_BOXES = 160; // that are laid out while one waits
const FIRST_BOXES = 60; // that are shown at first, where folding can help

class Folding {
  constructor(graph) {
    Object.assign(this, { groups: graph.groups, nodes: graph.nodes, edges: graph.edges });
    this.children = this.groups.map(() => []); // 'g3' is a group, 'n7' a node
    this.groups.forEach((group, i) => group.parent >= 0 && this.children[group.parent].push(`g${i}`));
    const first = new Map(); // node of each
    this.nodes.forEach((node, i) => {
      this.children[node.parent].push(`n${i}`);
      first.set(`n${i}`, i);
      for (const g of this.above(`n${i}`)) if (!first.has(`g${g}`)) first.set(`g${g}`, i);
    });
    for (const inner of this.children) inner.sort((a, b) => first.get(a) - first.get(b));
    this.open = new Set([0]); // in the order in which they were unfolded
    this.openFirst();
  }

  of(id) {
    return (id[0] === "g" ? this.groups : this.nodes)[Number(id.slice(1))];
  }

  /** The groups around it, outermost first. */
  above(id) {
    const found = [];
    for (let g = this.of(id).parent; g >= 0; g = this.groups[g].parent) found.unshift(g);
    return found;
  }

  /** The box that stands for it: itself, or the outermost folded group around it. */
  shownAs(id) {
    const folded = this.above(id).find((g) => !this.open.has(g));
    return folded === undefined ? id : `g${folded}`;
  }

  isFrame(id) {
    return id[0] === "g" && this.shownAs(id) === id && this.open.has(Number(id.slice(1)));
  }

  boxes(open = this.open) {
    const found = [];
    const visit = (g) => {
      for (const id of this.children[g])
        if (id[0] === "g" && open.has(Number(id.slice(1)))) visit(Number(id.slice(1)));
        else found.push(id);
    };
    visit(0);
    return found;
  }

  frames() {
    return [...this.open].filter((g) => g > 0 && this.isFrame(`g${g}`)).sort((a, b) => a - b);
  }

  /** Nodes in a group, at any depth. */
  within(g) {
    return this.children[g].flatMap((id) => (id[0] === "g" ? this.within(Number(id.slice(1))) : [Number(id.slice(1))]));
  }

  /** Level by level while all of a level fits; of one that does not, its first group, as an example. */
  openFirst() {
    for (let level = [0]; level.length; ) {
      const next = level.flatMap((g) => this.inner(g)).filter((g) => this.groups[g].role !== "kernel");
      const all = new Set([...this.open, ...next]);
      if (this.boxes(all).length > FIRST_BOXES) {
        if (next.length && this.boxes(new Set([...this.open, next[0]])).length <= FIRST_BOXES) this.open.add(next[0]);
        return;
      }
      this.open = all;
      level = next;
    }
  }

  inner(g) {
    return this.children[g].filter((id) => id[0] === "g").map((id) => Number(id.slice(1)));
  }

  fold(g) {
    this.open.delete(g);
  }

  /** Those around it, too. What was unfolded first is folded again where there would be too many boxes. */
  unfold(g) {
    const needed = [...this.above(`g${g}`), g];
    for (const one of needed) this.open.delete(one);
    for (const one of needed) this.open.add(one);
    this.open.add(0);
    for (const one of [...this.open])
      if (this.boxes().length > MOST_BOXES && one > 0 && !needed.includes(one)) this.open.delete(one);
  }

  foldAll() {
    this.open = new Set([0]);
  }

  /** All groups, where so many boxes can be laid out; else a level more. Says whether that changed anything. */
  unfoldMore() {
    const all = new Set(this.groups.keys());
    const level = new Set([...this.open, ...[...this.open].flatMap((g) => this.inner(g))]);
    const next = [all, level].find((open) => this.boxes(open).length <= MOST_BOXES && open.size > this.open.size);
    if (next) this.open = next;
    return Boolean(next);
  }

  /** Edges between boxes: of each the values, of which the first to show one has its type. */
  drawn() {
    const found = new Map();
    const told = new Set();
    for (const [from, to, type, value] of this.edges) {
      const [source, target] = [this.shownAs(`n${from}`), this.shownAs(`n${to}`)];
      if (source === target) continue;
      const key = `${source} ${target}`;
      if (!found.has(key)) found.set(key, { source, target, types: new Set(), values: new Set() });
      const edge = found.get(key);
      edge.values.add(value);
      if (type && !told.has(`${from} ${value}`)) edge.types.add(type);
      told.add(`${from} ${value}`);
    }
    return [...found.values()];
  }
}
