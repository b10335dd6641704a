"""Reductions over axes, and the positions of extremes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphc import expr as e
from graphc.dtypes import int_range, is_float, is_integer
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Family, Op, Reduction, Samples, Tensor, register
from graphc.ops.cast import truncated
from graphc.ops.elementwise import EXACT, kind_of, require
from graphc.ops.precision import ANY, BOOL, FLOATING, INT64, NUMERIC, DtypeSet, in_float32
from graphc.types import TensorType

_ATTRS = {"keepdims": Attr(bool, True, settled=True), "noop_with_empty_axes": Attr(bool, False)}


# --- types ------------------------------------------------------------------------------------------------------------
def reduced_axes(call: Call) -> tuple[int, ...]:
    """The axes that a Reduce* call reduces over, ascending and not negative. Empty: each element by itself.

    Raises Deferred while the axes or the rank are unknown, TypeRuleError if they are out of range or repeated.
    """
    rank = call.rank(0)
    axes = [call.axis_of(a, rank) for a in call.ints(1)] if call.has(1) else []
    if len(set(axes)) < len(axes):
        raise call.fail(f"axes {call.ints(1)} name an axis twice")
    none_means_none = call.attrs.noop_with_empty_axes
    return tuple(sorted(axes)) if axes or none_means_none else tuple(range(rank))


def reduced_shape(shape: tuple, axes: tuple[int, ...], keepdims: bool) -> tuple:
    """The shape with the axes taken out, or made 1."""
    return tuple(1 if i in axes else d for i, d in enumerate(shape) if keepdims or i not in axes)


def _infer(takes: DtypeSet) -> Callable[[Call], list[TensorType]]:
    def infer(call: Call) -> list[TensorType]:
        x = call.type(0)
        require(call, takes, x.dtype)
        return [TensorType(x.dtype, reduced_shape(x.shape, reduced_axes(call), call.attrs.keepdims))]

    return infer


# --- references -------------------------------------------------------------------------------------------------------
def _reference(function: Callable[[np.ndarray, tuple[int, ...], bool], np.ndarray]) -> Callable:
    """`function(x, axes, keepdims)` with the operand and attributes of ONNX."""

    def run(x: np.ndarray, axes: np.ndarray | None = None, *, keepdims: bool, noop_with_empty_axes: bool) -> np.ndarray:
        given = () if axes is None else tuple(int(a) for a in np.ravel(axes))
        return function(x, given if given or noop_with_empty_axes else tuple(range(x.ndim)), keepdims)

    return in_float32(run)


def _sum(x: np.ndarray, axes: tuple[int, ...], keepdims: bool) -> np.ndarray:
    return np.sum(x, axes, keepdims=keepdims, dtype=x.dtype) if axes else x


def _mean(x: np.ndarray, axes: tuple[int, ...], keepdims: bool) -> np.ndarray:
    total, n = _sum(x, axes, keepdims), np.array(np.prod([x.shape[a] for a in axes], dtype=np.int64))
    if is_float(x.dtype):
        return total / n.astype(x.dtype)
    wide = total.astype(np.uint64 if x.dtype.kind == "u" else np.int64)  # float64 would round what is above 2^53
    n = n.astype(wide.dtype)
    return wide // n + ((wide < 0) & (wide % n != 0)).astype(wide.dtype)  # towards zero


def _lowest(dtype: np.dtype):
    return False if dtype == BOOL else -np.inf if is_float(dtype) else int_range(dtype)[0]


def _highest(dtype: np.dtype):
    return True if dtype == BOOL else np.inf if is_float(dtype) else int_range(dtype)[1]


def _log_sum_exp(x: np.ndarray, axes: tuple[int, ...], keepdims: bool) -> np.ndarray:
    if not axes:
        return x
    wide = _wide(x)
    return _like(x, np.logaddexp.reduce(x, axes, wide, keepdims=keepdims))  # type: ignore[call-overload]  # NumPy's stubs want a literal


def _wide(x: np.ndarray) -> np.dtype:
    return x.dtype if is_float(x.dtype) else np.dtype("float64")


def _like(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return y if is_float(x.dtype) else truncated(y, x.dtype)


# --- scalar code ------------------------------------------------------------------------------------------------------
def _square(x):
    return x * x


def _magnitude(x):
    return x if kind_of(x) in "ub" else e.absolute(x)


def _root(total, n):
    return e.sqrt(total) if kind_of(total) == "f" else e.cast(e.sqrt(e.cast(total, "float64")), total.dtype)


# --- records ----------------------------------------------------------------------------------------------------------
def _cases(*extra: Case) -> tuple[Case, ...]:
    x = Tensor((2, 3, 4))
    return (
        Case((x,)),
        Case((x,), {"keepdims": False}),
        Case((x, Const([1]))),
        Case((x, Const([-1])), {"keepdims": False}),
        Case((x, Const([2, 0])), {"keepdims": False}),
        Case((Tensor((5, 67)), Const([0]))),
        Case((x, Const([])), {"noop_with_empty_axes": True}),
        Case((x,), {"noop_with_empty_axes": True}),
        Case((x, Const([])), {"keepdims": False}),
        Case((Tensor(()),)),
        Case((Tensor((0, 3)), Const([1]))),
        *extra,
    )


_EMPTY = Case((Tensor((2, 0, 3)), Const([1])))
_NUMBERS = ("float32", "float64", "int32", "int64", "uint32")


def _reduce(
    name: str,
    reference: Callable,
    *,
    takes: DtypeSet = NUMERIC,
    dtypes=_NUMBERS,
    low=-1.0,
    high=4.0,
    empty=True,
    **more,
) -> Op:
    """Register a reduction. The range of operands leans to one side, so that sums do not cancel."""
    return register(
        Op(
            name,
            ("x", "axes?"),
            _infer(takes),
            _reference(reference),
            _ATTRS,
            samples=Samples(dtypes, low, high, _cases(_EMPTY) if empty else _cases()),
            flops=lambda call: call.type(0).size,
            values=(1,),
            **more,
        )
    )


_reduce("ReduceSum", _sum, reduction=Reduction("add"))
_reduce("ReduceMean", _mean, reduction=Reduction("add", finish=e.div), empty=False)
_reduce(
    "ReduceProd",
    lambda x, axes, keepdims: np.prod(x, axes, keepdims=keepdims, dtype=x.dtype),
    reduction=Reduction("mul"),
    high=1.5,
)
_reduce(
    "ReduceSumSquare", lambda x, axes, keepdims: _sum(x * x, axes, keepdims), reduction=Reduction("add", map=_square)
)
_reduce(
    "ReduceL1", lambda x, axes, keepdims: _sum(np.abs(x), axes, keepdims), reduction=Reduction("add", map=_magnitude)
)
_reduce(
    "ReduceL2",
    lambda x, axes, keepdims: np.sqrt(_sum(x * x, axes, keepdims)),
    reduction=Reduction("add", map=_square, finish=_root),
)
_reduce(
    "ReduceLogSum",
    lambda x, axes, keepdims: _like(x, np.log(_sum(x, axes, keepdims))),
    reduction=Reduction("add", finish=lambda total, n: e.log(total)),
    dtypes=(*FLOATING.dtypes, "int32", "int64", "uint32"),
    low=0.1,
)
_reduce(
    "ReduceMax",
    lambda x, axes, keepdims: np.max(x, axes, keepdims=keepdims, initial=_lowest(x.dtype)),
    reduction=Reduction("max"),
    takes=ANY,
    dtypes=(*_NUMBERS, "int8", "uint8", "bool"),
    tolerance=EXACT,
)
_reduce(
    "ReduceMin",
    lambda x, axes, keepdims: np.min(x, axes, keepdims=keepdims, initial=_highest(x.dtype)),
    reduction=Reduction("min"),
    takes=ANY,
    dtypes=(*_NUMBERS, "int8", "uint8", "bool"),
    tolerance=EXACT,
)


def _expand_log_sum_exp(b: Builder, call: Call) -> Value:
    """max + log(sum(exp(x - max))), with 0 for an infinite max: inf - inf would be NaN. Of integers in float64, cut off."""
    x, axes = call.inputs[0], reduced_axes(call)
    if not axes:
        return b.add("Identity", x)
    if is_integer(x.dtype):
        wide = b.add("Cast", x, to=np.dtype("float64"))
        y = b.add("ReduceLogSumExp", wide, b.constant(axes, INT64), keepdims=call.attrs.keepdims)
        return b.add("Cast", y, to=x.dtype)
    over = b.constant(axes, INT64)
    largest = b.add("ReduceMax", x, over)
    largest = b.add("Where", b.add("IsInf", largest), b.constant(0, x.dtype), largest)
    total = b.add("ReduceSum", b.add("Exp", b.add("Sub", x, largest)), over)
    y = b.add("Add", b.add("Log", total), largest)
    return y if call.attrs.keepdims else b.add("Squeeze", y, over)


_reduce(
    "ReduceLogSumExp",
    _log_sum_exp,
    expand=_expand_log_sum_exp,
    dtypes=(*FLOATING.dtypes, "int32", "int64", "uint32"),
    low=-90.0,
    high=90.0,
)


# --- positions of extremes --------------------------------------------------------------------------------------------
def _infer_arg(call: Call) -> list[TensorType]:
    x = call.type(0)
    require(call, NUMERIC, x.dtype)
    axis = call.axis_of(call.attrs.axis, x.rank)
    if x.shape[axis] == 0:
        raise call.fail(f"axis {call.attrs.axis} has no elements to choose from")
    return [TensorType(INT64, reduced_shape(x.shape, (axis,), call.attrs.keepdims))]


def _arg_reference(position: Callable) -> Callable:
    def run(x: np.ndarray, axis: int, keepdims: bool, select_last_index: bool) -> np.ndarray:
        if select_last_index:
            return x.shape[axis] - 1 - position(np.flip(x, axis), axis, keepdims=keepdims)
        return position(x, axis, keepdims=keepdims)

    return in_float32(run, like=None)


def _arg(name: str, position: Callable) -> Op:
    x = Tensor((3, 4, 5), -2, 2)
    return register(
        Op(
            name,
            ("x",),
            _infer_arg,
            _arg_reference(position),
            {"axis": Attr(int, 0), "keepdims": Attr(bool, True, settled=True), "select_last_index": Attr(bool, False)},
            tolerance=EXACT,
            samples=Samples(
                ("float32", "float64", "int32", "int64", "int8", "uint8"),
                cases=(
                    *(
                        Case((x,), {"axis": a, "keepdims": a > 0, "select_last_index": last})
                        for a in (-1, 0, 1)
                        for last in (0, 1)
                    ),
                    Case((Tensor((67,)),)),
                    Case((Tensor((0, 3)),), {"axis": 1}),
                ),
            ),
            flops=lambda call: call.type(0).size,
            family=Family.REDUCTION,
        )
    )


_arg("ArgMax", np.argmax)
_arg("ArgMin", np.argmin)
