"""How far a result is from another, as a number and in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.dtypes import is_float, is_integer
from graphc.graph import Node, Value
from graphc.objects import tensors_of
from graphc.types import TensorType, dtype_name

CODES = 255  # an integer counts as a code of a byte: a step is this part of its scale at least
UNITS = 2  # in the last place, which a result of a type narrower than float32 may be off wherever it is rounded


@dataclass(frozen=True)
class Difference:
    """A result on the target and in NumPy: `name` of a graph, and the node that makes it."""

    name: str
    node: Node
    value: Value
    actual: Any
    expected: Any

    @property
    def error(self) -> float:
        return error_of(self.actual, self.expected)

    def within(self, tolerance: float) -> bool:
        return self.error <= allowed(self.expected, tolerance)


def allowed(expected: Any, tolerance: float) -> float:
    """The tolerance, or what rounding to the type of a result takes where that is more."""
    units = [unit(a.dtype) for a in tensors_of("", expected).values() if is_float(a.dtype)]
    return max([tolerance, *(UNITS * u for u in units)])


def unit(dtype: np.dtype) -> float:
    """From 1 to the next number of a floating-point type."""
    if dtype.kind == "f":
        return float(np.finfo(dtype).eps)
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).eps)


def error_of(actual: Any, expected: Any) -> float:
    """Largest difference over the largest magnitude of `expected`; inf where dtype, shape, NaNs or infinities differ.

    Steps between integers count over their largest magnitude, too, but over 255 at most: one is 0.004 or more, whatever
    large numbers there are besides. Booleans and strings are equal (0) or not (inf). Of sequences and maps it is the largest of
    what they hold.
    """
    if not isinstance(expected, np.ndarray):
        parts, wanted = (tensors_of("", value) for value in (actual, expected))
        if type(actual) is not type(expected) or parts.keys() != wanted.keys():
            return float("inf")
        return max((error_of(parts[key], a) for key, a in wanted.items()), default=0.0)
    if unlike(actual, expected):
        return float("inf")
    if is_integer(expected.dtype):
        worst = float(steps(actual, expected).max(initial=0))
        return worst / min(float(np.abs(_wide(expected)).max(initial=0)) or 1.0, CODES)
    if expected.dtype.kind not in "fcV":
        return 0.0 if np.array_equal(actual, expected) else float("inf")
    a, b = _wide(actual), _wide(expected)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    scale, worst = float(np.abs(b[finite]).max()), float(np.abs(a[finite] - b[finite]).max())
    return worst / scale if scale else worst


def unlike(actual: np.ndarray, expected: np.ndarray) -> bool:
    """Have two arrays other dtypes, or other shapes?"""
    return actual.dtype != expected.dtype or actual.shape != expected.shape


def steps(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """How far integers are from others, as float64: 0 where they are equal, else 1 at least."""
    gap = np.maximum(np.abs(_wide(actual) - _wide(expected)), 1)
    return np.where(actual == expected, 0, gap)


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def describe(difference: Difference) -> str:
    """Which node, over which operands, and where its result is wrong."""
    node = difference.node
    where = f" ({node.source})" if node.source else ""
    operands = ", ".join(str(v.type or "?") if v is not None else "-" for v in node.inputs)
    return (
        f"first difference: {node.op.name} '{node.name}'{where}, result '{difference.value.name}'\n"
        f"  operands: {operands}\n  {told(difference.actual, difference.expected)}"
    )


def told(actual: Any, expected: Any) -> str:
    """How one value differs from another, in a line."""
    if isinstance(expected, np.ndarray):
        return _told_of_arrays(actual, expected)
    if type(actual) is not type(expected):
        return f"it is {_kind(actual)}, the reference {_kind(expected)}"
    parts, wanted = (tensors_of("", value) for value in (actual, expected))
    if parts.keys() != wanted.keys():
        only = next(key for key in [*parts, *wanted] if not (key in parts and key in wanted))
        return f"it holds {len(parts)} tensors, the reference {len(wanted)}: {only} is in one of them only"
    key, array = max(wanted.items(), key=lambda item: error_of(parts[item[0]], item[1]))
    return f"of what it holds, {key} differs most: {_told_of_arrays(parts[key], array)}"


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return str(TensorType(value.dtype, value.shape))
    return {list: "a sequence", dict: "a map", type(None): "nothing"}.get(type(value), type(value).__name__)


def _told_of_arrays(actual: np.ndarray, expected: np.ndarray) -> str:
    if unlike(actual, expected):
        one, other = (f"{dtype_name(a.dtype)}{list(a.shape)}" for a in (actual, expected))
        return f"it is {one}, the reference {other}"
    integers = is_integer(expected.dtype)
    if integers:
        gap = steps(actual, expected)
    elif expected.dtype.kind in "OUSb":
        gap = np.asarray(actual != expected, float)
    else:
        with np.errstate(all="ignore"):
            same = (actual == expected) | ((actual != actual) & (expected != expected))
            gap = np.where(same, 0, np.nan_to_num(np.abs(_wide(actual) - _wide(expected)), nan=np.inf))
    at = np.unravel_index(int(np.argmax(gap)), gap.shape)
    place = f"[{', '.join(str(int(i)) for i in at)}]"
    count = f"{np.count_nonzero(gap)} of {gap.size} elements differ"
    most = f"most at {place}: {actual[at]} against {expected[at]}"
    if integers:
        return f"{count}, by {gap.max():.0f} step{'s' if gap.max() > 1 else ''} or less, {most}"
    return f"error {error_of(actual, expected):.2e} of its scale; {count}, {most}"
