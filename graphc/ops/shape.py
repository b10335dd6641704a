"""Operators on shapes: the elements stay where they are in row-major order, only the dims change."""

from __future__ import annotations

import math

import numpy as np

from graphc.op import NUMBERS, Attr, Call, Case, Const, Deferred, Family, Op, Samples, Tensor, register
from graphc.types import Dim, Sym, TensorType, prod

ANY = (*NUMBERS, "bool")  # dtypes of operators that only move elements


def same_type(call: Call) -> list[TensorType]:
    """The result has the type of operand 0."""
    return [call.type(0)]


def reshaped(call: Call) -> list[TensorType]:
    """Type of Reshape. 0 copies a dim (unless allowzero), one -1 takes what is left; symbolic dims cancel by name."""
    x, target = call.type(0), call.ints(1)
    dims: list[Dim] = []
    for i, d in enumerate(target):
        if d == 0 and not call.attrs.allowzero:
            if i >= x.rank:
                raise call.fail(f"shape {target} copies dim {i} of {x}, which has only {x.rank} dims")
            dims.append(x.shape[i])
        elif d < -1:
            raise call.fail(f"shape {target} has a dim below -1")
        else:
            dims.append(d)
    if target.count(-1) > 1:
        raise call.fail(f"shape {target} has more than one -1")
    if -1 in target:
        if call.attrs.allowzero and 0 in target:
            raise call.fail(f"shape {target} has both 0 and -1 with allowzero, so that -1 is not defined")
        hole = target.index(-1)
        dims[hole] = _rest(call, x, dims[:hole] + dims[hole + 1 :])
    total, want = x.size, prod(dims)
    if isinstance(total, int) and isinstance(want, int) and total != want:
        raise call.fail(f"can't reshape {x} ({total} elements) to {target} ({want} elements)")
    return [x.with_shape(dims)]


def _rest(call: Call, x: TensorType, known: list[Dim]) -> Dim:
    """The dim that makes `known` hold as many elements as x: equal symbols and zeros cancel, then the numbers divide.

    So [0, -1] splits what lies behind a batch of nothing as it splits what lies behind any other.
    """
    left = list(x.shape)
    right = []
    for d in known:
        if (isinstance(d, Sym) or d == 0) and d in left:
            left.remove(d)
        else:
            right.append(d)
    number = math.prod(d for d in left if isinstance(d, int))
    divisor = math.prod(d for d in right if isinstance(d, int))
    symbols = [d for d in left if isinstance(d, Sym)]
    if divisor == 0:
        raise call.fail(f"-1 is not defined where another dim is 0, operand is {x}")
    if number % divisor == 0:
        number, divisor = number // divisor, 1
    elif not symbols:
        raise call.fail(f"can't reshape {x}: {number} elements do not divide by {divisor}")
    return prod([number, *symbols]) // prod([divisor, *(d for d in right if isinstance(d, Sym))])


def _reshape(x, shape, allowzero):
    dims = [x.shape[i] if d == 0 and not allowzero else int(d) for i, d in enumerate(shape)]
    if -1 in dims and 0 in dims:  # NumPy does not know what copied dims of 0 leave over
        copied = [i for i, d in enumerate(shape) if d == 0]
        others = math.prod(d for i, d in enumerate(dims) if d != -1 and i not in copied)
        dims[dims.index(-1)] = math.prod(d for i, d in enumerate(x.shape) if i not in copied) // others
    return x.reshape(dims)


def _flattened(call: Call) -> list[TensorType]:
    x, axis = call.type(0), call.attrs.axis
    if not -x.rank <= axis <= x.rank:
        raise call.fail(f"axis {axis} is out of range for {x}", f"use an axis from {-x.rank} to {x.rank}")
    axis = axis + x.rank if axis < 0 else axis
    return [x.with_shape((prod(x.shape[:axis]), prod(x.shape[axis:])))]


def _flatten(x, axis):
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(int(np.prod(x.shape[:axis], dtype=np.int64)), int(np.prod(x.shape[axis:], dtype=np.int64)))


def axes_of(call: Call, axes: list[int], rank: int) -> list[int]:
    """Distinct axes, made non-negative. Raises TypeRuleError where one is out of range or named twice."""
    out = [call.axis_of(a, rank) for a in axes]
    if len(set(out)) != len(out):
        raise call.fail(f"axes {axes} name an axis twice")
    return out


def _squeezed(call: Call) -> list[TensorType]:
    x = call.type(0)
    if call.has(1):
        axes = axes_of(call, call.ints(1), x.rank)
    elif x.is_static:
        axes = [i for i, d in enumerate(x.shape) if d == 1]
    else:
        raise Deferred(f"which dims of {x} are 1")
    for a in axes:
        if isinstance(x.shape[a], int) and x.shape[a] != 1:
            raise call.fail(f"axis {a} of {x} is {x.shape[a]}, not 1")
    return [x.with_shape([d for i, d in enumerate(x.shape) if i not in axes])]


