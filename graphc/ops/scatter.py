"""Operators that write at positions which come from data. Every position is checked before it is used.

With reduction 'none' and one position written twice, the last update in row-major order stays (ONNX leaves it open).
"""

from __future__ import annotations

import numpy as np

from graphc.op import NUMBERS, Attr, Call, Case, Const, Tensor
from graphc.ops.contract import differ
from graphc.ops.index import along, checked, checked_tuples, register_index, require_integers, tuple_length
from graphc.ops.movement import same_dim
from graphc.types import TensorType

REDUCTIONS = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
_REDUCTION = Attr(str, "none", ("none", *REDUCTIONS))


def _write(x: np.ndarray, at: tuple[np.ndarray, ...], updates: np.ndarray, reduction: str) -> np.ndarray:
    """A copy of x with the updates written at `at`, or combined with what is there."""
    y = x.copy()
    if reduction == "none":
        y[at] = updates
    else:
        REDUCTIONS[reduction].at(y, at, updates)
    return y


def _require_same_dtype(call: Call) -> None:
    if call.dtype(2) != call.dtype(0):
        raise call.fail("updates must have the dtype of the data", "insert a Cast")


# --- ScatterElements --------------------------------------------------------------------------------------------------
def _scattered_elements(call: Call) -> list[TensorType]:
    x, indices, updates = call.type(0), call.type(1), call.type(2)
    require_integers(call, 1)
    _require_same_dtype(call)
    axis = call.axis_of(call.attrs.axis, x.rank)
    if not x.rank == indices.rank == updates.rank:
        raise call.fail("data, indices and updates must have one rank")
    for i, (d, n, u) in enumerate(zip(x.shape, indices.shape, updates.shape)):
        same_dim(call, i, (n, u))
        if i != axis and isinstance(d, int) and isinstance(n, int) and n > d:
            raise call.fail(f"indices have {n} entries in dim {i}, the data {d}")
    return [x]


def _scatter_elements(name: str, x, indices, updates, axis, reduction):
    return _write(x, along(checked(name, indices, x.shape[axis], axis), axis), updates, reduction)


_ELEMENTS = (
    Case((Tensor((3, 3)), Const([[1, 0, 2], [0, 2, 1]]), Tensor((2, 3)))),
    Case((Tensor((1, 5)), Const([[1, -2]], "int32"), Tensor((1, 2))), {"axis": 1}),
)
register_index(
    "ScatterElements",
    "x indices updates",
    _scattered_elements,
    lambda x, indices, updates, axis, reduction: _scatter_elements(
        "ScatterElements", x, indices, updates, axis, reduction
    ),
    [
        *_ELEMENTS,
        *(Case((Tensor((1, 5)), Const([[1, 1]]), Tensor((1, 2))), {"axis": 1, "reduction": r}) for r in REDUCTIONS),
    ],
    {"axis": Attr(int, 0), "reduction": _REDUCTION},
    dtypes=NUMBERS,
    tolerance=1e-6,
)
register_index(  # the name of ScatterElements before opset 11
    "Scatter",
    "x indices updates",
    _scattered_elements,
    lambda x, indices, updates, axis: _scatter_elements("Scatter", x, indices, updates, axis, "none"),
    _ELEMENTS,
    {"axis": Attr(int, 0)},
)


# --- ScatterND --------------------------------------------------------------------------------------------------------
def _scattered_nd(call: Call) -> list[TensorType]:
    x, indices, updates = call.type(0), call.type(1), call.type(2)
    _require_same_dtype(call)
    k = tuple_length(call, x.rank)
    want = indices.shape[:-1] + x.shape[k:]
    if updates.rank != len(want):
        raise call.fail(f"updates must have shape {list(want)}")
    for i, (a, b) in enumerate(zip(want, updates.shape)):
        same_dim(call, i, (a, b))
    return [x]


def _scatter_nd(x, indices, updates, reduction):
    return _write(x, checked_tuples("ScatterND", indices, x.shape), updates, reduction)


register_index(
    "ScatterND",
    "x indices updates",
    _scattered_nd,
    _scatter_nd,
    [
        Case((Tensor((8,)), Const([[4], [3], [1], [-1]]), Tensor((4,)))),
        Case((Tensor((4, 2, 3)), Const([[0], [2]]), Tensor((2, 2, 3)))),
        Case((Tensor((2, 3)), Const([[[0, 1]], [[1, -3]]]), Tensor((2, 1)))),
        *(Case((Tensor((3, 2)), Const([[1], [1]]), Tensor((2, 2))), {"reduction": r}) for r in REDUCTIONS),
    ],
    {"reduction": _REDUCTION},
    dtypes=NUMBERS,
    tolerance=1e-6,
)


# --- TensorScatter ----------------------------------------------------------------------------------------------------
def _cache_axis(call: Call, rank: int) -> int:
    axis = call.axis_of(call.attrs.axis, rank)
    if axis == 0:
        raise call.fail("axis 0 is the batch, not the sequence")
    return axis


def _updated_cache(call: Call) -> list[TensorType]:
    cache, update = call.type(0), call.type(1)
    if update.rank != cache.rank or update.dtype != cache.dtype:
        raise call.fail("update must have the dtype and rank of the cache")
    axis = _cache_axis(call, cache.rank)
    for i, (c, u) in enumerate(zip(cache.shape, update.shape)):
        if i != axis:
            same_dim(call, i, (c, u))
        elif isinstance(c, int) and isinstance(u, int) and u > c:
            raise call.fail(f"an update of {u} steps does not fit a cache of {c}")
    if call.has(2) and (call.rank(2) != 1 or differ(call.shape(2)[0], cache.shape[0])):
        raise call.fail(f"write_indices {call.type(2)} must have one index for each of {cache.shape[0]} batch entries")
    return [cache]


def _tensor_scatter(cache, update, write_indices=None, *, axis, mode):
    axis %= cache.ndim
    size, steps = cache.shape[axis], update.shape[axis]
    start = np.zeros(cache.shape[0], np.int64) if write_indices is None else np.asarray(write_indices, np.int64)
    positions = start[:, None] + np.arange(steps)  # [batch, steps]
    if mode == "circular":
        positions %= size
    positions = checked("TensorScatter", positions, size, axis, "write index", negative=False)
    y = np.moveaxis(cache, axis, 1).copy()
    y[np.arange(len(start))[:, None], positions] = np.moveaxis(update, axis, 1)
    return np.moveaxis(y, 1, axis)


register_index(
    "TensorScatter",
    "cache update write_indices?",
    _updated_cache,
    _tensor_scatter,
    [
        Case((Tensor((2, 1, 4, 3)), Tensor((2, 1, 2, 3)), Const([1, 2]))),
        Case((Tensor((2, 4, 3)), Tensor((2, 2, 3)), Const([1, 3])), {"mode": "circular"}),
        Case((Tensor((2, 4, 3)), Tensor((2, 4, 1))), {"axis": -1}),
    ],
    {"axis": Attr(int, -2), "mode": Attr(str, "linear", ("linear", "circular"))},
)
