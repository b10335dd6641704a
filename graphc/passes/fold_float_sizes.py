"""Floating-point arithmetic on sizes that comes back to whole numbers, as exporters compute the targets of a Resize and the ends
of a Range: Cast(floor(size * 0.5)) is size // 2.

Fractions are exact as long as the floats are: whole numbers below 2**24 (of float32), divided by powers of two. Guards say up to
which sizes that is. A quotient or product that is rounded may only be rounded down, or up, to a whole number at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from graphc.graph import Node, Value
from graphc.ops.resize import floor_of_many
from graphc.passes.fold_sizes import MOVES
from graphc.passes.rewrite import Sweep
from graphc.sizes import is_size, is_size_array, whole

DIGITS = {"float32": 24, "float64": 53}
SHORT = 1 << 12  # numerators whose products with sizes are taken to be exact


@dataclass(frozen=True)
class Exact:
    """numerator / denominator, where the denominator is a positive number. rounded: what a float holds is the one nearest."""

    numerator: Any
    denominator: int = 1
    rounded: bool = False


@dataclass(frozen=True)
class Scaled:
    """A whole number times a float32 that is no short fraction, rounded."""

    size: Any
    scale: float


class _Unknown(Exception):
    """It isn't known what the floats hold."""


def whole_numbers(v: Value, sweep: Sweep) -> np.ndarray | None:
    """What a floating-point value, computed from sizes, holds when it is cast to integers: an array of objects. None where
    that is not known, or no size is in it."""
    try:
        exact = _elements(v, sweep)
        found = _each(_truncated, exact)
    except _Unknown:
        return None
    return found if is_size_array(found) else None


def whole_only(v: Value, sweep: Sweep) -> np.ndarray | None:
    """The same of a value without fractions."""
    try:
        found = _each(_undivided, _elements(v, sweep))
    except _Unknown:
        return None
    return found


def _each(function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    return np.asarray(np.frompyfunc(function, len(arrays), 1)(*arrays), object)


def _elements(v: Value, sweep: Sweep) -> np.ndarray:
    """Exact or Scaled, as an array of objects. Raises _Unknown."""
    if v.type is None or (v.dtype.name not in DIGITS and v.dtype.kind not in "iu"):
        raise _Unknown
    digits = DIGITS.get(v.dtype.name)
    if v.data is not None:
        return _each(_constant, v.data)
    node = sweep.producer(v)
    if node is None or len(node.outputs) > 1:
        raise _Unknown
    name = node.op.name
    if v.dtype.kind in "iu" or (name not in _FLOAT and name not in MOVES and name not in ("Cast", "Identity")):
        raise _Unknown
    if name in MOVES:
        return _moved(node, sweep)
    operands = [_elements(o, sweep) for o in node.operands]
    if name == "Identity":
        return operands[0]
    assert digits is not None
    function = _same if name == "Cast" else _FLOAT[name]
    return _each(lambda *numbers: _held(function(*numbers), digits), *operands)


def _moved(node: Node, sweep: Sweep) -> np.ndarray:
    """Only elements are sizes' floats: axes, shapes and positions are constants."""
    first = len(node.operands) if node.op.name == "Concat" else 1
    if any(v is not None and (v.data is None or is_size_array(v.data)) for v in node.inputs[first:]):
        raise _Unknown
    arrays = [_elements(v, sweep) for v in node.operands[:first]]
    rest = [None if v is None else v.data for v in node.inputs[first:]]
    return np.asarray(node.op.reference(*arrays, *rest, **node.attrs), object)


def _constant(x: Any) -> Exact:
    if is_size(x):
        return Exact(x)
    if isinstance(x, (float, np.floating)) and not math.isfinite(x):
        raise _Unknown
    f = Fraction(float(x)) if isinstance(x, (float, np.floating)) else Fraction(int(x))
    return Exact(f.numerator, f.denominator)


def _held(x: Exact | Scaled, digits: int) -> Exact | Scaled:
    """What floats of so many binary digits hold of it."""
    if isinstance(x, Scaled):
        if digits != DIGITS["float32"]:
            raise _Unknown
        return x
    n, d = x.numerator, x.denominator
    if not is_size(n):
        f = Fraction(n, d)
        n, d = f.numerator, f.denominator
        fits = abs(n).bit_length() <= digits and d & (d - 1) == 0
    else:
        fits = d & (d - 1) == 0
        if not -(1 << digits) < n < 1 << digits:
            raise _Unknown
    if not fits and not is_size(n):
        raise _Unknown  # the constants are folded elsewhere
    return Exact(n, d, x.rounded or not fits)


def _plain(x: Exact | Scaled) -> Exact:
    """An operand of arithmetic."""
    if isinstance(x, Scaled) or x.rounded:
        raise _Unknown
    return x


def _same(x: Exact | Scaled) -> Exact | Scaled:
    return _plain(x)


def _product(a: Exact | Scaled, b: Exact | Scaled) -> Exact | Scaled:
    a, b = _plain(a), _plain(b)
    if is_size(b.numerator):
        a, b = b, a
    if not is_size(b.numerator) and abs(b.numerator) >= SHORT:
        if a.denominator != 1 or b.numerator < 0:
            raise _Unknown
        return Scaled(a.numerator, b.numerator / b.denominator)
    return Exact(a.numerator * b.numerator, a.denominator * b.denominator)


def _quotient(a: Exact | Scaled, b: Exact | Scaled) -> Exact:
    a, b = _plain(a), _plain(b)
    if is_size(b.numerator) or b.numerator <= 0:
        raise _Unknown
    return Exact(a.numerator * b.denominator, a.denominator * b.numerator)


def _sum(a: Exact | Scaled, b: Exact | Scaled) -> Exact:
    a, b = _plain(a), _plain(b)
    return Exact(a.numerator * b.denominator + b.numerator * a.denominator, a.denominator * b.denominator)


def _negative(a: Exact | Scaled) -> Exact:
    a = _plain(a)
    return Exact(-a.numerator, a.denominator)


def _floor(x: Exact | Scaled) -> Exact:
    if isinstance(x, Scaled):
        return Exact(floor_of_many(x.size, x.scale))
    return Exact(x.numerator // x.denominator)


def _ceil(x: Exact | Scaled) -> Exact:
    if isinstance(x, Scaled):
        raise _Unknown
    return Exact(-(-x.numerator // x.denominator))


def _round(x: Exact | Scaled) -> Exact:
    """Half to even: a whole number stays."""
    return Exact(_undivided(x))


def _truncated(x: Exact | Scaled) -> Any:
    """Towards zero."""
    if isinstance(x, Exact) and x.numerator < 0:
        return _ceil(x).numerator
    return _floor(x).numerator


def _undivided(x: Exact | Scaled) -> Any:
    x = _plain(x)
    if x.denominator != 1:
        raise _Unknown
    return whole(x.numerator)


_FLOAT: Mapping[str, Callable[..., Any]] = {
    "Add": _sum, "Sub": lambda a, b: _sum(a, _negative(b)), "Mul": _product, "Div": _quotient, "Neg": _negative,
    "Floor": _floor, "Ceil": _ceil, "Round": _round,
}  # fmt: skip
