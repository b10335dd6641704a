"""LookUp: the value beside each number's key in a table of numbers. Encoders of numbers expand to it."""

from __future__ import annotations

import numpy as np

from graphc.op import Call, Case, Const, Family, Op, Samples, register
from graphc.ops.contract import differ
from graphc.types import TensorType

KEYS = tuple(np.dtype(d) for d in ("float32", "float64", "int64"))


def _infer(call: Call) -> list[TensorType]:
    x, keys, values = call.type(0), call.type(1), call.type(2)
    if keys.dtype not in KEYS or x.dtype.kind != keys.dtype.kind:
        raise call.fail(f"looks up {x.dtype} among keys of {keys.dtype}", "float32, float64 or int64 among its like")
    if keys.rank != 1 or values.rank != 1 or differ(values.shape[0], keys.shape[0] + 1):
        raise call.fail(f"takes keys [K] and values [K + 1], not {keys} and {values}")
    return [x.with_dtype(values.dtype)]


def _looked_up(x, keys, values):
    """Keys are sorted and differ, NaN last; -0 is 0. The last value is that of numbers without a key."""
    out = np.full(x.shape, values[-1], values.dtype)
    for key, value in zip(keys, values):
        out[(x == key) | ((x != x) & (key != key))] = value
    return out


def _case(x, keys, values, dtype: str, to: str) -> Case:
    return Case((Const(x, dtype), Const(keys, dtype), Const(values, to)))


register(
    Op(
        "LookUp",
        ("x", "keys", "values"),
        _infer,
        reference=_looked_up,
        samples=Samples(
            tuple(d.name for d in KEYS),
            cases=(
                _case([[3, -1], [9, 2]], [-1, 2, 3], [10, 20, 30, -7], "int64", "int64"),
                _case([np.nan, -0.0, 0.5, np.inf], [0.0, 0.5, np.nan], [1.5, 2.5, 3.5, 0.25], "float32", "float32"),
                _case([np.nan, -0.0, 0.5, -np.inf], [-np.inf, 0.0], [1, 2, 3], "float64", "int16"),
                _case([1, 2], [], [4.5], "int64", "float64"),
            ),
        ),
        tolerance=0.0,
        family=Family.INDEX,
        internal=True,
    )
)


def table(keys: np.ndarray, values: np.ndarray, default: object) -> tuple[np.ndarray, np.ndarray]:
    """Sorted keys, and their values with the default behind them. Of equal keys the first holds."""
    keys, first = np.unique(keys + keys.dtype.type(0), return_index=True)
    return keys, np.append(values[first], np.array([default], values.dtype))
