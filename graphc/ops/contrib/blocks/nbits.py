"""MatMulNBits of com.microsoft: a product with weights of 2, 4 or 8 bits, quantised in blocks along a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Tensor
from graphc.ops.block_product import LARGEST, emit_block_product, emit_rounded, fits
from graphc.ops.contract import differ, require_dtype, require_same_dtype
from graphc.ops.contrib.attention import expect
from graphc.ops.contrib.blocks.bits import UINT8, bytes_of, emit_unpacked, unpacked
from graphc.ops.contrib.record import contrib, where_static
from graphc.ops.precision import FLOAT32, widen
from graphc.types import Dim, TensorType, prod

A, B, SCALES, ZEROS, GROUPS, BIAS = range(6)
FLOATS = ("float32", "float16", "bfloat16", "float64")


def _blocks(attrs: Mapping[str, Any]) -> int:
    return -(-attrs["K"] // attrs["block_size"])


def _infer(call: Call) -> list[TensorType]:
    dtype, attrs = require_dtype(call, A, FLOATS), call.attrs
    require_dtype(call, B, ("uint8",))
    require_same_dtype(call, A, BIAS)
    require_dtype(call, SCALES, FLOATS)
    size, bits = attrs.block_size, attrs.bits
    if size < 16 or size & (size - 1):
        raise call.fail(f"block_size is {size}", "a power of two, 16 or more")
    if attrs.weight_prepacked:
        raise call.fail("weight_prepacked is set: weights in the order of another machine's kernel", "set it to 0")
    rank = call.rank(A)
    if rank < 1 or differ(call.shape(A)[-1], attrs.K):
        raise call.fail(f"'a' has shape {call.shape(A)}", f"its last axis must have K={attrs.K} elements")
    n, count = attrs.N, _blocks(attrs)
    width = size * bits // 8
    expect(call, B, (n, count, width), (n, count * width), (n * count * width,))
    expect(call, SCALES, (n, count), (n * count,), (n, count, 1))
    if call.has(ZEROS):
        if call.dtype(ZEROS) == UINT8:
            width = bytes_of(count, bits)
            expect(call, ZEROS, (n, width), (n * width,))
        else:
            require_same_dtype(call, SCALES, ZEROS)
            expect(call, ZEROS, (n, count), (n * count,))
    if call.has(GROUPS):
        require_dtype(call, GROUPS, ("int32",))
        expect(call, GROUPS, (attrs.K,), (count * size,))
    expect(call, BIAS, (n,))
    return [TensorType(dtype, (*call.shape(A)[:-1], n))]


def _macs(call: Call) -> Dim:
    return prod((*call.shape(A), call.attrs.N))


def _is_rounded(call: Call) -> bool:
    """Is the first operand rounded to 8 bits, as ONNX Runtime does at accuracy level 4? That asks for 8 bits at least, so that the
    product without rounding, which the reference is, has it too."""
    attrs, zeros = call.attrs, call.given(ZEROS)
    if attrs.accuracy_level != 4 or call.has(GROUPS) or (zeros is not None and zeros.dtype != UINT8):
        return False
    constant = all(v is None or v.is_const for v in call.inputs[B : ZEROS + 1])
    return constant and (attrs.bits > 2 or attrs.block_size > 16)


def dequantized(packed, scales, zeros, groups, attrs) -> np.ndarray:
    """The weights [N, K]."""
    n, count, bits = attrs["N"], _blocks(attrs), attrs["bits"]
    q = unpacked(packed.reshape(n, count, -1), bits).astype(scales.dtype)
    scales = scales.reshape(n, count)
    zero = np.full((n, count), 2 ** (bits - 1), scales.dtype)
    if zeros is not None and zeros.dtype != UINT8:
        zero = zeros.reshape(n, count)
    elif zeros is not None and groups is None:  # with groups ONNX Runtime has the middle of the range instead
        zero = unpacked(zeros.reshape(n, -1), bits)[:, :count].astype(scales.dtype)
    if groups is None:
        return ((q - zero[..., None]) * scales[..., None]).reshape(n, -1)[:, : attrs["K"]]
    groups = groups[: attrs["K"]]
    return (q.reshape(n, -1)[:, : attrs["K"]] - zero[:, groups]) * scales[:, groups]


def _reference(a, packed, scales, zeros=None, groups=None, bias=None, **attrs):
    wide = widen(a)
    scales = scales.astype(wide.dtype)
    if zeros is not None and zeros.dtype != UINT8:
        zeros = zeros.astype(wide.dtype)
    w = dequantized(packed, scales, zeros, groups, attrs)
    y = wide @ w.T + (0 if bias is None else widen(bias))
    return y.astype(a.dtype)


# --- expansion --------------------------------------------------------------------------------------------------------
def _emit_weights(b: Builder, call: Call, dtype: np.dtype) -> Value:
    """[N, K] of a dtype."""
    attrs, (packed, scales) = call.attrs, call.inputs[B : SCALES + 1]
    n, count, bits = attrs.N, _blocks(attrs), attrs.bits
    zeros, groups = (call.given(i) for i in (ZEROS, GROUPS))

    def by_block(x: Value) -> Value:
        return b.add("Cast", b.add("Reshape", x, b.constant([n, count, 1], np.int64)), to=dtype)

    packed = b.add("Reshape", packed, b.constant([n, count, -1], np.int64))
    q = b.add("Cast", emit_unpacked(b, packed, bits), to=dtype)
    zero, scale = b.constant(2 ** (bits - 1), dtype), by_block(scales)
    if zeros is not None and zeros.dtype != UINT8:
        zero = by_block(zeros)
    elif zeros is not None and groups is None:
        rows = emit_unpacked(b, b.add("Reshape", zeros, b.constant([n, -1], np.int64)), bits)
        zero = by_block(b.add("Slice", rows, *(b.constant([i], np.int64) for i in (0, count, 1))))
    if groups is not None:
        call.ignore(ZEROS)
        index = b.add("Slice", groups, *(b.constant([i], np.int64) for i in (0, attrs.K, 0)))
        scale, zero = (_of_groups(b, x, index, (n, count)) for x in (scale, zero))
        q = b.add("Reshape", q, b.constant([n, -1], np.int64))
        q = b.add("Slice", q, *(b.constant([i], np.int64) for i in (0, attrs.K, 1)))
    w = b.add("Mul", b.add("Sub", q, zero), scale)
    if groups is not None:
        return w
    flat = b.add("Reshape", w, b.constant([n, -1], np.int64))
    return (
        flat
        if flat.shape[1] == attrs.K
        else b.add("Slice", flat, *(b.constant([i], np.int64) for i in (0, attrs.K, 1)))
    )


def _of_groups(b: Builder, x: Value, index: Value, shape) -> Value:
    """[N, K]: for each column that of its group."""
    return b.add("Gather", b.add("Reshape", x, b.constant(shape, np.int64)), index, axis=1) if x.shape else x


def _numbers(call: Call) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Weights [N, K], scales and zero points [N, blocks] of BlockProduct; None where they are not constants, or it has no such."""
    attrs, bits = call.attrs, max(call.attrs.bits, 4)
    constant = all(v is None or v.is_const for v in call.inputs[B : ZEROS + 1])
    if not constant or call.has(GROUPS) or not fits(attrs.K, bits, attrs.block_size):
        return None
    packed, scales = (call.inputs[i].data for i in (B, SCALES))
    n, count = attrs.N, _blocks(attrs)
    q = unpacked(packed.reshape(n, count, -1), attrs.bits).reshape(n, -1)[:, : attrs.K]
    zeros = call.inputs[ZEROS].data if call.has(ZEROS) else np.array(2 ** (attrs.bits - 1))
    if zeros.dtype == UINT8:
        zeros = unpacked(zeros.reshape(n, -1), attrs.bits)[:, :count]
    zeros = np.broadcast_to(zeros.reshape(n, -1) if zeros.size > 1 else zeros, (n, count))
    return q, scales.reshape(n, count).astype(np.float32), zeros.astype(np.float32)


