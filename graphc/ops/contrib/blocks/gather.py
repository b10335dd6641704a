"""GatherBlockQuantized of com.microsoft: rows of a quantised table, of which only those that are asked for are decoded."""

from __future__ import annotations

import numpy as np

from graphc.dtypes import is_integer
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Tensor
from graphc.ops.contract import require_dtype
from graphc.ops.contrib.attention import expect
from graphc.ops.contrib.blocks.bits import UINT8, bytes_of, emit_unpacked, unpacked
from graphc.ops.contrib.record import contrib, where_static
from graphc.ops.precision import FLOAT32, INT64
from graphc.types import Dim, Shape, TensorType, number

DATA, INDICES, SCALES, ZEROS = range(4)


def _layout(call: Call) -> tuple[int, int, Shape]:
    """The axes along which it gathers and is quantised, and the shape of the unpacked table. Raises TypeRuleError."""
    shape, attrs = call.shape(DATA), call.attrs
    gather, quantize = (call.axis_of(a, len(shape)) for a in (attrs.gather_axis, attrs.quantize_axis))
    if call.dtype(DATA) != UINT8:
        return gather, quantize, shape
    if gather != 0 or (attrs.bits < 8 and gather == quantize):
        raise call.fail("packed rows are gathered along axis 0, and quantised along another", "or give int4 or uint4")
    return gather, quantize, (*shape[:-1], shape[-1] * (8 // attrs.bits))


def _infer(call: Call) -> list[TensorType]:
    require_dtype(call, DATA, ("uint8", "int4", "uint4"))
    require_dtype(call, INDICES, ("int32", "int64"))
    dtype = require_dtype(call, SCALES, ("float32", "float16", "bfloat16", "float64"))
    size = call.attrs.block_size
    if size < 16 or size & (size - 1):
        raise call.fail(f"block_size is {size}", "a power of two, 16 or more")
    gather, quantize, shape = _layout(call)
    if shape[gather] == 0:
        raise call.fail(f"the table {call.type(DATA)} has nothing along axis {gather}, where it is gathered")
    blocks: list[Dim] = [*shape]
    blocks[quantize] = (shape[quantize] + size - 1) // size
    expect(call, SCALES, tuple(blocks))
    if call.has(ZEROS):
        if call.dtype(ZEROS) != call.dtype(DATA):
            raise call.fail(f"the zero points are {call.dtype(ZEROS)}", f"they must be {call.dtype(DATA)}, as the data")
        packed = (*blocks[:-1], bytes_of(blocks[-1], call.attrs.bits)) if call.dtype(DATA) == UINT8 else tuple(blocks)
        expect(call, ZEROS, packed)
    return [TensorType(dtype, (*shape[:gather], *call.shape(INDICES), *shape[gather + 1 :]))]


def _default_zero(dtype: np.dtype, bits: int) -> int:
    return 2 ** (bits - 1) if dtype == UINT8 else 0


def _reference(data, indices, scales, zeros=None, *, bits, block_size, quantize_axis, gather_axis):
    axis, dtype = quantize_axis % data.ndim, scales.dtype
    wide = dtype if dtype.itemsize >= 4 else FLOAT32
    zero = np.full(scales.shape, _default_zero(data.dtype, bits), wide)
    q = unpacked(data, bits) if data.dtype == UINT8 else data
    if zeros is not None:
        zero = unpacked(zeros, bits)[..., : scales.shape[-1]] if data.dtype == UINT8 else zeros
    block = np.arange(q.shape[axis]) // block_size
    scale, zero = (np.take(x.astype(wide), block, axis) for x in (scales, zero))
    table = (q.astype(wide) - zero) * scale
    gather_axis %= data.ndim
    size = table.shape[gather_axis]
    there = (indices >= -size) & (indices < size)
    y = np.take(table, np.where(there, indices, 0), gather_axis)
    there = there.reshape(there.shape + (1,) * (data.ndim - 1 - gather_axis))
    return np.where(there, y, 0).astype(dtype)


@where_static
def _expand(b: Builder, call: Call) -> Value:
    (data, indices, scales), attrs = call.inputs[:3], call.attrs
    gather, quantize, shape = _layout(call)
    wide = FLOAT32 if scales.dtype.itemsize < 4 else scales.dtype
    is_packed, size = data.dtype == UINT8, shape[gather]
    if not is_packed:
        data = _bytes(b, data)
    indices = b.add("Cast", indices, to=INT64)
    negative = b.add("Less", indices, b.constant(0, INT64))
    indices = b.add("Where", negative, b.add("Add", indices, b.constant(size, INT64)), indices)
    there = b.add(
        "And",
        b.add("GreaterOrEqual", indices, b.constant(0, INT64)),
        b.add("Less", indices, b.constant(size, INT64)),
    )
    indices = b.add("Where", there, indices, b.constant(0, INT64))
    blocks = b.add("Div", indices, b.constant(attrs.block_size, INT64)) if gather == quantize else indices
    q = b.add("Gather", data, indices, axis=gather)
    scale = b.add("Gather", scales, blocks, axis=gather)
    zero = None
    if call.has(ZEROS):
        zero = b.add("Gather", call.inputs[ZEROS] if is_packed else _bytes(b, call.inputs[ZEROS]), blocks, axis=gather)
    if is_packed:
        q = emit_unpacked(b, q, attrs.bits)
        if zero is not None:
            bounds = [b.constant([n], np.int64) for n in (0, scales.shape[-1], -1)]
            zero = b.add("Slice", emit_unpacked(b, zero, attrs.bits), *bounds)
    zero = (
        b.constant(_default_zero(call.dtype(DATA), attrs.bits), wide) if zero is None else b.add("Cast", zero, to=wide)
    )
    if gather != quantize:
        axis = quantize + (len(indices.shape) - 1 if quantize > gather else 0)
        block = b.constant(np.arange(number(shape[quantize])) // attrs.block_size, np.int64)
        scale, zero = (b.add("Gather", x, block, axis=axis) if x.shape else x for x in (scale, zero))
    y = b.add("Mul", b.add("Sub", b.add("Cast", q, to=wide), zero), b.add("Cast", scale, to=wide))
    last = len(there.shape)
    there = b.add("Unsqueeze", there, b.constant(list(range(last, last + len(shape) - 1 - gather)), np.int64))
    return b.add("Cast", b.add("Where", there, y, b.constant(0, wide)), to=scales.dtype)


def _bytes(b: Builder, x: Value) -> Value:
    """Numbers of 4 bits in bytes of their own."""
    assert is_integer(x.dtype)
    return b.add("Cast", x, to=np.int8 if x.dtype.name == "int4" else np.uint8)


def _cases() -> list[Case]:
    rng = np.random.default_rng(2)

    def packed(*shape: int) -> Const:
        return Const(rng.integers(0, 256, shape), "uint8")

    ids, more = Const([[1, 4], [-1, 0]]), Const([1, 4, -6], "int32")
    scales = Tensor((6, 2), 0.01, 0.1, "float32")
    return [
        Case((packed(6, 16), ids, scales), {"block_size": 16}),
        Case((packed(6, 32), more, scales, packed(6, 2)), {"block_size": 16, "bits": 8}),
        Case(
            (packed(6, 9), Const([5, 9, -7]), Tensor((6, 3), 0.01, 0.1, "float32"), packed(6, 1)),
            {"block_size": 16, "bits": 2},
        ),
    ]


contrib(
    "GatherBlockQuantized",
    "data indices scales zero_points?",
    _infer,
    _reference,
    _expand,
    _cases(),
    {
        "bits": Attr(int, 4, (2, 4, 8), settled=True),
        "block_size": Attr(int, 128),
        "quantize_axis": Attr(int, 1),
        "gather_axis": Attr(int, 0),
    },
    dtypes=("uint8",),
)
