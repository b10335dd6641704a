"""Elementwise operators: one output element depends on one element of each (broadcast) operand."""

from __future__ import annotations

import numpy as np

from graphc import expr as e
from graphc.op import FLOATS, NUMBERS, Attr, Call, Domain, Kind, Op, register
from graphc.types import TensorType, broadcast


def same_dtype(call: Call) -> list[TensorType]:
    """Operands of one dtype, shapes broadcast; the result has that dtype."""
    types = [call.type(i) for i in range(len(call.inputs)) if call.has(i)]
    if any(t.dtype != types[0].dtype for t in types):
        raise call.fail("operands differ in dtype", "insert a Cast")
    try:
        return [TensorType(types[0].dtype, broadcast(*(t.shape for t in types)))]
    except ValueError as error:
        raise call.fail(str(error)) from None


def elementwise(name: str, inputs: str, scalar, reference, *, infer=same_dtype, attrs=None, dtypes=FLOATS, low=-4.0, high=4.0, **more) -> Op:
    attrs = attrs or {}
    return register(
        Op(name, tuple(inputs.split()), Kind.ELEMENTWISE, infer, reference, attrs, scalar=scalar, scalar_attrs=tuple(attrs), domain=Domain(dtypes, low, high), **more)
    )


elementwise("Add", "a b", lambda a, b: a + b, np.add, dtypes=NUMBERS)
elementwise("Relu", "x", lambda x: e.maximum(x, 0), lambda x: np.where(x > 0, x, x * 0), dtypes=FLOATS)
elementwise(
    "LeakyRelu", "x", lambda x, alpha: e.where(x < 0, x * alpha, x), lambda x, alpha: np.where(x < 0, x * x.dtype.type(alpha), x), attrs={"alpha": Attr(float, 0.01)}
)
