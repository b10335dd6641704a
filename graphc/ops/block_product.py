"""BlockProduct: a product with weights of 4 or 8 bits that stay so in memory, in blocks with a scale and a zero point.

Weights lie in the order in which kernels read them, for 16 columns at a time, so that one constant serves every target: four bytes of
a column are neighbours, as instructions want them that multiply bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.graph import Value
from graphc.op import Attr, Call, Case, Const, Family, Op, Samples, Tensor, register
from graphc.ops.contract import differ, require_dtype, require_same_dtype
from graphc.types import TensorType, prod

COLUMNS = 16  # that lie side by side
WORD = 4  # bytes of a column that do
LARGEST = 256  # block of the first operand that is rounded by itself
STEPS = 127  # of a block's largest magnitude


def fits(k: int, bits: int, size: int) -> bool:
    """Is there such a form of weights [N, k] in blocks of `size`?"""
    return k > 0 and bits in (4, 8) and (size % (8 * WORD // bits) == 0 or size >= k)


def packed_weights(q: np.ndarray, bits: int) -> np.ndarray:
    """uint8 [N / 16, K · bits / 32, 16, 4] of whole numbers [N, K]. Of 4 bits, eight numbers of a column share four bytes, the first
    four of them in the lower halves."""
    groups = q.astype(np.uint8).reshape(-1, COLUMNS, q.shape[1] // WORD, WORD).swapaxes(1, 2)
    return np.ascontiguousarray(groups if bits == 8 else groups[:, ::2] | groups[:, 1::2] << 4)


def packed_scales(scale: np.ndarray, zero: np.ndarray) -> tuple[np.ndarray, int]:
    """float32 [N / 16, blocks, 1 or 2, 16] of scales and zero points [N, blocks], and the zero point that all have where there is
    one: weights are (q - zero) · scale, or q · scale - shift."""
    alone = zero.size > 0 and np.all(zero == zero.flat[0]) and float(zero.flat[0]).is_integer()
    both = np.stack([scale] if alone else [scale, scale * zero], 1).astype(np.float32)  # [N, 1 or 2, blocks]
    packed = both.reshape(-1, COLUMNS, *both.shape[1:]).transpose(0, 3, 2, 1)
    return np.ascontiguousarray(packed), int(zero.flat[0]) if alone else 0


def emit_block_product(
    b: Any, x: Value, q: np.ndarray, scale: np.ndarray, zero: np.ndarray, bits: int, size: int, rounds: bool = False
) -> Value:
    """x [..., K] times weights of whole numbers q [N, K], with scales and zero points [N, blocks]. rounds: of 8 bits are enough."""
    n, k = q.shape
    if rounds and size > LARGEST:
        scale, zero = (np.repeat(v, size // LARGEST, 1)[:, : -(-k // LARGEST)] for v in (scale, zero))
        size = LARGEST
    size = size if size < k else k + -k % COLUMNS
    behind, beside = -k % size, -n % COLUMNS
    q, scale, zero = (
        np.pad(q, [(0, beside), (0, behind)]),
        *(np.pad(v, [(0, beside), (0, 0)], "edge") for v in (scale, zero)),
    )
    if behind:
        x = b.add("Pad", x, b.constant([0] * (2 * len(x.shape) - 1) + [behind], np.int64), b.constant(0, x.dtype))
    scales, alone = packed_scales(scale, zero)
    attrs = {"bits": bits, "block_size": size, "zero": alone, "rounds": rounds}
    y = b.add("BlockProduct", x, b.constant(packed_weights(q, bits)), b.constant(scales), **attrs)
    return b.add("Slice", y, *(b.constant([i], np.int64) for i in (0, n, -1))) if beside else y


def emit_rounded(b: Any, a: Value, size: int) -> Value:
    """a with each block of the last axis rounded to whole steps of its largest magnitude / 127."""
    lead, k = [0] * (len(a.shape) - 1), a.shape[-1]
    padded = k + -k % size
    if padded != k:
        pads = [0] * (2 * len(a.shape) - 1) + [padded - k]
        a = b.add("Pad", a, b.constant(pads, np.int64), b.constant(0, a.dtype))
    blocks = b.add("Reshape", a, b.constant([*lead, padded // size, size], np.int64))
    largest = b.add("ReduceMax", b.add("Abs", blocks), b.constant([-1], np.int64), keepdims=True)
    step = b.add("Div", largest, b.constant(STEPS, a.dtype))
    nothing = b.add("Equal", step, b.constant(0, a.dtype))
    steps = b.add("Round", b.add("Div", blocks, b.add("Where", nothing, b.constant(1, a.dtype), step)))
    flat = b.add("Reshape", b.add("Mul", steps, step), b.constant([*lead, padded], np.int64))
    return flat if padded == k else b.add("Slice", flat, *(b.constant([i], np.int64) for i in (0, k, -1)))


def _infer(call: Call) -> list[TensorType]:
    dtype, attrs = require_dtype(call, 0, ("float32", "float64")), call.attrs
    require_dtype(call, 1, ("uint8",))
    require_same_dtype(call, 0, 2)
    x, w, s, size = call.shape(0), call.shape(1), call.shape(2), attrs.block_size
    per_word = 8 * WORD // attrs.bits
    if not x or len(w) != 4 or any(map(differ, w[1:], (x[-1] // per_word, COLUMNS, WORD))):
        raise call.fail(
            f"'a' has shape {x}, the weights {w}", "they must be [..., K] and [N / 16, K · bits / 32, 16, 4]"
        )
    if size < 1 or size % per_word or differ(x[-1] // size * size, x[-1]):
        raise call.fail(f"block_size is {size}, K {x[-1]}", f"a divisor of K, a multiple of {per_word}")
    if attrs.rounds and (size > LARGEST or size % COLUMNS):
        raise call.fail(f"blocks of {size} are rounded", f"they must be multiples of {COLUMNS} up to {LARGEST}")
    found = len(s) == 4 and not (differ(s[2], 1) and differ(s[2], 2))
    if not found or any(map(differ, (s[0], s[1], s[3]), (w[0], x[-1] // size, COLUMNS))):
        raise call.fail(f"the scales have shape {s}", f"they must be {(w[0], x[-1] // size, '1 or 2', COLUMNS)}")
    if attrs.zero and differ(s[2], 1):
        raise call.fail("there are shifts and a zero point", "leave one of them out")
    return [TensorType(dtype, (*x[:-1], w[0] * COLUMNS))]


def _reference(a, w, scales, bits, block_size, zero, rounds):
    k = a.shape[-1]
    if rounds:
        blocks = a.reshape(*a.shape[:-1], k // block_size, block_size)
        step = np.abs(blocks).max(-1, keepdims=True) / STEPS
        a = (np.rint(blocks / np.where(step == 0, 1, step)) * step).reshape(a.shape)
    q = w[:, :, None] if bits == 8 else np.stack([w & 15, w >> 4], 2)  # [N / 16, K · bits / 32, 1 or 2, 16, 4]
    q = q.swapaxes(3, 4).reshape(len(w), k, COLUMNS).astype(a.dtype)
    by_row = scales[:, np.arange(k) // block_size]
    weights = (q - zero) * by_row[:, :, 0] if by_row.shape[2] == 1 else q * by_row[:, :, 0] - by_row[:, :, 1]
    return a @ weights.transpose(1, 0, 2).reshape(k, len(w) * COLUMNS)


def _expand(b, call: Call):
    """The operand rounded, or the weights in floats; None for dims that are not known."""
    a, w, scales = call.inputs
    size, bits, zero = call.attrs.block_size, call.attrs.bits, call.attrs.zero
    if not all(v.type.is_static for v in call.inputs):
        return None
    if call.attrs.rounds:
        rounded = emit_rounded(b, a, size)
        return b.add("BlockProduct", rounded, w, scales, bits=bits, block_size=size, zero=zero)
    groups, k = w.shape[0], a.shape[-1]
    if bits == 4:
        halves = (
            b.add("BitwiseAnd", w, b.constant(15, np.uint8)),
            b.add("BitShift", w, b.constant(4, np.uint8), direction="RIGHT"),
        )
        w = b.add("Concat", *(b.add("Unsqueeze", h, b.constant([2], np.int64)) for h in halves), axis=2)
    w = b.add("Reshape", w, b.constant([groups, k // WORD, COLUMNS, WORD], np.int64))
    w = b.add("Reshape", b.add("Transpose", w, perm=(0, 1, 3, 2)), b.constant([groups, k, COLUMNS], np.int64))
    q = b.add("Cast", w, to=a.dtype)
    by_row = b.add("Gather", scales, b.constant(np.arange(k) // size, np.int64), axis=1)
    scale = b.add("Gather", by_row, b.constant(0, np.int64), axis=2)
    if scales.shape[2] == 1:
        weights = b.add("Mul", b.add("Sub", q, b.constant(zero, a.dtype)), scale)
    else:
        call.attrs.ignore("zero")
        weights = b.add("Sub", b.add("Mul", q, scale), b.add("Gather", by_row, b.constant(1, np.int64), axis=2))
    weights = b.add("Reshape", b.add("Transpose", weights, perm=(1, 0, 2)), b.constant([k, groups * COLUMNS], np.int64))
    return b.add("MatMul", a, weights)


def _case(
    lead: tuple[int, ...], k: int, n: int, bits: int, size: int, alone: bool = False, rounds: bool = False
) -> Case:
    rng = np.random.default_rng(k)
    q, count = rng.integers(0, 2**bits, (n, k)), k // size
    zeros = np.full((n, count), 2 ** (bits - 1)) if alone else rng.uniform(0, 2**bits, (n, count))
    scales, zero = packed_scales(rng.uniform(0.01, 0.1, (n, count)), zeros)
    return Case(
        (Tensor((*lead, k)), Const(packed_weights(q, bits), "uint8"), Const(scales, "float32")),
        {"bits": bits, "block_size": size, "zero": zero, "rounds": rounds},
    )


register(
    Op(
        "BlockProduct",
        ("a", "weights", "scales"),
        _infer,
        _reference,
        {
            "bits": Attr(int, 4, (4, 8)),
            "block_size": Attr(int),
            "zero": Attr(int, 0),
            "rounds": Attr(bool, False),
        },
        expand=_expand,
        macs=lambda call: prod((*call.shape(0), call.shape(1)[0], COLUMNS)),
        samples=Samples(
            ("float32",),
            cases=(
                _case((1,), 64, 16, 4, 16),
                _case((2, 3), 96, 64, 4, 32, alone=True),
                _case((5,), 48, 96, 8, 24),
                _case((1,), 128, 32, 8, 128, alone=True),
                _case((4,), 40, 112, 4, 8),
                _case((1,), 96, 48, 4, 32, alone=True, rounds=True),
                _case((2, 3), 64, 32, 4, 16, rounds=True),
                _case((11,), 256, 16, 8, 128, alone=True, rounds=True),
                _case((2,), 48, 32, 8, 48, rounds=True),
            ),
        ),
        family=Family.CONTRACTION,
        internal=True,
    )
)
