// The plots: Observable Plot draws axes, marks and tips.
const NARROWEST_STEP = 5; // pixels of a step of the memory plan
const UNITS = [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]];

function unitOf(bytes) {
  return UNITS.find(([size]) => bytes >= size) ?? [1, "B"];
}

function memoryPlot(data, width) {
  const { memory, graph, steps } = data;
  const [size, unit] = unitOf(memory.arena);
  const labels = new Map(steps.map((step) => [step.index, step.label]));
  const kind = (b) => graph.step_kinds[b.step];
  const word = (b) => (kind(b) === undefined ? "other" : graph.kinds[kind(b)][0]);
  const used = [...new Set(memory.buffers.map(word))];
  return Plot.plot({
    width: Math.max(width, 90 + NARROWEST_STEP * memory.steps),
    height: 420,
    marginLeft: 56,
    color: { domain: used, range: used.map((w) => graph.kinds.find(([name]) => name === w)[1]), legend: true },
    x: { label: "step", domain: [0, Math.max(1, memory.steps)], tickFormat: "d", ticks: stepTicks(memory.steps, width) },
    y: { label: `offset in the arena, ${unit}`, domain: [0, memory.arena / size || 1], grid: true },
    marks: [
      Plot.rect(memory.buffers, {
        x1: "first",
        x2: (b) => b.last + 1,
        y1: (b) => b.offset / size,
        y2: (b) => (b.offset + b.nbytes) / size,
        fill: { value: word, label: "kind" },
        fillOpacity: 0.55,
        stroke: word,
        strokeWidth: 0.8,
        insetLeft: 0.5,
        insetRight: 0.5,
        tip: { format: { x: false, x1: false, x2: false, y: false, y1: false, y2: false, fill: true, stroke: false } },
        channels: {
          buffer: (b) => cut(b.name, 60),
          size: "size",
          "made by": (b) => cut(labels.get(b.first) ?? "", 60),
          "in use": (b) => `steps ${b.first} to ${b.last}`,
        },
      }),
      Plot.ruleY([memory.lower_bound / size], { stroke: "currentColor", strokeDasharray: "5 4" }),
      Plot.text([memory.lower_bound / size], { y: (d) => d, frameAnchor: "right", textAnchor: "end", dy: 8, text: () => "most in use at once" }),
      Plot.ruleY([0]),
    ],
  });
}

/** Whole numbers. */
function stepTicks(steps, width) {
  return d3.ticks(0, steps, Math.max(2, width / 80)).filter(Number.isInteger);
}

function rooflinePlot(data, width) {
  const { points, roofs, rates } = data.roofline;
  const xs = points.map((p) => p.x);
  const fastest = rates[0].rate;
  const slowest = rates[rates.length - 1].rate;
  const peak = Math.max(...roofs.map((roof) => roof.peak), ...points.map((p) => p.y));
  const left = Math.min(...xs, peak / fastest / 4) / 1.5;
  const right = Math.max(...xs, peak / slowest * 2) * 1.5;
  const slopes = rates.flatMap((rate) => {
    const ends = Math.max(...roofs.map((roof) => roof.peak)) / rate.rate;
    return [left, ends].map((x) => ({ ...rate, x, y: (x * rate.rate) / 1e9 }));
  });
  const flats = roofs.flatMap((roof) => [Math.min(roof.peak / fastest, right), right].map((x) => ({ ...roof, x, y: roof.peak / 1e9 })));
  const low = Math.min(...points.map((p) => p.y / 1e9), ...slopes.map((s) => s.y)) / 1.5;
  const types = [...new Set([...roofs.map((roof) => roof.type), ...points.map((p) => p.type)])];
  return Plot.plot({
    width,
    height: 520,
    marginLeft: 60,
    marginRight: 90,
    color: { domain: types, scheme: "observable10", legend: true },
    r: { range: [2, 16], domain: [0, Math.max(...points.map((p) => p.part))] },
    x: { type: "log", label: "operations per byte", domain: [left, right], grid: true, tickFormat: "~g" },
    y: { type: "log", label: "GFLOP/s", domain: [low, (peak / 1e9) * 2], grid: true, tickFormat: "~g" },
    marks: [
      Plot.line(slopes, { x: "x", y: "y", z: "size", stroke: "currentColor", strokeOpacity: 0.55, clip: true }),
      ...[false, true].map((below) =>
        Plot.text(rates.filter((rate, i) => below === Boolean(i && rates[i - 1].rate < 1.4 * rate.rate)), {
        x: left * 1.15,
        y: (r) => (left * 1.15 * r.rate) / 1e9,
        text: (r) => `${(r.rate / 1e9).toPrecision(3)} GB/s of ${r.size}`,
        textAnchor: "start",
        dy: below ? 13 : -11,
        stroke: "var(--bg)",
        fill: "currentColor",
      })),
      Plot.line(flats, { x: "x", y: "y", z: "type", stroke: "type", strokeWidth: 2 }),
      Plot.text(roofs, { x: right, y: (r) => r.peak / 1e9, text: (r) => `${r.type}\n${(r.peak / 1e9).toPrecision(3)}`, textAnchor: "start", dx: 5, fill: "type" }),
      Plot.dot(points, {
        x: "x",
        y: (p) => p.y / 1e9,
        r: "part",
        fill: "type",
        fillOpacity: 0.55,
        stroke: "type",
        tip: { format: { x: ".3~g", y: ".3~g", r: false, stroke: false } },
        channels: {
          step: (p) => `${p.step} ${cut(p.label, 60)}`,
          kernel: (p) => cut(p.kernel, 60),
          time: (p) => `${p.time}, ${(100 * p.part).toFixed(1)} %`,
          "of the roofline": "of",
        },
      }),
    ],
  });
}

/** A point that is clicked: Plot has what its tip shows as the value. */
function onPoint(plot, act) {
  plot.addEventListener("click", () => plot.value && act(plot.value.step));
}