def _squeeze(x, axes=None):
    return np.squeeze(x, None if axes is None else tuple(int(a) for a in np.ravel(axes)))


def _unsqueezed(call: Call) -> list[TensorType]:
    x, given = call.type(0), call.ints(1)
    rank = x.rank + len(given)
    axes = axes_of(call, given, rank)
    rest = iter(x.shape)
    return [x.with_shape([1 if i in axes else next(rest) for i in range(rank)])]


def _shape_range(rank: int, start: int, end: int | None) -> range:
    """Dims that Shape gives: start and end may be negative and are clamped to [0, rank]."""
    return range(*slice(start, end).indices(rank))


def _shape_value(call: Call) -> list[TensorType]:
    return [TensorType(np.int64, (len(_shape_range(call.rank(0), call.attrs.start, call.attrs.end)),))]


register(
    Op(
        "Identity",
        ("x",),
        same_type,
        lambda x: x,
        tolerance=0.0,
        samples=Samples(ANY, cases=(Case((Tensor((2, 3)),)), Case((Tensor(()),)))),
        family=Family.MOVEMENT,
        objects=True,
    )
)
register(
    Op(
        "Reshape",
        ("x", "shape"),
        reshaped,
        _reshape,
        {"allowzero": Attr(bool, False, settled=True)},
        values=(1,),
        tolerance=0.0,
        samples=Samples(
            ANY,
            cases=(
                Case((Tensor((2, 3, 4)), Const([4, 6]))),
                Case((Tensor((2, 3, 4)), Const([0, -1]))),
                Case((Tensor((2, 3, 4)), Const([-1, 0, 2, 2]))),
                Case((Tensor((1, 1)), Const([], "int64"))),
                Case((Tensor((0, 3)), Const([3, 0])), {"allowzero": True}),
            ),
        ),
        family=Family.MOVEMENT,
    )
)
register(
    Op(
        "Flatten",
        ("x",),
        _flattened,
        _flatten,
        {"axis": Attr(int, 1, settled=True)},
        tolerance=0.0,
        samples=Samples(ANY, cases=tuple(Case((Tensor((2, 3, 4)),), {"axis": a}) for a in (0, 1, 3, -1))),
        family=Family.MOVEMENT,
    )
)
register(
    Op(
        "Squeeze",
        ("x", "axes?"),
        _squeezed,
        _squeeze,
        values=(1,),
        tolerance=0.0,
        samples=Samples(
            ANY,
            cases=(
                Case((Tensor((1, 3, 1)),)),
                Case((Tensor((1, 3, 1)), Const([-1]))),
                Case((Tensor((1, 1)), Const([0, 1]))),
            ),
        ),
        family=Family.MOVEMENT,
    )
)
register(
    Op(
        "Unsqueeze",
        ("x", "axes"),
        _unsqueezed,
        lambda x, axes: np.expand_dims(x, tuple(int(a) for a in np.ravel(axes))),
        values=(1,),
        tolerance=0.0,
        samples=Samples(
            ANY,
            cases=(
                Case((Tensor((3, 2)), Const([0, 3]))),
                Case((Tensor((3,)), Const([-1]))),
                Case((Tensor(()), Const([0]))),
            ),
        ),
        family=Family.MOVEMENT,
    )
)
register(
    Op(
        "Shape",
        ("x",),
        _shape_value,
        lambda x, start, end: np.array([x.shape[i] for i in _shape_range(x.ndim, start, end)], np.int64),
        {"start": Attr(int, 0), "end": Attr(int, None)},
        outputs=("shape",),
        type_only=True,
        samples=Samples(
            ANY,
            cases=(
                Case((Tensor((2, 3, 4)),)),
                Case((Tensor(()),)),
                Case((Tensor((2, 3, 4)),), {"start": 1}),
                Case((Tensor((2, 3, 4)),), {"start": -2, "end": -1}),
                Case((Tensor((2, 3, 4)),), {"start": -9, "end": 9}),
                Case((Tensor((2, 3, 4)),), {"start": 2, "end": 1}),
            ),
        ),
        family=Family.SOURCE,
    )
)
register(
    Op(
        "Size",
        ("x",),
        lambda call: [TensorType(np.int64, ())],
        lambda x: np.array(x.size, np.int64),
        outputs=("size",),
        type_only=True,
        samples=Samples(ANY, cases=(Case((Tensor((2, 3)),)), Case((Tensor(()),)))),
        family=Family.SOURCE,
    )
)
