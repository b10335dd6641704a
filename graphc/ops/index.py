"""Operators that read at positions which come from data. Every position is checked before it is used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.errors import InputError
from graphc.op import Attr, Call, Case, Const, Deferred, Family, Op, Samples, Tensor, register
from graphc.ops.movement import same_dim
from graphc.ops.shape import ANY
from graphc.types import Dim, Sym, TensorType, may_be


def register_index(name: str, inputs: str, infer, reference, cases: Sequence[Case], attrs=None, **more) -> Op:
    """Register an operator of family INDEX. Elements move and do not change, unless `tolerance` says otherwise."""
    samples = Samples(more.pop("dtypes", ANY), cases=tuple(cases))
    more.setdefault("tolerance", 0.0)
    return register(
        Op(name, tuple(inputs.split()), infer, reference, attrs or {}, samples=samples, family=Family.INDEX, **more)
    )


def checked(
    op: str, indices: np.ndarray, size: int, axis: int, what: str = "index", negative: bool = True
) -> np.ndarray:
    """The indices as int64 in [0, size); negative ones count from the end. Raises InputError naming the first bad."""
    indices = np.asarray(indices).astype(np.int64)
    bad = (indices >= size) | (indices < (-size if negative else 0))
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        low = -size if negative else 0
        raise InputError(
            f"{what} {indices[place]} at {list(place)} is out of range for axis {axis}",
            hint=f"valid: {low} to {size - 1}" if size else f"axis {axis} is empty",
            op=op,
        )
    return np.where(indices < 0, indices + size, indices)


def require_integers(call: Call, i: int) -> None:
    """Raises TypeRuleError unless operand i is an integer tensor."""
    if call.dtype(i).kind not in "iu":
        raise call.fail(f"{call.op.inputs[i]} must be int32 or int64, not {call.dtype(i)}", "insert a Cast")


def dim_of_data(call: Call, *operands: int, detail: object = "") -> Sym:
    """The dim that only the operands' values tell: equal operands of one operator give equal dims."""
    names = ", ".join(call.inputs[i].name for i in operands)
    return Sym(f"{call.op.name}({names}{detail})")


def of_axis(call: Call) -> Dim:
    """The size of operand 0 along the attribute `axis`; of all of it without one."""
    x, axis = call.type(0), call.attrs.axis
    return x.size if axis is None else x.shape[axis]


# --- Gather, GatherElements, GatherND ---------------------------------------------------------------------------------
def _gathered(call: Call) -> list[TensorType]:
    x = call.type(0)
    require_integers(call, 1)
    axis = call.axis_of(call.attrs.axis, x.rank)
    return [x.with_shape(x.shape[:axis] + call.shape(1) + x.shape[axis + 1 :])]


def _gather(x, indices, axis):
    return np.take(x, checked("Gather", indices, x.shape[axis], axis), axis)


register_index(
    "Gather",
    "x indices",
    _gathered,
    _gather,
    [
        Case((Tensor((5, 3)), Const([[0, 4], [-5, 2]]))),
        Case((Tensor((3, 5)), Const([4, 0, 0], "int32")), {"axis": -1}),
        Case((Tensor((2, 3, 4)), Const(1)), {"axis": 1}),
        Case((Tensor((2, 3)), Const([]))),
    ],
    {"axis": Attr(int, 0)},
)


def _gathered_elements(call: Call) -> list[TensorType]:
    x, shape = call.type(0), call.shape(1)
    require_integers(call, 1)
    axis = call.axis_of(call.attrs.axis, x.rank)
    if len(shape) != x.rank:
        raise call.fail(f"indices must have rank {x.rank}, as the data")
    for i, (d, n) in enumerate(zip(x.shape, shape)):
        if i != axis and isinstance(d, int) and isinstance(n, int) and n > d:
            raise call.fail(f"indices have {n} entries in dim {i}, the data {d}")
    return [x.with_shape(shape)]


def along(indices: np.ndarray, axis: int) -> tuple[np.ndarray, ...]:
    """An index into an array whose position along `axis` is `indices` and elsewhere the element's own."""
    at = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    at[axis] = indices
    return tuple(at)


