"""Random small graphs: a Hypothesis strategy that draws the patterns of real nets, and values read twice or as results.

Every graph takes one image x [N, 4, 6, 6] and one matrix m [N, 8]. N is 2, or symbolic. All operators are continuous,
so that two computations of the same graph differ by rounding only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from graphc.graph import Builder, Graph, Value
from graphc.types import Sym

BATCH = 2
F32 = np.dtype("float32")


@dataclass
class Pool:
    """What a step may use: Hypothesis' draw, the builder, the values so far, and a generator for weights.

    Values whose type waits for constant folding are in `late`: steps do not read them, results may.
    """

    draw: Callable
    b: Builder
    values: list[Value]
    rng: np.random.Generator
    late: list[Value] = field(default_factory=list)

    def pick(self, want: Callable[[Value], bool] = lambda v: True) -> Value | None:
        """One of the values that fit, the newest ones more often."""
        fits = [v for v in self.values if want(v)]
        return self.draw(st.sampled_from(fits[-1:] * len(fits) + fits)) if fits else None

    def one_of(self, *choices):
        return self.draw(st.sampled_from(choices))

    def flag(self) -> bool:
        return self.draw(st.booleans())

    def weights(self, *shape: int, low: float = -0.5, high: float = 0.5) -> Value:
        return self.b.constant(self.rng.uniform(low, high, shape), F32)

    def ints(self, *numbers: int) -> Value:
        return self.b.constant(numbers, np.int64)


def image(v: Value) -> bool:
    return len(v.shape) == 4 and all(isinstance(d, int) for d in v.shape[1:]) and min(v.shape[2:]) >= 3


def matrix(v: Value) -> bool:
    return len(v.shape) == 2 and isinstance(v.shape[1], int)


def channels_known(v: Value) -> bool:
    return len(v.shape) >= 2 and all(isinstance(d, int) for d in v.shape[1:])


Step = Callable[[Pool], "Value | tuple[Value, ...] | None"]
STEPS: list[Step] = []


def step(f: Step) -> Step:
    STEPS.append(f)
    return f


@step
def unary(p: Pool):
    return p.b.add(p.one_of("Relu", "Relu", "Neg", "Abs", "Tanh", "Sigmoid", "Identity"), p.pick())


@step
def binary(p: Pool):
    x = p.pick()
    y = p.pick(lambda v: v.shape == x.shape)
    return p.b.add(p.one_of("Add", "Sub", "Mul", "Max", "Sum"), x, y)


@step
def scalar(p: Pool):
    """By a constant that often changes nothing, on either side."""
    c = p.b.constant(p.one_of(0.0, 1.0, 2.0, -0.5), F32)
    op = p.one_of("Add", "Sub", "Mul", "Div")
    if op == "Div" and c.data == 0:
        op = "Add"
    operands = (c, p.pick()) if op != "Div" and p.flag() else (p.pick(), c)
    return p.b.add(op, *operands)


@step
def per_channel(p: Pool):
    x = p.pick(channels_known)
    c = x.shape[1] if len(x.shape) > 2 else x.shape[-1]
    shape = (c, *[1] * (len(x.shape) - 2)) if p.flag() else (1, c, *[1] * (len(x.shape) - 2))
    return p.b.add(p.one_of("Add", "Sub", "Mul", "Div"), x, p.weights(*shape, low=0.5, high=1.5))


@step
def power(p: Pool):
    return p.b.add("Pow", p.b.add("Sigmoid", p.pick()), p.b.constant(p.one_of(1, 2, 3), F32))


@step
def convolution(p: Pool):
    x = p.pick(image)
    if x is None:
        return None
    c, group = x.shape[1], p.one_of(1, 1, 2)
    group = group if c % group == 0 else 1
    k, pad = p.one_of((1, 0), (3, 1), (3, 0))
    bias = p.weights(4) if p.flag() else None
    y = p.b.add("Conv", x, p.weights(4, c // group, k, k), bias, group=group, pads=[pad] * 4)
    return batch_norm(p, y) if p.flag() else y


@step
def padded(p: Pool):
    """A Pad, and often a window operator that reads it."""
    x = p.pick(image)
    if x is None:
        return None
    top, left, bottom, right = (p.one_of(0, 1) for _ in range(4))
    fill = p.b.constant(p.one_of(0.0, 0.0, 1.0, -np.inf), F32)
    op = p.one_of("Conv", "MaxPool", "AveragePool", "")
    if not np.isfinite(fill.data) and op != "MaxPool":
        fill = None
    y = p.b.add("Pad", x, p.ints(0, 0, top, left, 0, 0, bottom, right), fill)
    if op == "Conv":
        return p.b.add(op, y, p.weights(4, x.shape[1], 3, 3), auto_pad=p.one_of("NOTSET", "SAME_UPPER", "VALID"))
    if op:
        include = {"count_include_pad": p.flag()} if op == "AveragePool" else {}
        return p.b.add(op, y, kernel_shape=[3, 3], pads=[p.one_of(0, 1)] * 4, ceil_mode=p.flag(), **include)
    return y


@step
def deconvolution(p: Pool):
    x = p.pick(lambda v: image(v) and v.shape[1] % 2 == 0 and max(v.shape[2:]) < 8)
    if x is None:
        return None
    y = p.b.add("ConvTranspose", x, p.weights(x.shape[1], 2, 2, 2), group=2)
    return batch_norm(p, y) if p.flag() else y


def batch_norm(p: Pool, x: Value) -> Value:
    c = x.shape[1]
    scale, variance = p.weights(c, low=0.5, high=1.5), p.weights(c, low=0.5, high=2)
    return p.b.add("BatchNormalization", x, scale, p.weights(c), p.weights(c), variance)


@step
def normalized(p: Pool):
    return batch_norm(p, p.pick(channels_known))


@step
def matrix_product(p: Pool):
    x = p.pick(lambda v: len(v.shape) >= 2 and isinstance(v.shape[-1], int) and v.shape[-1] > 0)
    k = x.shape[-1]
    if len(x.shape) == 2 and p.flag():
        c = p.weights(3) if p.flag() else None
        w = p.weights(3, k) if (transposed := p.flag()) else p.weights(k, 3)
        return p.b.add("Gemm", x, w, c, transB=transposed, alpha=p.one_of(1.0, 0.5), beta=p.one_of(1.0, 2.0, 0.0))
    y = p.b.add("MatMul", x, p.weights(k, 3))
    return p.b.add("Add", y, p.weights(3)) if p.flag() else y


@step
def reduction(p: Pool):
    x = p.pick(channels_known)
    return p.b.add(p.one_of("ReduceMean", "ReduceSum", "ReduceMax"), x, p.ints(len(x.shape) - 1), keepdims=p.flag())


@step
def transposition(p: Pool):
    """Batch stays first, so that a symbolic one stays in front."""
    x = p.pick(lambda v: len(v.shape) >= 3)
    return x and p.b.add("Transpose", x, perm=[0, *p.draw(st.permutations(range(1, len(x.shape))))])


@step
def reshape(p: Pool):
    x = p.pick(channels_known)
    n = math.prod(x.shape[1:])
    target = p.one_of(
        [0, -1], [0, n], [0, 2, -1] if n % 2 == 0 else [0, 1, -1], [0, *x.shape[1:]], [0, *x.shape[1:], 1]
    )
    return p.b.add("Reshape", x, p.ints(*target))


@step
def dims(p: Pool):
    x = p.pick()
    match p.one_of("Flatten", "Unsqueeze", "Squeeze"):
        case "Flatten":
            return p.b.add("Flatten", x)
        case "Unsqueeze":
            return p.b.add("Unsqueeze", x, p.ints(1)) if len(x.shape) < 5 else None
        case _:
            ones = [i for i, d in enumerate(x.shape) if d == 1]
            return p.b.add("Squeeze", x, p.ints(*ones)) if ones else None


@step
def computed_reshape(p: Pool):
    """The batch is read from the shape, as exporters of PyTorch models write it."""
    x = p.pick(channels_known)
    n = p.b.add("Gather", p.b.add("Shape", x), p.ints(0), axis=0)
    y = p.b.add("Reshape", x, p.b.add("Concat", n, p.ints(-1), axis=0))
    return p.b.add("Relu", y) if p.flag() else y


@step
def concatenation(p: Pool):
    x = p.pick(channels_known)
    parts = [x, *(p.pick(lambda v: v.shape == x.shape) for _ in range(p.one_of(0, 1, 2)))]
    y = p.b.add("Concat", *parts, axis=1)
    return p.b.add("Concat", y, x, axis=p.one_of(1, 1 - len(x.shape))) if p.flag() else y


@step
def splitting(p: Pool):
    x = p.pick(lambda v: channels_known(v) and v.shape[1] >= 2)
    if x is None:
        return None
    c = x.shape[1]
    if p.flag():
        return p.b.add("Split", x, p.ints(1, c - 1), axis=1, outputs=2)
    start, step_ = p.one_of((0, 1), (1, 1), (c - 1, -1))
    return p.b.add("Slice", x, p.ints(start), p.ints(c if step_ > 0 else -c - 1), p.ints(1), p.ints(step_))


@step
def without_effect(p: Pool):
    x = p.pick()
    rank = len(x.shape)
    match p.one_of("Dropout", "Cast", "Expand", "Tile", "Pad", "Where"):
        case "Dropout":
            return p.b.add("Dropout", x, p.b.constant(0.5, F32))
        case "Cast":
            return p.b.add("Cast", p.b.add("Cast", x, to=p.one_of("float64", "float32")), to="float32")
        case "Expand":
            return p.b.add("Expand", x, p.ints(*[1] * rank))
        case "Tile":
            return p.b.add("Tile", x, p.ints(*[1] * (rank - 1), p.one_of(1, 1, 2))) if rank else None
        case "Pad":
            return p.b.add("Pad", x, p.ints(*[0] * 2 * rank))
        case _:
            return p.b.add("Where", p.b.constant(p.flag()), x, x)


@step
def twice(p: Pool):
    """The same computation two times."""
    x = p.pick()
    return p.b.add("Mul", p.b.add("Tanh", x), p.b.add("Tanh", x))


@step
def constant_side(p: Pool):
    """A subgraph that depends on no input."""
    x = p.pick()
    c = p.b.add("Mul", p.b.add("Sqrt", p.b.constant(4.0, F32)), p.b.constant(0.5, F32))
    return p.b.add("Mul", x, c)


@st.composite
def graphs(draw, max_steps: int = 10, symbolic: bool | None = None) -> Graph:
    """A graph of up to `max_steps` steps. Results are all that nothing reads, or the last; and up to two of the others."""
    is_symbolic = draw(st.booleans()) if symbolic is None else symbolic
    n = Sym("batch") if is_symbolic else BATCH
    b = Builder("random")
    pool = Pool(
        draw,
        b,
        [b.input("x", F32, (n, 4, 6, 6)), b.input("m", F32, (n, 8))],
        np.random.default_rng(draw(st.integers(0, 99))),
    )
    for _ in range(draw(st.integers(1, max_steps))):
        made = draw(st.sampled_from(STEPS))(pool)
        made = (made,) if isinstance(made, Value) else made or ()
        for v in made:
            if v.type is None:
                pool.late.append(v)
            elif v.type.size != 0 and (not v.type.is_static or v.type.size < 5000):
                pool.values.append(v)
    read = {v for node in b.nodes for v in node.operands}
    ends = [v for v in pool.values + pool.late if v not in read]
    results = (ends if draw(st.booleans()) else []) or [pool.values[-1]]
    results = [*results, *draw(st.lists(st.sampled_from(pool.values + pool.late), max_size=2))]
    return b.build({f"y{i}": v for i, v in enumerate(results)})


def feeds(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs; symbolic dims become BATCH."""
    rng = np.random.default_rng(seed)
    shapes = {v.name: [d if isinstance(d, int) else BATCH for d in v.shape] for v in graph.inputs}
    return {v.name: rng.uniform(-1, 1, shapes[v.name]).astype(v.dtype) for v in graph.inputs}
