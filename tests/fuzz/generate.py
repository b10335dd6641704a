"""A whole model from a seed and a number: dims, inputs, steps, results, options."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto

from graphc import pipeline
from graphc.backends.cpu.parts import PARTS
from graphc.op import all_ops

from .case import Case, Options
from .draft import Dim, Draft, Reject, Shared, Tensor
from .draws import BFLOAT16, BOOL, F32, SMALL, Draw
from .steps import FAMILIES, STEPS, Step, load

OPSETS = (7, 8, 9, 10, 11, 12, 13, 13, 15, 16, 17, 17, 18, 18, 19, 20, 21, 21, 22, 23, 24, 25, 26, 28)
TRIES = 4  # rejected steps for each that is wanted
NAMES = sorted({p.name for p in (*pipeline.SHAPE_FREE, *pipeline.bound(all_ops()))} | {p.name for p in PARTS})

# kinds of models: how much of each family
KINDS: Mapping[str, Mapping[str, float]] = {
    "network": {"images": 4, "nets": 6, "elementwise": 1.5, "shape": 1, "reduce": 0.5, "index": 0.3, "quantize": 0.2},
    "images": {"images": 6, "nets": 2, "elementwise": 2, "shape": 3, "reduce": 1, "index": 0.5, "domains": 0.5},
    "sequence": {"products": 6, "reduce": 2.5, "elementwise": 2, "shape": 2, "index": 0.7, "recurrent": 1, "quantize": 0.3},
    "tensors": {"elementwise": 4, "shape": 4, "reduce": 2, "products": 1, "index": 2, "domains": 0.7, "control": 0.3},
    "ranks": {"elementwise": 6, "shape": 3, "reduce": 2},
    "integers": {"elementwise": 5, "shape": 3, "index": 3, "reduce": 1, "control": 0.5},
    "quantized": {"quantize": 6, "images": 1, "products": 1, "elementwise": 1, "shape": 1},
    "control": {"control": 4, "elementwise": 3, "shape": 2, "reduce": 1, "products": 1, "index": 0.5},
    "any": dict.fromkeys(FAMILIES, 1.0),
    "domains": {"domains": 4, "elementwise": 1, "shape": 1},
    "sampled": {"sampling": 6, "images": 1.5, "elementwise": 1, "shape": 1, "index": 1},
    "held": {"sequences": 4, "control": 3, "elementwise": 1.5, "shape": 1.5, "index": 1},
    "microsoft": {"microsoft": 6, "products": 1, "elementwise": 1, "shape": 1, "quantize": 0.5},
    "learned": {"learned": 5, "elementwise": 1, "shape": 1, "index": 0.5, "reduce": 0.5},
    "small": {"small": 5, "shape": 2, "elementwise": 1, "products": 1, "quantize": 1},
}  # fmt: skip
OFTEN = (
    ("network",) * 4
    + ("images",) * 2
    + ("sequence",) * 3
    + ("tensors",) * 2
    + ("ranks", "integers", "quantized", "control", "any", "any", "domains", "domains")
    + ("sampled", "held", "microsoft", "microsoft", "learned", "small")
)


def generate(seed: int, i: int) -> Case:
    """Model i of a seed. The same for the same text of graphc and of this package."""
    draw = Draw(seed, i)
    kind = draw.one_of(*OFTEN)
    opset = draw.one_of(*OPSETS)
    dtype = F32
    if draw.chance(0.2):
        dtype = draw.one_of(np.dtype("float64"), np.dtype("float64"), np.dtype("float16"), BFLOAT16)
    dims = open_dims(draw)
    nameless = draw.one_of(*[""] * 8, "?", "none")
    shared = Shared(draw, Draw(seed, i, 1), opset, dims, special=draw.chance(0.06))
    draft = Draft(shared)
    first_inputs(draft, kind, dtype)
    run_steps(draft, KINDS[kind], draw.one_of(2, 3, 4, 5, 6, 8, 10, 14))
    return finished(draft, kind, options(draw, shared.special), nameless)


def open_dims(draw: Draw) -> dict[str, tuple[int, ...]]:
    """Names of open dims, and their sizes in each world; none for most models. Now and then a size is 0."""
    if not draw.chance(0.35):
        return {}
    worlds = draw.count(2, 3)

    def sizes(*choices: int) -> tuple[int, ...]:
        found = draw.shuffled(choices)[:worlds]
        if draw.chance(0.08):
            found[draw.count(0, worlds - 1)] = 0
        return tuple(found)

    dims = {"batch": sizes(1, 2, 3, 5)}
    if draw.chance(0.5):
        dims |= {"height": sizes(6, 8, 9, 12), "width": sizes(7, 8, 10, 16)}
    if draw.chance(0.6):
        dims["length"] = sizes(1, 2, 5, 9)
    return dims


def options(draw: Draw, special: bool) -> Options:
    """Names of passes and parts to leave out, and how to run. special: algorithms that carry a NaN to other results are left out."""
    disabled: list[str] = []
    if draw.chance(0.3):
        disabled = list(NAMES) if draw.chance(0.2) else draw.some(NAMES, draw.one_of(0.1, 0.3, 0.6))
    if special:
        return Options(draw.count(1, 2), tuple({*disabled, "strassen"}), 0)
    return Options(draw.count(1, 2), tuple(disabled), draw.one_of(6, 6, 6, 4, 2, 0))


def first_inputs(d: Draft, kind: str, dtype: np.dtype) -> None:
    """One to three inputs such as the kind of model has."""
    batch = "batch" if "batch" in d.shared.dims else d.draw.one_of(1, 1, 2, 3)
    height, width = (n if n in d.shared.dims else d.draw.one_of(4, 6, 7, 8, 12) for n in ("height", "width"))
    length = "length" if "length" in d.shared.dims else d.draw.one_of(1, 1, 2, 5, 9)
    wide = d.draw.one_of(4, 8, 16, 17, 24, 32)
    channels = d.draw.one_of(1, 3, 4, 7, 8, 8, 16, 16, 24, 32)
    if kind in ("network", "images", "quantized", "any", "sampled"):
        d.input(dtype, (batch, channels, height, width))
        if d.draw.chance(0.2):
            spatial = (length if d.draw.chance(0.5) else 9,) if d.draw.chance(0.6) else (3, 4, 5)
            d.input(dtype, (batch, channels, *spatial))
        if kind == "quantized":
            d.input("uint8", (batch, d.draw.one_of(1, 4, 8), 5, 6), 0, 255)
    if kind in ("sequence", "any", "control", "tensors", "quantized", "microsoft", "held", "small"):
        d.input(
            dtype, d.draw.one_of((batch, length, wide), (batch, length, wide), (batch, wide), (length, batch, wide))
        )
    if kind in ("tensors", "control", "domains", "any", "learned", "held", "small", "sampled"):
        some_input(d, dtype, d.draw.count(0, 4))
    if kind == "ranks":
        for _ in range(2):
            some_input(d, dtype, d.draw.count(3, 8))
    if kind == "integers":
        for _ in range(2):
            integers = d.draw.one_of("int64", "int32", "int8", "uint8", "int16", "uint16", "uint32", "uint64")
            some_input(d, integers, d.draw.count(0, 3), -100, 200)
        some_input(d, BOOL, d.draw.count(0, 3))
    if d.draw.chance(0.08):
        with_default(d, dtype)


def some_input(d: Draft, dtype, rank: int, low: float = -2, high: float = 2) -> Tensor:
    shape: list[Dim] = list(d.draw.shape(rank, 800, zeros=d.draw.chance(0.08)))
    if shape and "batch" in d.shared.dims and d.draw.chance(0.5):
        shape[d.draw.count(0, rank - 1)] = "batch"
    return d.input(dtype, shape, low, high)


def with_default(d: Draft, dtype) -> None:
    """An initializer that is listed among the inputs; the caller's value wins where one is given."""
    x = d.input(dtype, d.draw.shape(d.draw.count(0, 2), 40))
    entry = d.inputs[-1]
    entry.default = x.native(0)
    if d.draw.chance(0.5):
        entry.default = d.draw.array(dtype, x.shape)