def _gather_elements(x, indices, axis):
    return x[along(checked("GatherElements", indices, x.shape[axis], axis), axis)]


register_index(
    "GatherElements",
    "x indices",
    _gathered_elements,
    _gather_elements,
    [
        Case((Tensor((3, 3)), Const([[1, 2, 0], [2, 0, 0]]))),
        Case((Tensor((2, 3)), Const([[0, -1], [-3, 1]], "int32")), {"axis": 1}),
        Case((Tensor((2, 2, 3)), Const(np.arange(8).reshape(2, 2, 2) % 3)), {"axis": 2}),
    ],
    {"axis": Attr(int, 0)},
)


def tuple_length(call: Call, rank: int) -> int:
    """Length of the index tuples that the last axis of operand 1 holds, at most `rank`. Raises TypeRuleError, or Deferred
    while it is not known: the rank of the result depends on it."""
    require_integers(call, 1)
    shape = call.shape(1)
    if shape and isinstance(shape[-1], Sym):
        raise Deferred(f"last dim of '{call.inputs[1].name}'")
    if not shape or not isinstance(shape[-1], int) or not 1 <= shape[-1] <= rank:
        raise call.fail(f"the last dim of indices {list(shape)} must be a number from 1 to {rank}")
    return shape[-1]


def _gathered_nd(call: Call) -> list[TensorType]:
    x, indices, b = call.type(0), call.type(1), call.attrs.batch_dims
    if not 0 <= b < min(x.rank, max(indices.rank, 1)):
        raise call.fail(f"batch_dims {b} must be below the ranks of {x} and {indices}")
    k = tuple_length(call, x.rank - b)
    batch: list[Dim] = [same_dim(call, i, (x.shape[i], indices.shape[i])) for i in range(b)]
    return [x.with_shape((*batch, *indices.shape[b:-1], *x.shape[b + k :]))]


def checked_tuples(op: str, indices: np.ndarray, dims: Sequence[int], first_axis: int = 0) -> tuple[np.ndarray, ...]:
    """One checked index array per axis, from index tuples in the last axis of `indices`."""
    return tuple(checked(op, indices[..., i], dims[i], first_axis + i) for i in range(indices.shape[-1]))


def _gather_nd(x, indices, batch_dims):
    at = checked_tuples("GatherND", indices, x.shape[batch_dims:], batch_dims)
    grid = np.ogrid[tuple(slice(n) for n in indices.shape[:-1])][:batch_dims]
    place = (*grid, *at)
    return x[place]


register_index(
    "GatherND",
    "x indices",
    _gathered_nd,
    _gather_nd,
    [
        Case((Tensor((2, 2)), Const([[0, 0], [1, -1]]))),
        Case((Tensor((2, 3, 2)), Const([[[0, 1]], [[1, 0]]]))),
        Case((Tensor((2, 3)), Const([[1], [0], [1]]))),
        Case((Tensor((2, 3, 4)), Const([[1], [2]])), {"batch_dims": 1}),
        Case((Tensor((2, 3, 4, 2)), Const(np.arange(12).reshape(2, 3, 2, 1) % 4)), {"batch_dims": 2}),
    ],
    {"batch_dims": Attr(int, 0)},
)


# --- OneHot -----------------------------------------------------------------------------------------------------------
def _one_hot_type(call: Call) -> list[TensorType]:
    shape, depth = list(call.shape(0)), call.ints(1)
    if len(depth) != 1 or depth[0] < 1 or call.rank(2) != 1 or not may_be(call.shape(2)[0], 2):
        raise call.fail(f"depth {depth} must be one positive number, values [off, on]")
    shape.insert(call.axis_of(call.attrs.axis, len(shape) + 1), depth[0])
    return [call.type(2).with_shape(shape)]


def _one_hot(indices, depth, values, axis):
    depth = int(np.reshape(depth, ()))
    wrapped = np.expand_dims(np.where(indices < 0, indices + depth, indices), axis)
    shape = [1] * wrapped.ndim
    shape[axis] = depth
    return values[(wrapped == np.arange(depth).reshape(shape)).astype(int)]