def emit_in_blocks(b: Builder, call: Call) -> Value | None:
    """The product with weights that stay in blocks, for any dims of the first operand; None where it has none such."""
    a = call.inputs[A]
    numbers = _numbers(call) if a.type is not None and a.dtype != np.float64 else None
    if numbers is None:
        return None
    bits, size, rounds = max(call.attrs.bits, 4), call.attrs.block_size, _is_rounded(call)
    return _emit_around(b, call, lambda x: emit_block_product(b, x, *numbers, bits, size, rounds))


def _emit_around(b: Builder, call: Call, product: Callable[[Value], Value]) -> Value:
    """What comes before and behind the product."""
    a = call.inputs[A]
    y = product(b.add("Cast", a, to=_wide(a.dtype)))
    if call.has(BIAS):
        y = b.add("Add", y, b.add("Cast", call.inputs[BIAS], to=y.dtype))
    return b.add("Cast", y, to=a.dtype)


def _wide(dtype: np.dtype) -> np.dtype:
    return FLOAT32 if dtype.itemsize < 4 else dtype


@where_static
def _expand(b: Builder, call: Call) -> Value:
    found = emit_in_blocks(b, call)
    if found is not None:
        return found
    weights = b.add("Transpose", _emit_weights(b, call, _wide(call.dtype(A))), perm=(1, 0))

    def product(x: Value) -> Value:
        rounded = emit_rounded(b, x, min(call.attrs.block_size, LARGEST)) if _is_rounded(call) else x
        return b.add("MatMul", rounded, weights)

    return _emit_around(b, call, product)


