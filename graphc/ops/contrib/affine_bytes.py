"""What the quantised operators of com.microsoft share: bytes, the scale and zero point that they stand for, and their checks.

A byte q stands for (q - zero) · scale. Results are rint(v / scale) + zero, saturated; all in float32. QLinearAdd, QLinearMul and
QLinearAveragePool round v / scale + zero instead: halves go to the other side where the zero point is odd.
"""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Call, Const, Tensor
from graphc.ops.contract import differ, operand_name, require_dtype
from graphc.ops.qlinear import BYTES
from graphc.ops.quantize import emit_quantized, to_quantized
from graphc.types import may_be

FLOAT32 = np.dtype(np.float32)


# --- type rules -------------------------------------------------------------------------------------------------------
def require_bytes(call: Call, i: int, zero: int) -> np.dtype:
    """dtype of operand i, whose zero point (if given) must share it. Raises TypeRuleError."""
    dtype = require_dtype(call, i, BYTES)
    if call.has(zero) and call.dtype(zero) != dtype:
        names = operand_name(call, i), operand_name(call, zero)
        raise call.fail(f"'{names[0]}' is {dtype}, its zero point '{names[1]}' {call.dtype(zero)}", "insert a Cast")
    return dtype


def require_one(call: Call, *operands: int) -> None:
    """Raises TypeRuleError unless each given operand is one number."""
    for i in operands:
        if call.has(i) and not (call.rank(i) < 2 and all(may_be(d, 1) for d in call.shape(i))):
            raise call.fail(f"'{operand_name(call, i)}' has shape {call.shape(i)}", "give one number")


def require_one_or_each(call: Call, i: int, size) -> None:
    """Raises TypeRuleError unless operand i, if given, is one number or one for each of `size` columns."""
    if not call.has(i) or call.shape(i) in ((), (1,)):
        return
    if call.rank(i) != 1 or differ(call.shape(i)[0], size):
        raise call.fail(
            f"'{operand_name(call, i)}' has shape {call.shape(i)}",
            f"give one number, or one for each of {size} columns",
        )


# --- expansions -------------------------------------------------------------------------------------------------------
def scalar(b: Builder, v: Value | None) -> Value | None:
    """An operand of one number as rank 0, so that it changes no shape."""
    return v if v is None or not v.shape else b.add("Reshape", v, b.constant([], np.int64))


def wide(scale: Value) -> np.dtype:
    """float32, or the dtype of wider scales (tests ask for the truth in float64)."""
    return np.promote_types(FLOAT32, scale.dtype)


def emit_centred(b: Builder, x: Value, zero: Value | None, dtype) -> Value:
    x = b.add("Cast", x, to=dtype)
    return x if zero is None else b.add("Sub", x, b.add("Cast", zero, to=dtype))


def emit_real(b: Builder, x: Value, scale: Value, zero: Value | None) -> Value:
    """What bytes with one scale stand for."""
    centred = emit_centred(b, x, scalar(b, zero), wide(scale))
    return b.add("Mul", centred, b.add("Cast", scalar(b, scale), to=wide(scale)))


def emit_bytes(b: Builder, v: Value, scale: Value, zero: Value | None, dtype, *, shifted: bool = False) -> Value:
    """A real value in bytes of one scale; `shifted` adds the zero point before it rounds."""
    q, zero = b.add("Div", v, scalar(b, scale)), scalar(b, zero)
    if shifted and zero is not None:
        q, zero = b.add("Add", q, b.add("Cast", zero, to=q.dtype)), None
    return emit_quantized(b, q, zero, np.dtype(dtype))


# --- references -------------------------------------------------------------------------------------------------------
def real(x: np.ndarray, scale: np.ndarray, zero: np.ndarray | None) -> np.ndarray:
    kind = np.promote_types(FLOAT32, scale.dtype)
    centred = x.astype(kind) - (0 if zero is None else zero.reshape(()).astype(kind))
    return np.asarray(centred * scale.reshape(()).astype(kind))


def in_bytes(v: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, dtype, *, shifted: bool = False) -> np.ndarray:
    q, offset = v / scale.reshape(()), np.zeros((), dtype) if zero is None else zero.reshape(())
    if shifted:
        return to_quantized(q + offset.astype(q.dtype), None, np.dtype(dtype))
    return to_quantized(q, offset, np.dtype(dtype))


# --- samples ----------------------------------------------------------------------------------------------------------
def some(dtype: str, *shape: int) -> Tensor:
    info = np.iinfo(dtype)
    return Tensor(shape, info.min, info.max, dtype)


def scale(value: float, *shape: int) -> Const:
    """Powers of two: quotients are the same in float32 and float64."""
    n = int(np.prod(shape))
    return Const((value * 2.0 ** -(np.arange(n) % 3)).reshape(shape).tolist(), "float32")


def zero(dtype: str, *shape: int, first: int = 3) -> Const:
    values = [first, 0, 100, 7] if dtype[0] == "u" else [-first, 0, 100, 7]
    return Const(np.resize(values, int(np.prod(shape))).reshape(shape).tolist(), dtype)