def run_steps(d: Draft, families: Mapping[str, float], wanted: int) -> None:
    load()
    steps = {f: [s for s in STEPS[f] if s.opset <= d.opset] for f in families}
    names, weights = list(families), np.array(list(families.values()))
    done = 0
    for _ in range(TRIES * wanted):
        family = names[d.draw.rng.choice(len(names), p=weights / weights.sum())]
        try:
            with d.attempt():
                weighted(d.draw, steps[family]).run(d)
            done += 1
        except Reject:
            continue
        if done == wanted:
            break


def weighted(draw: Draw, steps: list[Step]) -> Step:
    if not steps:
        raise Reject("newer")
    weights = np.array([s.weight for s in steps])
    return steps[draw.rng.choice(len(steps), p=weights / weights.sum())]


def finished(d: Draft, kind: str, how: Options, nameless: str) -> Case:
    """The model: results are what nothing reads, and some values that are read, inputs and constants among them.

    nameless: open dims of inputs have no names ('none'), or all the name '?', which stands for none.
    """
    read = {n for node in d.nodes for n in node.input} | {
        n for node in d.nodes for a in node.attribute for n in captured(a)
    }
    made = [t for t in d.values if all(t is not i.tensor for i in d.inputs)]
    ends = [t for t in made if t.name not in read]
    results = ends if d.draw.chance(0.6) else ends[-3:]
    results += [t for t in d.draw.some(made, 0.08) if t not in results]
    if not results or d.draw.chance(0.05):
        results.append(d.inputs[0].tensor)
    if d.initializers and d.draw.chance(0.04):
        results.append(d.tensors[next(iter(d.initializers))])
    results = [readable(d, t) for t in results]
    names = list(dict.fromkeys(t.name for t in d.draw.shuffled(results)))
    for i in d.inputs if nameless else ():
        i.dims = tuple(({"?": "?", "none": None}[nameless] if isinstance(n, str) else n) for n in i.dims)
    return Case.of(d, kind, names, how)


def readable(d: Draft, t: Tensor) -> Tensor:
    """The value, as a float32 where it is of a small type: not all engines return those."""
    return d.node("Cast", t, to=TensorProto.FLOAT) if t.dtype in SMALL else t


def captured(attribute) -> list[str]:
    from .evaluate import captured_names

    return captured_names(attribute.g) if attribute.HasField("g") else []
