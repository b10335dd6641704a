"""Rotary position embedding of heads as one operator, made by passes/fuse_rotary: halves are read and written where they lie."""

from __future__ import annotations

import numpy as np

from graphc.op import Attr, Call, Case, Op, Samples, Tensor, register
from graphc.ops.contract import differ, require_dtype, require_same_dtype
from graphc.types import Dim, Shape, TensorType


def rotated(call: Call) -> Dim:
    """Elements of a head that are rotated: twice what a table has, or as many."""
    return call.shape(1)[-1] * (2 if call.attrs.half_tables else 1)


def _infer(call: Call) -> list[TensorType]:
    dtype, shape = require_dtype(call, 0, ("float32", "float64")), call.shape(0)
    require_same_dtype(call, 0, 1, 2)
    if len(shape) != 4:
        raise call.fail(f"'x' has shape {shape}", "it must have batch, heads and sequence in any order, and size")
    y: Shape = (shape[0], shape[2], shape[1], shape[3]) if call.attrs.transposed else shape
    width = rotated(call)
    for i in (1, 2):
        table = call.shape(i)
        fits = len(table) == 4 and all(d == 1 or not differ(d, want) for d, want in zip(table[:3], y))
        if not fits or differ(table[3], call.shape(1)[3]):
            raise call.fail(f"'{call.op.inputs[i]}' has shape {table}", f"it must broadcast to {y[:3]} and the table")
    if isinstance(width, int) and isinstance(y[3], int) and (width % 2 or width > y[3]):
        raise call.fail(f"{width} elements of a head of {y[3]} would be rotated", "use an even number within the head")
    return [TensorType(dtype, y)]


def _reference(x, cos, sin, *, half_tables, transposed):
    x = x.swapaxes(1, 2) if transposed else x
    if half_tables:
        cos, sin = (np.concatenate([t, t], -1) for t in (cos, sin))
    width = cos.shape[-1]
    half = width // 2
    turned = np.concatenate([-x[..., half:width], x[..., :half]], -1)
    return np.concatenate([x[..., :width] * cos + turned * sin, x[..., width:]], -1)


def _expand(b, call: Call):
    """Split, Mul, Sub, Add and Concat; None for heads of unknown size."""
    x, (cos, sin) = call.inputs[0], call.inputs[1:]
    size, width = x.shape[3], rotated(call)
    if not isinstance(size, int) or not isinstance(width, int):
        return None
    if call.attrs.transposed:
        x = b.add("Transpose", x, perm=(0, 2, 1, 3))
    half, last = width // 2, b.constant([-1], np.int64)

    def part(v, start, end):
        return b.add("Slice", v, b.constant([start], np.int64), b.constant([end], np.int64), last)

    first, second = part(x, 0, half), part(x, half, width)
    (cos_first, cos_second), (sin_first, sin_second) = (
        (t, t) if call.attrs.half_tables else (part(t, 0, half), part(t, half, width)) for t in (cos, sin)
    )
    real = b.add("Sub", b.add("Mul", first, cos_first), b.add("Mul", second, sin_first))
    imaginary = b.add("Add", b.add("Mul", second, cos_second), b.add("Mul", first, sin_second))
    return b.add("Concat", real, imaginary, *([part(x, width, size)] if width < size else []), axis=-1)


def _cases() -> tuple[Case, ...]:
    def case(x, table, **attrs):
        return Case((Tensor(x), Tensor(table), Tensor(table)), attrs)

    return (
        case((2, 3, 5, 8), (2, 1, 5, 8)),
        case((2, 3, 5, 8), (1, 1, 5, 4), half_tables=True),
        case((2, 5, 3, 8), (1, 1, 5, 8), transposed=True),
        case((2, 5, 3, 40), (2, 1, 5, 17), transposed=True, half_tables=True),
        case((1, 1, 6, 64), (1, 1, 1, 32), half_tables=True),
        case((2, 3, 5, 7), (2, 3, 5, 6)),
    )


register(
    Op(
        "FusedRotary",
        ("x", "cos", "sin"),
        _infer,
        _reference,
        {
            "half_tables": Attr(bool, False),  # a table's row serves both halves of what is rotated
            "transposed": Attr(
                bool, False
            ),  # x is [batch, sequence, heads, size], the result [batch, heads, sequence, size]
        },
        expand=_expand,
        samples=Samples(("float32",), cases=_cases()),
        internal=True,
    )
)