def _cases() -> list[Case]:
    rng = np.random.default_rng(5)

    def case(bits=4, size=16, k=64, n=5, zeros="", groups=False, bias=False, lead=(3,)):
        count = -(-k // size)
        operands: list[Tensor | Const | None] = [
            Tensor((*lead, k)),
            Const(rng.integers(0, 256, (n, count, size * bits // 8)), "uint8"),
            Const(rng.uniform(0.01, 0.1, (n, count)), "float32"),
            None,
            None,
            Tensor((n,)) if bias else None,
        ]
        if zeros == "packed":
            operands[ZEROS] = Const(rng.integers(0, 256, (n, bytes_of(count, bits))), "uint8")
        elif zeros:
            operands[ZEROS] = Const(rng.uniform(0, 2**bits, (n, count)), "float32")
        if groups:
            operands[GROUPS] = Const(rng.permutation(np.arange(k) // size), "int32")
        while operands[-1] is None:
            operands.pop()
        attrs = {"K": k, "N": n, "bits": bits, "block_size": size}
        return Case(tuple(operands), attrs)

    return [
        case(),
        case(4, 32, 70, zeros="packed", bias=True, lead=(2, 3)),
        case(4, 128, 70, zeros="float", lead=(1,)),
        case(8, 16, 70, zeros="packed", n=17),
        case(2, 32, 64, zeros="packed"),
        case(groups=True, zeros="packed"),
        case(groups=True, zeros="float"),
    ]


contrib(
    "MatMulNBits",
    "a b scales zero_points? g_idx? bias?",
    _infer,
    _reference,
    _expand,
    _cases(),
    {
        "K": Attr(int),
        "N": Attr(int),
        "bits": Attr(int, 4, (2, 4, 8)),
        "block_size": Attr(int),
        "accuracy_level": Attr(int, 0, settled=True),
        "weight_prepacked": Attr(int, 0, settled=True),
    },
    macs=_macs,
    dtypes=("float32",),
)
