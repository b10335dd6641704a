"""RotaryEmbedding of com.microsoft: ONNX's, with positions as one offset, too."""

from __future__ import annotations

import numpy as np

from graphc.errors import InputError
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Tensor
from graphc.ops.contract import FLOAT_NAMES, differ, operand_name, require_dtype, require_same_dtype
from graphc.ops.contrib.record import contrib, where_static
from graphc.ops.precision import widen
from graphc.types import Dim, Shape, TensorType

INT64 = np.dtype(np.int64)


def _sizes(call: Call) -> tuple[Dim, Dim, Dim]:
    """Sequence length, heads and their size. Raises TypeRuleError."""
    x, width, heads = call.shape(0), 2 * call.shape(2)[-1], call.attrs.num_heads
    if len(x) == 4:
        return x[2], x[1], x[3]
    if len(x) != 3:
        raise call.fail(f"'x' has shape {x}", "give [batch, sequence, hidden] or [batch, heads, sequence, size]")
    if heads < 0 or (call.attrs.rotary_embedding_dim and not heads):
        raise call.fail("a part of each head is rotated, and num_heads is not set", "set num_heads")
    size = x[2] // heads if heads else width
    if (
        isinstance(x[2], int)
        and isinstance(size, int)
        and (not size or x[2] < size or x[2] % size or (heads and x[2] % heads))
    ):
        raise call.fail(f"the {x[2]} columns of 'x' {x} do not divide into heads", "set num_heads to a divisor")
    return x[1], heads or x[2] // size, size


def require_columns(call: Call, i: int) -> None:
    """The table, operand i, turns something. Raises TypeRuleError."""
    if call.shape(i)[-1] == 0:
        raise call.fail(
            f"'{operand_name(call, i)}' has shape {call.shape(i)}: no columns", "half as many as are rotated"
        )


def _infer(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, 0, FLOAT_NAMES)
    require_same_dtype(call, 0, 2, 3)
    for i in (2, 3):
        if call.rank(i) != 2 or any(map(differ, call.shape(i), call.shape(2))):
            raise call.fail(
                f"the tables have shapes {call.shape(2)} and {call.shape(3)}", "[positions, rotated / 2] both"
            )
    require_columns(call, 2)
    length, _, size = _sizes(call)
    width = 2 * call.shape(2)[1]
    given = call.attrs.rotary_embedding_dim
    if (given and differ(given, width)) or (isinstance(width, int) and isinstance(size, int) and width > size):
        raise call.fail(
            f"tables of {call.shape(2)[1]} columns do not rotate {given or size} elements of heads of {size}",
            "a table has half as many columns as are rotated",
        )
    if call.dtype(1) != INT64:
        raise call.fail(f"'position_ids' is {call.dtype(1)}", "it must be int64")
    positions = call.shape(1)
    wanted: Shape = ((), (1,), (call.shape(0)[0], length))[min(len(positions), 2)]
    if len(positions) > 2 or any(map(differ, positions, wanted)):
        raise call.fail(f"'position_ids' has shape {positions}", f"one number, or [{call.shape(0)[0]}, {length}]")
    return [TensorType(dtype, call.shape(0))]


def rotated(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, positions: np.ndarray, interleaved: bool) -> np.ndarray:
    """x [batch, heads, sequence, size] turned by the tables' rows at the positions [batch, sequence]. Raises InputError."""
    if positions.size and not (positions.min() >= 0 and positions.max() < len(cos)):
        raise InputError(f"position_ids from {positions.min()} to {positions.max()}, the cache has {len(cos)} rows")
    cos, sin = cos[positions][:, None], sin[positions][:, None]
    half = cos.shape[-1]
    width = 2 * half
    a, b = (x[..., 0:width:2], x[..., 1:width:2]) if interleaved else (x[..., :half], x[..., half:width])
    turned = a * cos - b * sin, b * cos + a * sin
    parts = np.stack(turned, -1).reshape(*a.shape[:-1], width) if interleaved else np.concatenate(turned, -1)
    return np.concatenate([parts, x[..., width:]], -1)


def _reference(x, positions, cos, sin, *, num_heads, interleaved, **attrs):
    dtype, (wide, cos, sin) = x.dtype, map(widen, (x, cos, sin))
    if x.ndim == 3:
        heads = num_heads or x.shape[2] // (2 * cos.shape[1])
        wide = wide.reshape(*x.shape[:2], heads, x.shape[2] // heads).swapaxes(1, 2)
    length = wide.shape[2]
    if positions.ndim < 2:
        positions = np.broadcast_to(positions.reshape(()) + np.arange(length), (len(x), length))
    y = rotated(wide, cos, sin, positions, interleaved)
    return (y if x.ndim == 4 else y.swapaxes(1, 2).reshape(x.shape)).astype(dtype)


def emit_positions(b: Builder, first: Value, batch: Dim, length: Dim) -> Value:
    """[batch, length]: first, one number or one for each of the batch, and those behind it."""
    steps = b.add("Range", *(b.constant(n, np.int64) for n in (0, length, 1)))
    first = b.add("Reshape", first, b.constant([-1, 1], np.int64))
    return b.add("Expand", b.add("Add", first, steps), b.constant([batch, length], np.int64))


def emit_rotary(b: Builder, x: Value, tables, positions: Value, heads: Dim, interleaved: bool) -> Value:
    """ONNX's operator. x [batch, sequence, hidden] or by heads. A position that no table has is an error."""
    cos, sin = tables
    return b.add(
        "RotaryEmbedding",
        x,
        cos,
        sin,
        positions,
        num_heads=heads,
        rotary_embedding_dim=2 * cos.shape[1],
        interleaved=interleaved,
    )


@where_static
def _expand(b: Builder, call: Call) -> Value:
    length, heads, _ = _sizes(call)
    x, positions = call.inputs[:2]
    if call.rank(1) < 2:
        positions = emit_positions(b, positions, x.shape[0], length)
    return emit_rotary(b, x, call.inputs[2:4], positions, heads, call.attrs.interleaved)


def _cases() -> list[Case]:
    table, some = Tensor((10, 4), -1, 1), Const([[0, 1, 2, 3, 4], [9, 3, 5, 0, 7]])

    def case(x, positions=some, **attrs):
        return Case((Tensor(x), positions, table, table), attrs)

    return [
        case((2, 5, 16)),
        case((2, 5, 16), Const([3]), interleaved=True),
        case((2, 2, 5, 8), Const(2), scale=2.0),
        case((2, 5, 32), num_heads=2, rotary_embedding_dim=8),
        case((2, 3, 5, 12), rotary_embedding_dim=8, num_heads=3),
    ]


contrib(
    "RotaryEmbedding",
    "x position_ids cos_cache sin_cache",
    _infer,
    _reference,
    _expand,
    _cases(),
    {
        "interleaved": Attr(bool, False),
        "num_heads": Attr(int, 0),
        "rotary_embedding_dim": Attr(int, 0, settled=True),
        "is_packed_batching": Attr(bool, False, settled=True),  # says that sequences are longer than the tables
        "scale": Attr(float, 1.0, settled=True),  # without effect, as in ONNX Runtime
    },
)