register_index(
    "OneHot",
    "indices depth values",
    _one_hot_type,
    _one_hot,
    [
        Case((Const([[0, 7], [-1, 2]]), Const(5), Const([0.0, 1.0], "float32"))),
        Case((Const([[0, 7], [-10, 2]]), Const(10.0, "float32"), Const([2, 5], "int32")), {"axis": 1}),
        Case((Const([1.0, 0.0, 9.0], "float32"), Const(4), Const([-1.0, 2.5], "float32")), {"axis": 0}),
    ],
    {"axis": Attr(int, -1)},
    values=(1,),
    dtypes=("float32",),
)


# --- ReverseSequence --------------------------------------------------------------------------------------------------
def _reversed(call: Call) -> list[TensorType]:
    x = call.type(0)
    if {call.attrs.batch_axis, call.attrs.time_axis} != {0, 1} or x.rank < 2:
        raise call.fail(
            f"batch_axis {call.attrs.batch_axis} and time_axis {call.attrs.time_axis} must be 0 and 1, rank 2 or more"
        )
    if call.rank(1) != 1:
        raise call.fail("sequence_lens must have one length per batch entry")
    same_dim(call, call.attrs.batch_axis, (x.shape[call.attrs.batch_axis], call.shape(1)[0]))
    return [x]


def _reverse_sequence(x, lengths, batch_axis, time_axis):
    steps = x.shape[time_axis]
    checked("ReverseSequence", lengths, steps + 1, time_axis, "sequence length", negative=False)
    t = np.arange(steps)
    order = np.where(t < lengths[:, None], lengths[:, None] - 1 - t, t)  # [batch, time]
    y = np.moveaxis(x, (batch_axis, time_axis), (0, 1))
    y = y[np.arange(len(lengths))[:, None], order]
    return np.moveaxis(y, (0, 1), (batch_axis, time_axis))


register_index(
    "ReverseSequence",
    "x sequence_lens",
    _reversed,
    _reverse_sequence,
    [
        Case((Tensor((4, 3, 2)), Const([1, 2, 4]))),
        Case((Tensor((3, 4)), Const([4, 0, 2])), {"batch_axis": 0, "time_axis": 1}),
    ],
    {"batch_axis": Attr(int, 1), "time_axis": Attr(int, 0)},
)


# --- Compress, NonZero ------------------------------------------------------------------------------------------------
def _compressed(call: Call) -> list[TensorType]:
    x, condition = call.type(0), call.type(1)
    flat = call.attrs.axis is None  # as x is: exporters give a mask of its shape
    if condition.dtype != bool or (condition.rank != 1 and not flat):
        raise call.fail(f"condition must be {'an array' if flat else 'a list'} of bools")
    kept: Dim = int(np.count_nonzero(call.const(1))) if call.inputs[1].is_const else dim_of_data(call, 1)
    if flat:
        return [x.with_shape((kept,))]
    axis = call.axis_of(call.attrs.axis, x.rank)
    return [x.with_shape((*x.shape[:axis], kept, *x.shape[axis + 1 :]))]


def _compress(x, condition, axis):
    size = x.size if axis is None else x.shape[axis]
    kept = checked("Compress", np.flatnonzero(condition), size, axis or 0, "condition", negative=False)
    return np.take(x, kept, axis)


register_index(
    "Compress",
    "x condition",
    _compressed,
    _compress,
    [
        Case((Tensor((3, 2)), Const([False, True, True], "bool")), {"axis": 0}),
        Case((Tensor((3, 2)), Const([False, True], "bool")), {"axis": -1}),
        Case((Tensor((3, 2)), Const([False, True, False, False, True], "bool"))),
    ],
    {"axis": Attr(int, None)},
    bound=of_axis,
)

register_index(
    "NonZero",
    "x",
    lambda call: [TensorType(np.int64, (call.rank(0), dim_of_data(call, 0)))],
    lambda x: np.stack(np.nonzero(np.atleast_1d(x))).astype(np.int64)[: x.ndim],
    [Case((Const([[1, 0], [1, 1]], "int64"),)), Case((Const([[0.0, 2.0, 0.0]], "float32"),)), Case((Tensor((3, 4)),))],
    bound=lambda call: call.type(0).size,
)
