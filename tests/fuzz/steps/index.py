"""Operators whose positions come from data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..draft import Draft, Reject, Tensor
from ..draws import BOOL, I64, is_float
from . import step


def positions(d: Draft, shape: Sequence[int], n: int, dtype=np.int64, negative: bool = True) -> Tensor:
    """Indices into n elements: a constant or an input."""
    if n == 0 and math.prod(shape):
        raise Reject("nothing to index")
    low = -n if negative and d.draw.chance(0.4) else 0
    array = d.draw.array(dtype, shape, low, n - 1)
    if d.outer is None and d.draw.chance(0.4):
        return d.input_of([array] * d.shared.worlds, shape)
    return d.const(array)


def indexed(d: Draft) -> tuple[Tensor, int]:
    x = d.pick(lambda t: 0 < t.rank < 7 and t.size > 0)
    return x, d.axis(x, fixed=True)


@step(2)
def gather(d: Draft) -> Tensor:
    x, axis = indexed(d)
    shape = d.draw.shape(d.draw.count(0, 2), 12, zeros=d.draw.chance(0.1))
    return d.node("Gather", x, positions(d, shape, x.shape[axis], d.draw.one_of(np.int64, np.int32)), axis=axis)


@step(1)
def gather_elements(d: Draft) -> Tensor:
    x, axis = indexed(d)
    dims = [n if i in x.open else d.draw.count(1, n) for i, n in enumerate(x.shape)]
    if x.open:
        raise Reject("open")
    dims[axis] = d.draw.count(1, 5)
    return d.node("GatherElements", x, positions(d, dims, x.shape[axis]), axis=axis)


@step(1)
def gather_nd(d: Draft) -> Tensor:
    x = d.pick(lambda t: 0 < t.rank < 6 and t.size > 0 and not t.open)
    batch = d.draw.count(0, x.rank - 1) if d.draw.chance(0.4) else 0
    depth = d.draw.count(1, x.rank - batch)
    indices = np.stack(
        [d.draw.array(I64, (*x.shape[:batch], 3), -n, n - 1) for n in x.shape[batch : batch + depth]], -1
    )
    return d.node("GatherND", x, d.const(indices), batch_dims=batch or None)


@step(1.2)
def scatter_elements(d: Draft) -> Tensor:
    x, axis = indexed(d)
    if x.open or x.dtype == BOOL:
        raise Reject("open")
    dims = [d.draw.count(1, n) for n in x.shape]
    reduction = d.draw.one_of(
        "none", "none", *(["add", "mul"] if d.opset >= 16 else []), *(["max", "min"] if d.opset >= 18 else [])
    )
    n = x.shape[axis]
    if reduction == "none":  # the order of writes to one place is not defined
        order = d.draw.rng.permuted(np.broadcast_to(np.arange(n), (*dims[:axis], *dims[axis + 1 :], n)), axis=-1)
        axis %= x.rank
        indices = d.const(np.moveaxis(order[..., : dims[axis]], -1, axis).astype(I64)) if axis >= 0 else None
    else:
        indices = positions(d, dims, n)
    updates = d.operand(x.dtype, indices.shape)
    return d.node(
        "ScatterElements", x, indices, updates, axis=axis, reduction=None if reduction == "none" else reduction
    )


@step(1.2)
def scatter_nd(d: Draft) -> Tensor:
    x = d.pick(lambda t: 0 < t.rank < 6 and t.size > 0 and not t.open and t.dtype != BOOL)
    depth = d.draw.count(1, x.rank)
    reduction = d.draw.one_of(
        "none", "none", *(["add", "mul"] if d.opset >= 16 else []), *(["max", "min"] if d.opset >= 18 else [])
    )
    places = math.prod(x.shape[:depth])
    n = min(places, d.draw.count(1, 4))
    flat = d.draw.rng.choice(places, n, replace=reduction != "none")
    indices = np.stack(np.unravel_index(flat, x.shape[:depth]), -1).astype(I64)
    updates = d.operand(x.dtype, (n, *x.shape[depth:]))
    return d.node("ScatterND", x, d.const(indices), updates, reduction=None if reduction == "none" else reduction)


@step(0.8)
def one_hot(d: Draft) -> Tensor:
    depth = d.draw.count(1, 9)
    indices = positions(d, d.draw.shape(d.draw.count(0, 3), 40), depth)
    depth_value = d.const(depth, d.draw.one_of(np.int64, np.int32, np.float32)) if d.draw.chance(0.7) else d.ints(depth)
    values = d.const([0, d.draw.one_of(1, 2)], d.draw.one_of(np.float32, np.int64))
    return d.node("OneHot", indices, depth_value, values, axis=d.draw.count(-indices.rank - 1, indices.rank))


@step(1)
def top_k(d: Draft) -> tuple:
    x = d.pick(lambda t: t.rank > 0 and t.size > 0 and t.dtype != BOOL)
    axis = d.axis(x, fixed=True)
    k = d.draw.count(0 if d.draw.chance(0.1) else 1, x.shape[axis])
    return d.node("TopK", x, d.ints(k), axis=axis, largest=d.draw.one_of(None, 0, 1), outputs=2)


@step(1)
def arg(d: Draft) -> Tensor:
    x = d.pick(lambda t: t.rank > 0 and t.size > 0 and t.dtype != BOOL)
    return d.node(
        d.draw.one_of("ArgMax", "ArgMin"), x, axis=d.axis(x), keepdims=d.draw.one_of(None, 0, 1),
        select_last_index=d.draw.one_of(None, 0, 1),
    )  # fmt: skip


@step(1)
def cumulative(d: Draft) -> Tensor:
    x = d.pick(lambda t: t.rank > 0 and (is_float(t.dtype) or t.dtype.name in ("int32", "int64")))
    axis = d.const(d.axis(x), d.draw.one_of(np.int64, np.int32))
    return d.node("CumSum", x, axis, exclusive=d.draw.one_of(None, 1), reverse=d.draw.one_of(None, 1))


@step(0.5)
def compress(d: Draft) -> Tensor:
    x = d.pick(lambda t: t.rank > 0)
    axis = d.axis(x, fixed=True) if d.draw.chance(0.7) else None
    if axis is None and x.open:
        raise Reject("open")
    n = x.size if axis is None else x.shape[axis]
    condition = d.operand(BOOL, (max(1, d.draw.one_of(n, n, n - 1)),))
    return d.node("Compress", x, condition, axis=axis)


@step(0.5)
def non_zero(d: Draft) -> Tensor:
    x = d.pick(lambda t: t.rank > 0 and t.size < 300)
    if d.draw.chance(0.3):
        return d.node(
            "Unique",
            x,
            axis=d.draw.one_of(None, d.axis(x)),
            sorted=1,
            outputs=[True, *(d.draw.chance(0.5) for _ in range(3))],
        )
    return d.node("NonZero", x)


@step(0.6)
def reverse(d: Draft) -> Tensor:
    x = d.pick(lambda t: t.rank > 1 and t.size > 0 and not t.open & {0, 1})
    time = d.draw.count(0, 1)
    lengths = d.draw.array(I64, (x.shape[1 - time],), 1, x.shape[time])
    return d.node("ReverseSequence", x, d.const(lengths), time_axis=time, batch_axis=1 - time)


@step(0.7)
def embedding(d: Draft) -> Tensor:
    """Rows of a table, then added to positions."""
    n, width = d.draw.count(2, 20), d.draw.size()
    ids = positions(d, (d.draw.count(1, 2), d.draw.size(9)), n)
    rows = d.node("Gather", d.weights(n, width), ids)
    return d.node("Add", rows, d.weights(ids.shape[1], width))
