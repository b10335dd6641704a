"""The layer `sample`: random draws, each a function of its place in the result, the step's name, the seed and the draw."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from graphc.dtypes import is_float, is_integer
from graphc.frontends.yaml_args import Number
from graphc.frontends.yaml_registry import LayerBuilder, layer
from graphc.graph import Value
from graphc.ops._draws import Draws
from graphc.ops.random_bits import random_bits
from graphc.types import dtype_name

Kind = Literal["bernoulli", "normal", "uniform", "categorical"]


@layer
def sample(
    c: LayerBuilder,
    *xs: Value,
    kind: Kind,
    seed: int | Value = 0,
    draw: int | Value = 0,
    mean: Number | None = None,
    std: Number | None = None,
    low: Number | None = None,
    high: Number | None = None,
    of: Literal["probabilities", "logits"] | None = None,
    axis: int | None = None,
) -> Value:
    """Random draws in the shape of what comes in. bernoulli: 1 with the probability that comes in, else 0. normal: mean and std
    are numbers (0, 1), or from: [mean, std]. uniform: from low (0) to high (1). categorical: classes (int64) along an axis (the
    last) of probabilities or logits. seed, draw: numbers, or names of whole numbers."""
    given = {"mean": mean, "std": std, "low": low, "high": high, "of": of, "axis": axis}
    given = {k: v for k, v in given.items() if v is not None}
    build, takes = KINDS[kind]
    for name in given:
        if name not in takes:
            raise c.fail(f"{kind} takes no '{name}'", f"it takes {', '.join((*takes, 'seed', 'draw'))}")
    counts = (1, 2) if kind == "normal" else (1,)
    if len(xs) not in counts:
        raise c.fail(f"{kind} takes {' or '.join(map(str, counts))} value{'s' * (len(counts) > 1)}, not {len(xs)}")
    if len(xs) == 2 and given:
        raise c.fail(f"'{next(iter(given))}' is given twice: `from` names the mean and the std")
    for x in xs:
        if not is_float(x.dtype):
            raise c.fail(f"takes floats, and {x.name!r} is {x.type}", "cast it first: {Cast: {to: float32}}")
    if isinstance(draw, int) and not 0 <= draw < 2**32:
        raise c.fail(f"draw must be from 0 to 4294967295, not {draw}", "another seed gives other draws, too")
    drawn = build(_Source(c, seed, draw), *(_wide(c, x) for x in xs), **given)
    return drawn if kind == "categorical" or drawn.dtype == xs[0].dtype else c.add("Cast", drawn, to=xs[0].dtype)


def _wide(c: LayerBuilder, x: Value) -> Value:
    """At least float32, in which draws are computed."""
    return x if x.dtype.itemsize >= 4 else c.add("Cast", x, to=np.dtype(np.float32))


class _Source(Draws):
    """Random numbers of one step."""

    def __init__(self, c: LayerBuilder, seed: int | Value, draw: int | Value) -> None:
        super().__init__(c.add, c.const)
        self.c = c
        self._seed, self._draw = self._key(self._number("seed", seed)), self._number("draw", draw)

    def _number(self, name: str, given: int | Value) -> Value:
        if isinstance(given, int):
            return self.c.const(given)
        if not is_integer(given.dtype):
            hint = f"declare it so: inputs: {{{given.name}: {{shape: [], dtype: int64}}}}"
            raise self.c.fail(f"'{name}' must be whole numbers, and '{given.name}' is {dtype_name(given.dtype)}", hint)
        return given

    def _key(self, seed: Value) -> Value:
        """64 bits of the step's name and the seed; of one step, different ones for different seeds."""
        name = hashlib.blake2s(self.c.name.encode(), digest_size=8).digest()
        stream = np.array(int.from_bytes(name, "little"), np.uint64)
        if seed.data is not None:
            return self.c.const(random_bits(seed.data, np.array(0), stream), np.uint64)
        key: Value = self.c.add("RandomBits", seed, self.c.const(0), self.c.const(stream, np.uint64))
        return key

    def bits(self, like: Value) -> Value:
        """64 of them for each element, uint64."""
        bits: Value = self.c.add("RandomBits", self.c.add("Positions", like), self._draw, self._seed)
        return bits


def _bernoulli(s: _Source, p: Value) -> Value:
    drawn: Value = s.c.add("Cast", s.op("Less", s.uniform(s.bits(p), p.dtype), p), to=p.dtype)
    return drawn


def _uniform(s: _Source, x: Value, low: Number = 0, high: Number = 1) -> Value:
    if not low < high:
        raise s.c.fail(f"low must be below high, and {low} is not below {high}")
    return _scaled(s, s.uniform(s.bits(x), x.dtype), low, high - low)


def _normal(s: _Source, x: Value, spread: Value | None = None, *, mean: Number = 0, std: Number = 1) -> Value:
    if std < 0:
        raise s.c.fail(f"std must not be negative, as {std} is")
    like = x if spread is None or spread.shape == x.shape else s.op("Add", x, spread)
    z = s.normal(s.bits(like), x.dtype)
    return _scaled(s, z, mean, std) if spread is None else s.op("Add", x, s.op("Mul", spread, z))


def _scaled(s: _Source, z: Value, shift: Number, by: Number) -> Value:
    z = z if by == 1 else s.op("Mul", z, by)
    return z if shift == 0 else s.op("Add", z, shift)


def _categorical(s: _Source, x: Value, *, of: str = "", axis: int = -1) -> Value:
    """Of exponential variables E, p/E is largest for each class with its probability p, and so is log p - log E (Gumbel 1954)."""
    if not of:
        raise s.c.fail("categorical needs 'of'", "of: probabilities, or of: logits")
    exponential = s.exponential(s.bits(x), x.dtype)
    race = s.op("Div", x, exponential) if of == "probabilities" else s.op("Sub", x, s.op("Log", exponential))
    drawn: Value = s.c.add("ArgMax", race, axis=axis, keepdims=0)
    return drawn


KINDS: dict[str, tuple[Callable[..., Value], Sequence[str]]] = {
    "bernoulli": (_bernoulli, ()),
    "normal": (_normal, ("mean", "std")),
    "uniform": (_uniform, ("low", "high")),
    "categorical": (_categorical, ("of", "axis")),
}
