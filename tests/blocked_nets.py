"""Random networks of feature maps: what works on channel blocks, in every order, between values that share memory.

A network is a number: the same seed gives the same graph.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphc.graph import Builder, Graph, Value

F32 = np.float32
CHANNELS = (1, 3, 4, 5, 8, 16, 16, 16, 17, 24, 32, 32, 48, 64)  # often whole blocks, sometimes not
MOST = 3e5  # elements of a value


class Net:
    """A network in the making. `large`: images that are run one by one."""

    def __init__(self, seed: int, large: bool = False) -> None:
        self.rng, self.b = np.random.default_rng(seed), Builder(f"net{seed}")
        self.n = int(self.rng.integers(2, 6)) if large else self.one(1, 1, 2, 3)
        rank = 2 if large else self.one(1, 2, 2, 2, 2, 3)
        size = (int(self.rng.integers(36, 70)),) * 2 if large else tuple(map(int, self.rng.integers(4, 12, rank)))
        self.values = [self.b.input(f"x{i}", F32, (self.n, self.channels, *size)) for i in range(self.one(1, 2))]
        self.inputs, self.most = list(self.values), MOST * (10 if large else 1)

    def one(self, *options):
        return options[int(self.rng.integers(len(options)))]

    @property
    def channels(self) -> int:
        return self.one(*CHANNELS)

    def weights(self, *shape: int) -> Value:
        return self.b.constant(self.rng.standard_normal(shape) / max(1, np.prod(shape[1:])) ** 0.5, F32)

    def ints(self, *numbers: int) -> Value:
        return self.b.constant(list(numbers), np.int64)

    def pick(self, fits: Callable[[Value], bool] = lambda v: True) -> Value:
        """One of the values, late ones more often."""
        fitting = [v for v in self.values if fits(v)]
        return fitting[-1 - min(len(fitting) - 1, int(self.rng.exponential(1.5)))]

    def alike(self, x: Value) -> Value:
        return self.pick(lambda v: v.shape[2:] == x.shape[2:])

    def build(self) -> Graph:
        for _ in range(int(self.rng.integers(4, 20))):
            made = self.one(*STEPS)(self, self.pick())
            for v in made if isinstance(made, tuple) else (made,):
                if v is not None and 0 not in v.shape and np.prod(v.shape) < self.most:
                    self.values.append(v)
        read = {v for node in self.b.nodes for v in node.operands}
        ends = [v for v in self.values if v not in read and v not in self.inputs] or [self.values[-1]]
        some = [v for v in self.values if self.rng.random() < 0.12]
        return self.b.build({f"y{i}": v for i, v in enumerate(dict.fromkeys([*ends, *some]))})


def feeds_of(graph: Graph) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {v.name: rng.standard_normal(v.shape).astype(F32) for v in graph.inputs}


# --- steps: each gives a value, several, or None where it does not fit ------------------------------------------------
def _convolution(p: Net, x: Value, out: int, group: int = 1) -> Value | None:
    space = x.shape[2:]
    kernel = [p.one(1, 3, 3, 5)] * len(space) if p.one(True, True, False) else [p.one(1, 3, 5) for _ in space]
    dilation, stride = p.one(1, 1, 1, 2), p.one(1, 1, 1, 2)
    pads = [k // 2 for k in kernel] * 2 if p.one(True, True, False) else [p.one(0, 1, 2) for _ in (*space, *space)]
    ends = zip(space, pads, pads[len(space) :], kernel)
    if any(d + before + after < (k - 1) * dilation + 1 for d, before, after, k in ends):
        return None
    bias = [p.weights(out)] if p.one(True, False) else []
    attrs = {"pads": pads, "strides": [stride] * len(space), "dilations": [dilation] * len(space), "group": group}
    return p.b.add("Conv", x, p.weights(out, x.shape[1] // group, *kernel), *bias, **attrs)


def convolution(p: Net, x: Value) -> Value | None:
    return _convolution(p, x, p.channels)


def depthwise(p: Net, x: Value) -> Value | None:
    return _convolution(p, x, x.shape[1], x.shape[1])


def grouped(p: Net, x: Value) -> Value | None:
    group = p.one(*(d for d in (1, 2, 4, 8) if x.shape[1] % d == 0))
    return _convolution(p, x, group * p.one(1, 2, 4, 8, 16), group)


def transposed(p: Net, x: Value) -> Value | None:
    rank, kernel, stride = len(x.shape) - 2, p.one(2, 3, 4), p.one(1, 2)
    pad = p.one(0, 1)
    if np.prod(x.shape[2:]) > 1500 or min((d - 1) * stride + kernel - 2 * pad for d in x.shape[2:]) < 1:
        return None
    w = p.b.constant(p.rng.standard_normal((x.shape[1], p.channels, *[kernel] * rank)) / x.shape[1] ** 0.5, F32)
    return p.b.add("ConvTranspose", x, w, strides=[stride] * rank, pads=[pad] * 2 * rank)


def pool(p: Net, x: Value) -> Value | None:
    rank, kernel = len(x.shape) - 2, p.one(2, 3)
    if min(x.shape[2:]) < kernel:
        return None
    attrs = {"kernel_shape": [kernel] * rank, "pads": [p.one(0, 1)] * 2 * rank, "strides": [p.one(1, 1, 2)] * rank}
    return p.b.add(p.one("MaxPool", "AveragePool"), x, **attrs)


def global_pool(p: Net, x: Value) -> Value | None:
    return p.b.add(p.one("GlobalAveragePool", "GlobalMaxPool"), x) if p.one(True, False, False) else None


def activation(p: Net, x: Value) -> Value:
    return p.b.add(p.one("Relu", "Sigmoid", "Tanh", "Neg", "Softplus", "Abs"), x)


def batch_norm(p: Net, x: Value) -> Value:
    c = x.shape[1]
    variance = p.b.constant(np.abs(p.rng.standard_normal(c)) + 0.5, F32)
    return p.b.add("BatchNormalization", x, p.weights(c), p.weights(c), p.weights(c), variance)


def residual(p: Net, x: Value) -> Value:
    return p.b.add(p.one("Add", "Mul", "Sub", "Max"), x, p.pick(lambda v: v.shape == x.shape))


def gate(p: Net, x: Value) -> Value:
    ones = [1] * (len(x.shape) - 2)
    squeezed = p.b.add("Conv", p.b.add("GlobalAveragePool", x), p.weights(x.shape[1], x.shape[1], *ones))
    return p.b.add("Mul", x, p.b.add("Sigmoid", squeezed))


def concatenation(p: Net, x: Value) -> Value | None:
    parts = [x, *(p.alike(x) for _ in range(p.one(1, 1, 2, 3)))]
    if p.one(False, False, False, True):
        parts.append(p.weights(p.n, p.channels, *x.shape[2:]))
    parts = [parts[i] for i in p.rng.permutation(len(parts))]
    return p.b.add("Concat", *parts, axis=1) if sum(v.shape[1] for v in parts) < 200 else None


def split(p: Net, x: Value) -> tuple[Value, ...] | None:
    c = x.shape[1]
    if c < 2:
        return None
    first = p.one(*(n for n in (1, c // 2, 8, 16, c - 1) if 0 < n < c))
    return p.b.add("Split", x, p.ints(first, c - first), axis=1, outputs=2)


def channels(p: Net, x: Value) -> Value | None:
    c = x.shape[1]
    if c < 2:
        return None
    first = p.one(*(n for n in (0, 1, c // 2, 8, 16) if n < c - 1))
    end = p.one(*(n for n in (first + 1, first + 8, first + 16, c) if n <= c))
    return p.b.add("Slice", x, p.ints(first), p.ints(end), p.ints(1), p.ints(p.one(1, 1, 2)))


def cropped(p: Net, x: Value) -> Value | None:
    if min(x.shape[2:]) < 4:
        return None
    axis = p.one(*range(2, len(x.shape)))
    return p.b.add("Slice", x, p.ints(1), p.ints(x.shape[axis] - p.one(0, 1)), p.ints(axis), p.ints(p.one(1, 1, 2)))


def shuffled(p: Net, x: Value) -> Value:
    n, c, *space = x.shape
    group = p.one(*(d for d in (1, 2, 4, 8) if c % d == 0))
    y = p.b.add("Reshape", x, p.ints(n, group, c // group, *space))
    y = p.b.add("Transpose", y, perm=[0, 2, 1, *range(3, 3 + len(space))])
    return p.b.add("Reshape", y, p.ints(n, c, *space))


def resized(p: Net, x: Value) -> Value | None:
    rank = len(x.shape) - 2
    if np.prod(x.shape[2:]) > 1500:
        return None
    scales = p.b.constant([1, 1, *[p.one(1.0, 2.0)] * rank], F32)
    return p.b.add("Resize", x, None, scales, mode=p.one("nearest", "linear") if rank < 3 else "nearest")


def padded(p: Net, x: Value) -> Value:
    amounts = [0, 0, *(p.one(0, 1) for _ in x.shape[2:])] * 2
    return p.b.add(
        "Pad", x, p.ints(*amounts), mode=p.one("constant", "edge", "reflect") if min(x.shape) > 1 else "edge"
    )


def same(p: Net, x: Value) -> Value:
    match p.one("Identity", "Reshape", "Squeeze"):
        case "Identity":
            return p.b.add("Identity", x)
        case "Reshape":
            return p.b.add("Reshape", x, p.ints(*x.shape))
        case _:
            return p.b.add("Squeeze", p.b.add("Unsqueeze", x, p.ints(1)), p.ints(1))


def normalized(p: Net, x: Value) -> Value:
    return p.b.add("LRN", x, size=p.one(1, 3, 5))


def turned(p: Net, x: Value) -> Value | None:
    return p.b.add("Transpose", x, perm=[0, 1, 3, 2]) if len(x.shape) == 4 else None


STEPS = (
    convolution, convolution, convolution, depthwise, grouped, transposed, pool, global_pool, activation, activation,
    batch_norm, residual, gate, concatenation, concatenation, concatenation, split, channels, cropped, shuffled, resized,
    padded, same, normalized, turned,
)  # fmt: skip
