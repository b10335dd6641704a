"""Matrix products of 8-bit integers as one product of unsigned by signed bytes, and terms for the zero points.

With zero points z_a (a number, or one per row) and z_b (a number, or one per column),

    Σ_k (a - z_a)(b - z_b) = Σ_k a·b - z_a Σ_k b - z_b (Σ_k a - K z_a).

The sums over a constant matrix are constants. Bytes of the other signedness are moved by 128, and their zero points with
them. All arithmetic wraps modulo 2^32, as int32 does.
"""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Call, Case, Family, Op, Samples, Tensor, register
from graphc.ops.contract import matmul_shape, require_dtype
from graphc.types import TensorType, may_be, number, prod

INT32, UINT8, INT8 = (np.dtype(t) for t in ("int32", "uint8", "int8"))
DEPTH = 4  # bytes of the reduction that lie together


# --- the product ------------------------------------------------------------------------------------------------------
def _infer(call: Call) -> list[TensorType]:
    require_dtype(call, 0, ("uint8",))
    require_dtype(call, 1, ("int8",))
    a, (*batch, runs, n, depth) = call.shape(0), call.shape(1)
    if len(a) < 2 or not may_be(depth, DEPTH):
        raise call.fail(f"takes [..., M, {DEPTH}·K] and [..., K, N, {DEPTH}], not {a} and {call.shape(1)}")
    return [TensorType(INT32, matmul_shape(call, a, (*batch, runs * DEPTH, n)))]


def _reference(a, b):
    *batch, runs, n, depth = b.shape
    rows = np.moveaxis(b, -1, -2).reshape(*batch, runs * depth, n)
    return np.matmul(a.astype(np.int64), rows.astype(np.int64)).astype(INT32)


def _expand(b: Builder, call: Call) -> Value:
    *batch, runs, n, depth = call.shape(1)
    order = [*range(len(batch)), len(batch), len(batch) + 2, len(batch) + 1]
    rows = b.add("Transpose", b.add("Cast", call.inputs[1], to=INT32), perm=order)
    rows = b.add("Reshape", rows, b.constant([*batch, runs * depth, n], np.int64), allowzero=True)
    return b.add("MatMul", b.add("Cast", call.inputs[0], to=INT32), rows)


register(
    Op(
        "MatMulBytes",
        ("a", "b"),
        _infer,
        _reference,
        expand=_expand,
        macs=lambda call: prod((*call.op.infer(call)[0].shape, call.shape(0)[-1])),
        tolerance=0.0,
        samples=Samples(
            ("uint8",),
            cases=tuple(
                Case((Tensor(a, 0, 255, "uint8"), Tensor(b, -128, 127, "int8")))
                for a, b in (
                    ((5, 8), (2, 3, 4)),
                    ((1, 64), (16, 10, 4)),
                    ((13, 128), (32, 33, 4)),
                    ((2, 3, 5, 8), (2, 7, 4)),
                    ((3, 5, 8), (3, 2, 17, 4)),
                    ((0, 8), (2, 3, 4)),
                )
            ),
        ),
        family=Family.CONTRACTION,
        internal=True,
    )
)


# --- products with zero points ----------------------------------------------------------------------------------------
def emit_integer_product(b: Builder, a: Value, w: Value, a_zero: Value | None, w_zero: Value | None) -> Value:
    """Σ (a - a_zero)(w - w_zero) of int8 or uint8 operands as int32. a_zero: a number or a column, w_zero: a number or a row.

    Shapes are those of MatMul. The inner size must be known.
    """
    if a.type.rank == 1:
        row = emit_integer_product(b, b.add("Unsqueeze", a, _ints(b, 0)), w, a_zero, w_zero)
        return b.add("Squeeze", row, _ints(b, -2 if w.type.rank > 1 else -1))
    if w.type.rank == 1:
        column = emit_integer_product(b, a, b.add("Unsqueeze", w, _ints(b, 1)), a_zero, w_zero)
        return b.add("Squeeze", column, _ints(b, -1))
    depth = a.type.shape[-1]
    a, a_zero = moved(b, a, a_zero, UINT8)
    w, w_zero = moved(b, w, w_zero, INT8)
    a, w = _padded(b, a, -1), _padded(b, w, -2)
    product = b.add("MatMulBytes", a, _interleaved(b, w))
    if a_zero is not None:
        product = b.add("Sub", product, b.add("Mul", a_zero, _sum(b, w, -2)))
    if w_zero is not None:
        rows = _sum(b, a, -1)
        if a_zero is not None:
            rows = b.add("Sub", rows, b.add("Mul", a_zero, b.add("Cast", b.constant(depth, np.int64), to=INT32)))
        product = b.add("Sub", product, b.add("Mul", w_zero, rows))
    return product


def _ints(b: Builder, *values: int) -> Value:
    return b.constant(list(values), np.int64)


def moved(b: Builder, x: Value, zero: Value | None, to: np.dtype) -> tuple[Value, Value | None]:
    """The operand as bytes of that signedness, and its zero point as int32; None where that is 0."""
    shift = 0 if x.type.dtype == to else 128 if to == UINT8 else -128
    offset = _moved_zero(b, zero, shift)
    if not shift:
        return x, offset
    if x.is_const:
        return b.constant((x.data.view(UINT8) ^ np.uint8(128)).view(to)), offset
    bits = x if x.type.dtype == UINT8 else b.add("BitCast", x, to=UINT8)
    bytes_ = b.add("BitwiseXor", bits, b.constant(128, UINT8))
    return bytes_ if to == UINT8 else b.add("BitCast", bytes_, to=INT8), offset


def _moved_zero(b: Builder, zero: Value | None, shift: int) -> Value | None:
    if zero is None or zero.is_const:
        number = (np.zeros((), INT32) if zero is None else zero.data.astype(INT32)) + np.int32(shift)
        return b.constant(number.astype(INT32)) if number.any() else None
    wide = b.add("Cast", zero, to=INT32)
    return b.add("Add", wide, b.constant(shift, INT32)) if shift else wide


def _padded(b: Builder, x: Value, axis: int) -> Value:
    """Zeros behind an axis, up to a multiple of DEPTH."""
    missing = -number(x.type.shape[axis]) % DEPTH
    if not missing:
        return x
    if x.is_const:
        widths = [(0, missing if k == axis % x.type.rank else 0) for k in range(x.type.rank)]
        return b.constant(np.pad(x.data, widths))
    pads = [0] * (2 * x.type.rank)
    pads[axis] = missing
    return b.add("Pad", x, _ints(b, *pads))


def _interleaved(b: Builder, w: Value) -> Value:
    """[..., DEPTH·K, N] as [..., K, N, DEPTH]."""
    *batch, rows, n = w.type.shape
    split = b.add(
        "Reshape",
        w,
        _ints(b, *(0 if not isinstance(d, int) else d for d in batch), number(rows) // DEPTH, DEPTH, number(n)),
    )
    axes = range(len(batch))
    return b.add("Transpose", split, perm=[*axes, len(batch), len(batch) + 2, len(batch) + 1])


def _sum(b: Builder, x: Value, axis: int) -> Value:
    if x.is_const:  # here, as four times the bytes of a large matrix may be too many to fold
        return b.constant(x.data.sum(axis, dtype=INT32, keepdims=True))
    return b.add("ReduceSum", b.add("Cast", x, to=INT32), _ints(b, axis), keepdims=True)
