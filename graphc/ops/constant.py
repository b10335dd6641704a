"""Constants: given in an attribute, filled, counted (Range, Positions), ones on a diagonal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from graphc.dtypes import is_narrow
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Family, Op, Samples, Tensor, register
from graphc.ops.shape import ANY
from graphc.sizes import largest, whole
from graphc.types import TensorType


def source(name: str, inputs: str, infer, reference, cases: Sequence[Case], attrs=None, **more) -> Op:
    """Register an operator of family SOURCE."""
    samples = Samples(more.pop("dtypes", ANY), more.pop("low", -4.0), more.pop("high", 4.0), tuple(cases))
    return register(
        Op(name, tuple(inputs.split()), infer, reference, attrs or {}, samples=samples, family=Family.SOURCE, **more)
    )


source(
    "Constant",
    "",
    lambda call: [TensorType(call.attrs.value.dtype, call.attrs.value.shape)],
    lambda value: value,
    [Case((), {"value": np.arange(6, dtype=np.float32).reshape(2, 3)}), Case((), {"value": np.array(7, np.int64)})],
    {"value": Attr("tensor")},
)


# --- ConstantOfShape, Range, EyeLike ----------------------------------------------------------------------------------
_ZERO = np.zeros(1, np.float32)


def _filled_type(call: Call) -> list[TensorType]:
    shape = call.ints(0)
    if call.attrs.value.size != 1 or any(d < 0 for d in shape):
        raise call.fail(f"value must have one element, shape {shape} no negative dims")
    return [TensorType(call.attrs.value.dtype, shape)]


source(
    "ConstantOfShape",
    "shape",
    _filled_type,
    lambda shape, value: np.full([int(d) for d in shape], value.reshape(())[()], value.dtype),
    [
        Case((Const([2, 3]),)),
        Case((Const([0]),), {"value": np.array([3], np.int64)}),
        Case((Const([]),), {"value": np.array([True])}),
    ],
    {"value": Attr("tensor", _ZERO)},
    values=(0,),
)


def range_length(start, limit, delta) -> int:
    """Number of elements of Range: max(ceil((limit - start) / delta), 0). Exact for integers."""
    if isinstance(delta, int):
        return largest(-((start - limit) // delta), 0)
    return max(math.ceil((limit - start) / delta), 0)


def _range_type(call: Call) -> list[TensorType]:
    if any(call.dtype(i) != call.dtype(0) for i in range(3)):
        raise call.fail("start, limit and delta differ in dtype", "insert a Cast")
    start, limit, delta = (_number(call.const(i)) for i in range(3))
    if delta == 0:
        raise call.fail("delta is 0")
    return [TensorType(call.dtype(0), (range_length(start, limit, delta),))]


def _number(x: np.ndarray) -> int | float:
    """The one element of x, as a Python number."""
    x = np.reshape(x, ())
    return whole(x[()]) if x.dtype.kind in "iuO" else float(x)


def _range(start, limit, delta, stash_type):
    dtype = start.dtype
    count = range_length(_number(start), _number(limit), _number(delta))
    wide = (np.float32 if stash_type == 1 else np.float64) if is_narrow(dtype) else dtype
    start, delta = (np.reshape(v, ()).astype(wide) for v in (start, delta))
    return (start + np.arange(count).astype(wide) * delta).astype(dtype)


source(
    "Range",
    "start limit delta",
    _range_type,
    _range,
    [
        Case((Const(3), Const(9), Const(3))),
        Case((Const(10, "int32"), Const(4, "int32"), Const(-4, "int32"))),
        Case((Const(1.0, "float32"), Const(2.0, "float32"), Const(0.3, "float32"))),
        Case((Const(5), Const(1), Const(2))),
    ],
    {"stash_type": Attr(int, 1)},
    values=(0, 1, 2),
)


def _eye_type(call: Call) -> list[TensorType]:
    x = call.type(0)
    if x.rank != 2:
        raise call.fail("takes a matrix")
    return [x.with_dtype(call.attrs.dtype or x.dtype)]


source(
    "EyeLike",
    "x",
    _eye_type,
    lambda x, dtype, k: np.eye(x.shape[0], x.shape[1], k).astype(dtype or x.dtype),
    [
        Case((Tensor((3, 4)),)),
        Case((Tensor((4, 3)),), {"k": -1, "dtype": "int32"}),
        Case((Tensor((2, 2)),), {"k": 5, "dtype": "float64"}),
    ],
    {"dtype": Attr("dtype", None, settled=True), "k": Attr(int, 0)},
    types_of=(0,),
)


# --- Positions: an operator of the compiler's own ---------------------------------------------------------------------
def _numbered(b: Builder, call: Call) -> Value:
    x = call.inputs[0]
    known = x.type is not None and x.type.is_static
    size = b.constant(x.type.elements, np.int64) if known else b.add("Size", x)
    shape = b.constant(x.shape, np.int64) if known else b.add("Shape", x)
    return b.add("Reshape", b.add("Range", b.constant(0), size, b.constant(1)), shape, allowzero=True)


source(
    "Positions",
    "x",
    lambda call: [call.type(0).with_dtype(np.dtype(np.int64))],
    lambda x: np.arange(x.size).reshape(x.shape),
    [Case((Tensor((2, 3, 4)),)), Case((Tensor(()),)), Case((Tensor((0, 5)),)), Case((Tensor((7,)),))],
    expand=_numbered,
    types_of=(0,),
)
