"""What the normalisations share: checks of operands, the reference of standardisation, the arithmetic of expansions.

Variances are taken in two passes, as the mean of the squared differences from the mean: E[x²] - E[x]² would cancel.
Narrow floats are computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.dtypes import is_narrow
from graphc.graph import Builder, Value
from graphc.op import Attr, Call
from graphc.ops.elementwise import require
from graphc.ops.precision import FLOAT32, FLOATING, INT64
from graphc.types import Sym, TensorType

EPSILON = Attr(float, 1e-5)
STASH = Attr("dtype", FLOAT32)


def infer_floats(call: Call) -> list[TensorType]:
    """The type of the first operand; all operands must be floats."""
    for i in range(len(call.inputs)):
        if call.has(i):
            require(call, FLOATING, call.dtype(i))
    return [call.type(0)]


def require_per_channel(call: Call, *names: str) -> None:
    """Operands 1 … must be vectors with one number per channel. An operand of rank 1 is one channel."""
    shape = call.shape(0)
    if not shape:
        raise call.fail("takes operands of rank 1 or more")
    channels = shape[1] if len(shape) > 1 else 1
    for i, name in enumerate(names, 1):
        got = call.shape(i)
        if len(got) != 1 or (isinstance(got[0], int) and isinstance(channels, int) and got[0] != channels):
            raise call.fail(f"'{name}' has shape {got}", f"give one number per channel: shape ({channels},)")


def standardize(x: np.ndarray, axes: Sequence[int], epsilon: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x - mean)/sqrt(variance + epsilon), mean, 1/sqrt(variance + epsilon)."""
    mean = x.mean(tuple(axes), keepdims=True)
    inverse = 1 / np.sqrt(x.var(tuple(axes), keepdims=True) + epsilon)
    return (x - mean) * inverse, mean, inverse


def column(v: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A vector as a view that broadcasts along axis 1 of x, in x's dtype."""
    return v.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 2))


class Expansion:
    """The arithmetic of normalisation over a builder. `x` is the first operand in the dtype that is computed in."""

    def __init__(self, b: Builder, call: Call) -> None:
        self.b, self.call = b, call
        self.rank = call.rank(0)
        self.dtype = FLOAT32 if is_narrow(call.dtype(0)) else call.dtype(0)
        self.x = self.wide(call.inputs[0])

    def cast(self, v: Value, dtype: np.dtype) -> Value:
        """v in another dtype. Values whose type is unknown are intermediate ones, in the dtype that is computed in."""
        return v if (v.type.dtype if v.type else self.dtype) == dtype else self.b.add("Cast", v, to=dtype)

    def wide(self, v: Value) -> Value:
        return self.cast(v, self.dtype)

    def number(self, value: float) -> Value:
        return self.b.constant(value, self.dtype)

    def mean(self, v: Value, axes: Sequence[int]) -> Value:
        return self.b.add("ReduceMean", v, self.b.constant(axes, INT64))

    def center(self, v: Value, axes: Sequence[int]) -> tuple[Value, Value, Value]:
        """Mean, v - mean, variance."""
        mean = self.mean(v, axes)
        centered = self.b.add("Sub", v, mean)
        return mean, centered, self.mean(self.b.add("Mul", centered, centered), axes)

    def inverse_root(self, variance: Value) -> Value:
        """1/sqrt(variance + epsilon)."""
        shifted = self.b.add("Add", variance, self.number(self.call.attrs.epsilon))
        return self.b.add("Reciprocal", self.b.add("Sqrt", shifted))

    def scale_shift(self, v: Value, scale: Value, shift: Value | None) -> Value:
        v = self.b.add("Mul", v, scale)
        return v if shift is None else self.b.add("Add", v, shift)

    def reshape(self, v: Value, shape: Sequence[int]) -> Value:
        return self.b.add("Reshape", v, self.b.constant(shape, INT64))

    def reshape_like_x(self, v: Value) -> Value:
        dims = [-1 if isinstance(d, Sym) else d for d in self.call.shape(0)]
        if dims.count(-1) > 1 or 0 in dims:  # 0 means 'as before' to Reshape
            return self.b.add("Reshape", v, self.b.add("Shape", self.x), allowzero=True)
        return self.reshape(v, dims)

    def column(self, v: Value) -> Value:
        """A vector shaped to broadcast along axis 1 of x."""
        return self.reshape(v, (-1, *[1] * (self.rank - 2))) if self.rank > 2 else v
