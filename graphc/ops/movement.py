"""Operators that move elements: where each one goes follows from shapes, attributes and constant operands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.dims import maximum, minimum
from graphc.op import Attr, Call, Case, Const, Family, Op, Samples, Tensor, register
from graphc.ops.shape import ANY, axes_of, same_type
from graphc.sizes import is_size, largest, whole
from graphc.types import Dim, Sym, TensorType, broadcast

INF = 2**31 - 1  # slice bounds at or beyond this mean "to the end" of a dim that is not known


def move(name: str, inputs: str, infer, reference, cases: Sequence[Case], attrs=None, **more) -> Op:
    """Register an operator of family MOVEMENT."""
    samples = Samples(more.pop("dtypes", ANY), cases=tuple(cases))
    more.setdefault("tolerance", 0.0)
    return register(
        Op(name, tuple(inputs.split()), infer, reference, attrs or {}, samples=samples, family=Family.MOVEMENT, **more)
    )


def same_dim(call: Call, axis: int, dims: Sequence[Dim]) -> Dim:
    """The one dim that all of `dims` are; an int wins over symbols. Raises TypeRuleError where two ints differ."""
    known = [d for d in dims if isinstance(d, int)]
    if any(d != known[0] for d in known[1:]):
        raise call.fail(f"operands differ in dim {axis}: {', '.join(map(str, dims))}")
    return known[0] if known else dims[0]


# --- Transpose, Expand, Tile ------------------------------------------------------------------------------------------
def _transposed(call: Call) -> list[TensorType]:
    x = call.type(0)
    perm = tuple(reversed(range(x.rank))) if call.attrs.perm is None else call.attrs.perm
    if sorted(perm) != list(range(x.rank)):
        raise call.fail(f"perm {list(perm)} is not a permutation of the axes of {x}")
    return [x.with_shape([x.shape[p] for p in perm])]


move(
    "Transpose",
    "x",
    _transposed,
    lambda x, perm: np.transpose(x, perm),
    [
        Case((Tensor((2, 3, 4)),)),
        Case((Tensor((2, 3, 4)),), {"perm": (0, 2, 1)}),
        Case((Tensor((2, 3, 4, 5)),), {"perm": (0, 2, 3, 1)}),
        Case((Tensor(()),)),
    ],
    {"perm": Attr("ints", None)},
)


def _expanded(call: Call) -> list[TensorType]:
    x, target = call.type(0), call.ints(1)
    if any(d < 0 for d in target):
        raise call.fail(f"shape {target} has negative sizes", "use 1 where a dim of x is to stay as it is")
    try:
        return [x.with_shape(broadcast(x.shape, target))]
    except ValueError as error:
        raise call.fail(str(error)) from None


move(
    "Expand",
    "x shape",
    _expanded,
    lambda x, shape: np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(int(d) for d in shape))),
    [
        Case((Tensor((3, 1)), Const([2, 1, 6]))),
        Case((Tensor((3, 1)), Const([3, 4]))),
        Case((Tensor((2, 3)), Const([1, 1]))),
        Case((Tensor(()), Const([2, 2]))),
    ],
    values=(1,),
)


def _tiled(call: Call) -> list[TensorType]:
    x, repeats = call.type(0), call.ints(1)
    if len(repeats) != x.rank or min(repeats, default=0) < 0:
        raise call.fail(f"repeats {repeats} must be {x.rank} numbers, none negative, for {x}")
    return [x.with_shape([d * r for d, r in zip(x.shape, repeats)])]


move(
    "Tile",
    "x repeats",
    _tiled,
    lambda x, repeats: np.tile(x, [int(r) for r in repeats]),
    [
        Case((Tensor((2, 3)), Const([2, 2]))),
        Case((Tensor((2, 3, 1)), Const([1, 3, 0]))),
        Case((Tensor((4,)), Const([3]))),
    ],
    values=(1,),
)


# --- Concat, Split ----------------------------------------------------------------------------------------------------
def _concatenated(call: Call) -> list[TensorType]:
    types = [call.type(i) for i in range(len(call.inputs))]
    if not types:
        raise call.fail("takes one operand or more")
    first = types[0]
    if any(t.dtype != first.dtype or t.rank != first.rank for t in types):
        raise call.fail("operands differ in dtype or rank")
    axis = call.axis_of(call.attrs.axis, first.rank)
    dims: list[Dim] = []
    for i in range(first.rank):
        column = [t.shape[i] for t in types]
        if i == axis:
            numbers = sum(d for d in column if isinstance(d, int))
            dims.append(sum((d for d in column if isinstance(d, Sym)), start=numbers))
        else:
            dims.append(same_dim(call, i, column))
    return [first.with_shape(dims)]


move(
    "Concat",
    "*xs",
    _concatenated,
    lambda *xs, axis: np.concatenate(xs, axis),
    [
        Case((Tensor((2, 3)), Tensor((4, 3))), {"axis": 0}),
        Case((Tensor((2, 3)), Tensor((2, 1)), Tensor((2, 2))), {"axis": -1}),
        Case((Tensor((1, 3, 2, 2)), Tensor((1, 16, 2, 2))), {"axis": 1}),
        Case((Tensor((2, 0)), Tensor((2, 2))), {"axis": 1}),
        Case((Tensor((5,)),), {"axis": 0}),
    ],
    {"axis": Attr(int)},
)


def split_sizes(dim: Dim, parts: int) -> list[Dim]:
    """`parts` sizes of a dim: equal, or the last one smaller."""
    chunk = (dim + (parts - 1)) // parts
    return [chunk] * (parts - 1) + [dim - chunk * (parts - 1)]


def _split_types(call: Call) -> list[TensorType]:
    x = call.type(0)
    axis = call.axis_of(call.attrs.axis, x.rank)
    dim = x.shape[axis]
    if call.has(1):
        if call.attrs.num_outputs is not None:
            raise call.fail("has both sizes and num_outputs", "give one of them")
        given = call.ints(1)
        if min(given, default=0) < 0 or (isinstance(dim, int) and sum(given) != dim):
            raise call.fail(f"sizes {given} do not add up to {dim}, axis {axis} of {x}")
        sizes: Sequence[Dim] = given
    else:
        sizes = split_sizes(dim, call.attrs.num_outputs or call.n_outputs)
        if isinstance(sizes[-1], int) and sizes[-1] < 0:
            raise call.fail(f"can't split {dim}, axis {axis} of {x}, into {len(sizes)} parts")
    if len(sizes) != call.n_outputs:
        raise call.fail(f"splits into {len(sizes)} parts but has {call.n_outputs} outputs")
    return [x.with_shape([*x.shape[:axis], s, *x.shape[axis + 1 :]]) for s in sizes]


def _split(x, sizes=None, *, axis, num_outputs, n_outputs):
    if sizes is None:
        sizes = split_sizes(x.shape[axis], num_outputs or n_outputs)
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))


move(
    "Split",
    "x sizes?",
    _split_types,
    _split,
    [
        Case((Tensor((6, 2)),), {"num_outputs": 3}, 3),
        Case((Tensor((2, 7)),), {"axis": 1, "num_outputs": 4}, 4),
        Case((Tensor((2, 6)), Const([2, 0, 4])), {"axis": -1}, 3),
        Case((Tensor((1, 48, 2, 2)), Const([16, 32])), {"axis": 1}, 2),
    ],
    {"axis": Attr(int, 0), "num_outputs": Attr(int, None, settled=True)},
    outputs=("*ys",),
    values=(1,),
)


# --- Slice ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Positions:
    """As a range: from `start` by `step` to `stop`, which may stand for many."""

    start: int
    stop: int
    step: int

    @property
    def count(self) -> int:
        far = self.stop - self.start if self.step > 0 else self.start - self.stop
        return largest(-(-far // abs(self.step)), 0)


def slice_bounds(dim: int, start: int, end: int, step: int) -> Positions:
    """Positions that one axis of Slice takes: negative bounds count from the end, both are clamped."""
    start, end = (_from_start(dim, b) for b in (start, end))
    if step > 0:
        return Positions(min(max(start, 0), dim), min(max(end, 0), dim), step)
    return Positions(min(max(start, 0), dim - 1), min(max(end, -1), dim - 1), step)


def _from_start(dim: int, bound: int) -> Any:
    if is_size(dim) and not is_size(bound):  # a sum of a size and the least int64 is too large for a dim
        return _bound(dim, bound)
    return bound + dim if bound < 0 else bound


def _slice_dim(dim: Dim, start: int, end: int, step: int) -> Dim:
    if isinstance(dim, int):
        return slice_bounds(dim, start, end, step).count
    first, behind = (_bound(dim, b) for b in (start, end))
    if step > 0:  # min(behind, dim) - max(first, 0)
        length = minimum(behind - first, dim - first, behind, dim)
    else:
        length = minimum(maximum(first, 0), dim - 1) - maximum(behind, -1)
    return maximum((length + abs(step) - 1) // abs(step), 0)


def _bound(dim: Dim, bound: int) -> Dim:
    """The position that a bound of a symbolic dim stands for: as large as any of the dim where it is INF."""
    if abs(bound) >= INF:
        return dim if bound > 0 else -1
    return dim + bound if bound < 0 else bound


def slice_axes(call: Call) -> list[tuple[int, int, int, int]]:
    """(axis, start, end, step) of each sliced axis. Raises Deferred, or TypeRuleError for a bad use."""
    rank = call.rank(0)
    starts, ends = call.ints(1), call.ints(2)
    axes = axes_of(call, call.ints(3), rank) if call.has(3) else list(range(len(starts)))
    steps = call.ints(4) if call.has(4) else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or len(starts) > rank:
        raise call.fail(f"starts {starts}, ends {ends}, axes {axes} and steps {steps} must be as many, at most {rank}")
    if 0 in steps:
        raise call.fail("a step is 0")
    return list(zip(axes, starts, ends, steps))


def _sliced(call: Call) -> list[TensorType]:
    x = call.type(0)
    dims = list(x.shape)
    for axis, start, end, step in slice_axes(call):
        dims[axis] = _slice_dim(dims[axis], start, end, step)
    return [x.with_shape(dims)]


def _slice(x, starts, ends, axes=None, steps=None):
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for axis, start, end, step in zip(axes, starts, ends, steps):
        p = slice_bounds(x.shape[axis], whole(start), whole(end), int(step))
        x = np.take(x, np.arange(p.start, p.stop, p.step, dtype=np.int64), int(axis))
    return x


move(
    "Slice",
    "x starts ends axes? steps?",
    _sliced,
    _slice,
    [
        Case((Tensor((6, 5)), Const([1, 0]), Const([4, 3]))),
        Case((Tensor((6, 5)), Const([1]), Const([-1]), Const([1]))),
        Case((Tensor((6, 5)), Const([0, 1]), Const([1000, 2**63 - 1]), Const([1, 0]), Const([2, 3]))),
        Case((Tensor((6, 5)), Const([-1, 4]), Const([-(2**63), 0]), Const([0, -1]), Const([-1, -2]))),
        Case((Tensor((6, 5)), Const([4]), Const([2]), Const([0]))),
        Case((Tensor((6, 5)), Const([20]), Const([1]), Const([0], "int32"), Const([-1], "int32"))),
    ],
    values=(1, 2, 3, 4),
)


# --- Pad --------------------------------------------------------------------------------------------------------------
def pad_amounts(call: Call) -> list[tuple[int, int]]:
    """(before, after) of every axis; negative amounts crop. Raises Deferred, or TypeRuleError for a bad use."""
    rank, pads = call.rank(0), call.ints(1)
    axes = axes_of(call, call.ints(3), rank) if call.has(3) else list(range(rank))
    if len(pads) != 2 * len(axes):
        raise call.fail(f"pads {pads} must be {2 * len(axes)} numbers: all the starts, then all the ends")
    amounts = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        amounts[axis] = (pads[i], pads[len(axes) + i])
    return amounts


def _padded(call: Call) -> list[TensorType]:
    x = call.type(0)
    if call.has(2) and call.dtype(2) != x.dtype:
        raise call.fail(f"constant_value must be {x.dtype}", "insert a Cast")
    amounts = pad_amounts(call)
    dims = [d + (before + after) for d, (before, after) in zip(x.shape, amounts)]
    for axis, (old, new, (before, after)) in enumerate(zip(x.shape, dims, amounts)):
        if not isinstance(new, int) or not isinstance(old, int):
            continue
        left = old + min(before, 0) + min(after, 0)  # elements that the other modes repeat
        if new < 0 or (call.attrs.mode != "constant" and (left < 0 or left == 0 < new)):
            raise call.fail(f"can't pad axis {axis} of {x} by {before} and {after} in mode {call.attrs.mode}")
    return [x.with_shape(dims)]


def _pad(x, pads, value=None, axes=None, *, mode):
    axes = list(range(x.ndim)) if axes is None else [int(a) % x.ndim for a in axes]
    amounts = np.zeros((x.ndim, 2), np.int64)
    amounts[axes] = np.reshape(pads, (2, -1)).T
    if mode != "constant":
        crop = np.maximum(-amounts, 0)
        x = x[tuple(slice(a, d - b) for d, (a, b) in zip(x.shape, crop))]
        return np.pad(x, np.maximum(amounts, 0), mode)
    fill = ("" if x.dtype == object else 0) if value is None else np.reshape(value, ())[()]
    out = np.full([d + a + b for d, (a, b) in zip(x.shape, amounts)], fill, x.dtype)
    first = np.maximum(amounts[:, 0], 0)  # of the result's elements that are x's, and the one behind the last
    end = np.maximum(np.minimum(amounts[:, 0] + x.shape, out.shape), first)
    kept = tuple(map(slice, first, end))
    out[kept] = x[tuple(map(slice, first - amounts[:, 0], end - amounts[:, 0]))]
    return out


move(
    "Pad",
    "x pads value? axes?",
    _padded,
    _pad,
    [
        Case((Tensor((3, 4)), Const([1, 0, 2, 1]))),
        Case((Tensor((3, 4), dtype="float32"), Const([0, 2, 0, 1]), Const(1.5, "float32"))),
        Case((Tensor((1, 3, 4)), Const([1, 1]), None, Const([-1]))),
        Case((Tensor((3, 4)), Const([-1, 2, 0, -1]))),
        Case((Tensor((1, 2, 3, 4)), Const([0, 0, 1, 2, 0, 0, 1, 1])), {"mode": "reflect"}),
        Case((Tensor((1, 2, 3, 4)), Const([0, 0, 1, 5, 0, 0, 4, 1])), {"mode": "edge"}),
        Case((Tensor((1, 2, 3, 4)), Const([0, 0, 1, 2, 0, 0, 1, 1])), {"mode": "wrap"}),
    ],
    {"mode": Attr(str, "constant", ("constant", "reflect", "edge", "wrap"))},
    values=(1, 3),
)


# --- Trilu, CenterCropPad ---------------------------------------------------------------------------------------------
def _triangle(call: Call) -> list[TensorType]:
    if call.rank(0) < 2:
        raise call.fail("takes a matrix or a stack of them")
    return same_type(call)


def _trilu(x, k=None, *, upper):
    rows, columns = np.ogrid[: x.shape[-2], : x.shape[-1]]
    k = 0 if k is None else int(np.reshape(k, ()))
    keep = columns - rows >= k if upper else columns - rows <= k
    return np.where(keep, x, x.dtype.type(0))


move(
    "Trilu",
    "x k?",
    _triangle,
    _trilu,
    [
        Case((Tensor((4, 5)),)),
        Case((Tensor((2, 5, 4)), Const(-2)), {"upper": False}),
        Case((Tensor((3, 3)), Const(1)), {"upper": True}),
        Case((Tensor((3, 3)), Const(9)), {"upper": True}),
    ],
    {"upper": Attr(bool, True)},
    values=(1,),
)


def _crop_pad_axes(call: Call) -> tuple[TensorType, list[int], list[int]]:
    x, target = call.type(0), call.ints(1)
    axes = list(range(x.rank)) if call.attrs.axes is None else axes_of(call, list(call.attrs.axes), x.rank)
    if len(axes) != len(target):
        raise call.fail(f"shape {target} must have one dim for each of the axes {axes}")
    return x, axes, target


def _center_type(call: Call) -> list[TensorType]:
    x, axes, target = _crop_pad_axes(call)
    dims = list(x.shape)
    for axis, d in zip(axes, target):
        dims[axis] = d
    return [x.with_shape(dims)]


def _center_crop_pad(x, shape, axes):
    axes = range(x.ndim) if axes is None else axes
    for axis, want in zip(axes, shape):
        have, want = x.shape[axis], int(want)
        first = abs(have - want) // 2
        if want <= have:
            x = np.take(x, range(first, first + want), axis)
        else:
            amounts = [(0, 0)] * x.ndim
            amounts[axis] = (first, want - have - first)
            x = np.pad(x, amounts)
    return x


move(
    "CenterCropPad",
    "x shape",
    _center_type,
    _center_crop_pad,
    [
        Case((Tensor((5, 8, 3)), Const([4, 9, 3]))),
        Case((Tensor((5, 8, 3)), Const([10, 7])), {"axes": (-1, 0)}),
    ],
    {"axes": Attr("ints", None, settled=True)},
    values=(1,),
)
