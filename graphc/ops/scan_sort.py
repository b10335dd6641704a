"""Operators along an ordered axis: running sums and products, the largest entries, the distinct ones."""

from __future__ import annotations

import numpy as np

from graphc.op import NUMBERS, Attr, Call, Case, Const, Tensor
from graphc.ops.index import dim_of_data, of_axis, register_index
from graphc.ops.precision import widen
from graphc.types import Dim, TensorType


# --- CumSum, CumProd --------------------------------------------------------------------------------------------------
def _running(call: Call) -> list[TensorType]:
    axis = call.ints(1)
    if len(axis) != 1:
        raise call.fail(f"axis {axis} must be one number")
    call.axis_of(axis[0], call.rank(0))
    return [call.type(0)]


def _cumulative(accumulate: np.ufunc, first: int):
    """Reference of a running `accumulate`, whose neutral element is `first`."""

    def reference(x, axis, exclusive, reverse):
        y = np.moveaxis(widen(x), int(np.reshape(axis, ())), 0)
        y = y[::-1] if reverse else y
        if exclusive:
            y = np.concatenate([np.full_like(y[:1], first), y[:-1]])
        y = accumulate.accumulate(y, axis=0, dtype=y.dtype)
        y = y[::-1] if reverse else y
        return np.moveaxis(y, 0, int(np.reshape(axis, ()))).astype(x.dtype, copy=False)

    return reference


for _name, _ufunc, _first in (("CumSum", np.add, 0), ("CumProd", np.multiply, 1)):
    register_index(
        _name,
        "x axis",
        _running,
        _cumulative(_ufunc, _first),
        [
            Case((Tensor((2, 3, 4)), Const(1))),
            Case((Tensor((5,)), Const(0, "int32")), {"exclusive": True}),
            Case((Tensor((2, 5)), Const(-1)), {"reverse": True}),
            Case((Tensor((3, 2)), Const(0)), {"exclusive": True, "reverse": True}),
        ],
        {"exclusive": Attr(bool, False), "reverse": Attr(bool, False)},
        values=(1,),
        dtypes=("float32", "float64", "int32", "int64"),
        tolerance=1e-5,
    )


# --- TopK -------------------------------------------------------------------------------------------------------------
def _top_types(call: Call) -> list[TensorType]:
    x, k = call.type(0), call.ints(1)
    axis = call.axis_of(call.attrs.axis, x.rank)
    if len(k) != 1 or k[0] < 0:
        raise call.fail(f"k {k} must be one number, not negative")
    length = x.shape[axis]
    if isinstance(length, int) and k[0] > length:
        raise call.fail(f"k is {k[0]}, axis {axis} of {x} has {length} entries")
    y = x.with_shape([*x.shape[:axis], k[0], *x.shape[axis + 1 :]])
    return [y, y.with_dtype(np.int64)]


def _top_k(x, k, axis, largest, sorted):  # noqa: A002  (the attribute's name)
    n = x.shape[axis]
    if largest:  # a stable sort of the flipped axis, read backwards: of equal entries the lower index comes first
        order = n - 1 - np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis, kind="stable")
    order = np.take(order, np.arange(int(np.reshape(k, ()))), axis).astype(np.int64)
    return np.take_along_axis(x, order, axis), order


register_index(
    "TopK",
    "x k",
    _top_types,
    _top_k,
    [
        Case((Tensor((3, 4)), Const([2])), n_outputs=2),
        Case((Tensor((3, 4)), Const([3])), {"axis": 0, "largest": False}, 2),
        Case((Const([[1, 3, 3, 2, 3]], "float32"), Const([4])), n_outputs=2),
        Case((Const([[3, 1, 1, 2, 1]], "int64"), Const([4])), {"largest": False}, 2),
        Case((Tensor((2, 3)), Const([0])), n_outputs=2),
    ],
    {
        "axis": Attr(int, -1),
        "largest": Attr(bool, True),
        "sorted": Attr(bool, True, settled=True),
    },  # else in any order: sorted, too
    outputs=("values", "indices"),
    values=(1,),
    dtypes=NUMBERS,
)


# --- Unique -----------------------------------------------------------------------------------------------------------
def _unique_types(call: Call) -> list[TensorType]:
    x = call.type(0)
    count: Dim = dim_of_data(call, 0, detail="" if call.attrs.axis is None else f", axis {call.attrs.axis}")
    vector = TensorType(np.int64, (count,))
    if call.attrs.axis is None:
        return [x.with_shape((count,)), vector, vector.with_shape((x.size,)), vector]
    axis = call.axis_of(call.attrs.axis, x.rank)
    y = x.with_shape([*x.shape[:axis], count, *x.shape[axis + 1 :]])
    return [y, vector, vector.with_shape((x.shape[axis],)), vector]


def _unique(x, axis, sorted):  # noqa: A002  (the attribute's name)
    y, first, inverse, counts = np.unique(x, True, True, True, axis=axis)
    inverse = inverse.reshape(-1)
    if not sorted:
        order = np.argsort(first, kind="stable")
        y, first, counts = np.take(y, order, 0 if axis is None else axis), first[order], counts[order]
        inverse = np.argsort(order, kind="stable")[inverse]
    return y, first.astype(np.int64), inverse.astype(np.int64), counts.astype(np.int64)


register_index(
    "Unique",
    "x",
    _unique_types,
    _unique,
    [
        Case((Const([2, 1, 1, 3, 4, 3], "float32"),), n_outputs=4),
        Case((Const([2, 1, 1, 3, 4, 3], "int64"),), {"sorted": False}, 4),
        Case((Const([[1, 0, 0], [1, 0, 0], [2, 3, 4]], "float32"),), {"axis": 0}, 4),
        Case((Const([[[1, 1], [0, 1], [2, 1], [0, 1]]] * 2, "float32"),), {"axis": 1, "sorted": False}, 4),
    ],
    {"axis": Attr(int, None), "sorted": Attr(bool, True)},
    outputs=("y", "indices", "inverse_indices", "counts"),
    bound=of_axis,
)
