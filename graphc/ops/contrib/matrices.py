"""Inverses of matrices, distances between their rows, and the cheapest way through one."""

from __future__ import annotations

import numpy as np

from graphc.dtypes import is_float
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Family, Op, Samples, Tensor, register
from graphc.ops.contract import differ, require_dtype, require_same_dtype
from graphc.ops.contrib.record import DOMAIN, composed
from graphc.ops.index import dim_of_data
from graphc.ops.movement import same_dim
from graphc.ops.precision import in_float32
from graphc.types import TensorType, may_be


# --- Inverse ----------------------------------------------------------------------------------------------------------
def _inverse_type(call: Call) -> list[TensorType]:
    x = call.type(0)
    if x.rank < 2 or not is_float(x.dtype):
        raise call.fail("takes square matrices of floats")
    same_dim(call, x.rank - 1, x.shape[-2:])
    return [x]


def _inverse(x: np.ndarray) -> np.ndarray:
    """LU decomposition with partial pivoting, whose quotients by a pivot of 0 are infinite or NaN: no matrix is refused."""
    y = np.empty(x.shape, x.dtype)
    for at in np.ndindex(x.shape[:-2]):
        y[at] = _inverse_of(x[at].copy())
    return y


def _inverse_of(lu: np.ndarray) -> np.ndarray:
    n = len(lu)
    y = np.eye(n, dtype=lu.dtype)
    for k in range(n):
        pivot = k + int(np.argmax(np.abs(lu[k:, k])))
        for rows in (lu, y):
            rows[[k, pivot]] = rows[[pivot, k]]
        if lu[k, k] != 0:
            lu[k + 1 :, k] /= lu[k, k]
            lu[k + 1 :, k + 1 :] -= np.outer(lu[k + 1 :, k], lu[k, k + 1 :])
    for k in range(n):
        y[k] -= lu[k, :k] @ y[:k]
    for k in reversed(range(n)):
        y[k] = (y[k] - lu[k, k + 1 :] @ y[k + 1 :]) / lu[k, k]
    return y


register(
    Op(
        f"{DOMAIN}::Inverse",
        ("x",),
        _inverse_type,
        in_float32(_inverse),
        tolerance=1e-3,  # of a matrix that is badly conditioned
        samples=Samples(cases=(Case((Tensor((3, 3)),)), Case((Tensor((2, 1, 4, 4)),)), Case((Tensor((1, 1)),)))),
        family=Family.CONTRACTION,
    )
)


# --- CDist ------------------------------------------------------------------------------------------------------------
def _check_rows(call: Call) -> None:
    require_dtype(call, 0, ("float32", "float64"))
    require_same_dtype(call, 0, 1)
    for i in (0, 1):
        if call.rank(i) != 2:
            raise call.fail(f"'{call.op.inputs[i]}' has shape {call.shape(i)}, not two axes")
    if differ(call.shape(0)[1], call.shape(1)[1]):
        raise call.fail(f"rows of {call.shape(0)[1]} and {call.shape(1)[1]} numbers", "both need the same")


def _expand_distances(b: Builder, call: Call) -> Value:
    """|a|² + |b|² - 2ab, not below 0: ab is one matrix product."""
    x, y = call.inputs
    columns = b.constant([1], np.int64)
    squares = b.add("ReduceSumSquare", x, columns, keepdims=True)
    others = b.add("Transpose", b.add("ReduceSumSquare", y, columns, keepdims=True), perm=[1, 0])
    product = b.add("MatMul", x, b.add("Transpose", y, perm=[1, 0]))
    both = b.add("Mul", product, b.constant(-2, call.dtype(0)))
    squared = b.add("Max", b.add("Add", b.add("Add", both, squares), others), b.constant(0, call.dtype(0)))
    return b.add("Sqrt", squared) if call.attrs.metric == "euclidean" else squared


def _distances(a, b, metric):
    squared = np.square(a[:, None] - b[None]).sum(-1)
    return np.sqrt(squared) if metric == "euclidean" else squared


composed(
    "CDist",
    "a b",
    _distances,
    _expand_distances,
    [
        Case((Tensor((4, 5)), Tensor((3, 5)))),
        Case((Tensor((4, 5)), Tensor((3, 5))), {"metric": "euclidean"}),
        Case((Tensor((1, 1)), Tensor((3, 1)))),
    ],
    {"metric": Attr(str, "sqeuclidean", ("sqeuclidean", "euclidean"))},
    check=_check_rows,
)


# --- DynamicTimeWarping -----------------------------------------------------------------------------------------------
def _path_type(call: Call) -> list[TensorType]:
    require_dtype(call, 0, ("float32", "float64"))
    x = call.shape(0)
    if len(x) not in (2, 3) or (len(x) == 3 and not may_be(x[0], 1)):
        raise call.fail(f"takes one matrix of costs, [rows, columns] or [1, rows, columns], not {x}")
    return [TensorType(np.int32, (2, dim_of_data(call, 0)))]


def _warped(x):
    """The cheapest path from the first to the last element by steps down, right or both; of equal ones a step right first."""
    x = x.reshape(x.shape[-2:])
    rows, columns = x.shape
    cost = np.full((rows + 1, columns + 1), np.inf, x.dtype)
    step = np.full((rows + 1, columns + 1), -1)
    cost[0, 0], step[0, :], step[:, 0] = 0, 2, 1
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            both, down, right = cost[i - 1, j - 1], cost[i - 1, j], cost[i, j - 1]
            taken = 0 if both < down and both < right else 1 if down < both and down < right else 2
            step[i, j] = taken
            cost[i, j] = x[i - 1, j - 1] + (both, down, right)[taken]
    path, i, j = [], rows, columns
    while i > 0 or j > 0:
        path.append((i - 1, j - 1))
        i, j = i - (step[i, j] != 2), j - (step[i, j] != 1)
    return np.array(path[::-1], np.int32).reshape(-1, 2).T


register(
    Op(
        f"{DOMAIN}::DynamicTimeWarping",
        ("x",),
        _path_type,
        _warped,
        tolerance=0.0,
        samples=Samples(("float32",), cases=(Case((Tensor((4, 6)),)), Case((Tensor((1, 7, 3)),)))),
        family=Family.INDEX,
    )
)
