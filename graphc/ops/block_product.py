"""BlockProduct: a product with weights of 4 or 8 bits that stay so in memory, in blocks with a scale and a shift.

Weights lie in the order in which kernels read them, for 16 columns at a time, so that one constant serves every target.
"""

from __future__ import annotations

import numpy as np

from graphc.op import Attr, Call, Case, Const, Family, Op, Samples, Tensor, register
from graphc.ops.contract import differ, require_dtype, require_same_dtype
from graphc.types import TensorType, prod

COLUMNS = 16  # that lie side by side


def fits(k: int, n: int, bits: int) -> bool:
    """Is there such a form of weights [n, k]?"""
    return bits in (4, 8) and n % COLUMNS == 0 and k % 2 == 0


def packed_weights(q: np.ndarray, bits: int) -> np.ndarray:
    """uint8 [N / 16, K · bits / 8, 16] of whole numbers [N, K]. Of 4 bits, two rows share a byte, the first in its lower half."""
    groups = q.astype(np.uint8).reshape(-1, COLUMNS, q.shape[1]).swapaxes(1, 2)
    return np.ascontiguousarray(groups if bits == 8 else groups[:, ::2] | groups[:, 1::2] << 4)


def packed_scales(scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """float32 [N / 16, blocks, 2, 16] of scales and zero points [N, blocks]: weights are q · scale - shift."""
    both = np.stack([scale, scale * zero], 1).astype(np.float32)  # [N, 2, blocks]
    return np.ascontiguousarray(both.reshape(-1, COLUMNS, *both.shape[1:]).transpose(0, 3, 2, 1))


def _infer(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, 0, ("float32", "float64"))
    require_dtype(call, 1, ("uint8",))
    require_same_dtype(call, 0, 2)
    x, w, s, bits = call.shape(0), call.shape(1), call.shape(2), call.attrs.bits
    if not x or len(w) != 3 or differ(w[2], COLUMNS) or differ(w[1] * (8 // bits), x[-1]):
        raise call.fail(f"'a' has shape {x}, the weights {w}", "they must be [..., K] and [N / 16, K · bits / 8, 16]")
    blocks = (x[-1] + call.attrs.block_size - 1) // call.attrs.block_size
    if len(s) != 4 or any(map(differ, s, (w[0], blocks, 2, COLUMNS))):
        raise call.fail(f"the scales have shape {s}", f"they must be {(w[0], blocks, 2, COLUMNS)}")
    return [TensorType(dtype, (*x[:-1], w[0] * COLUMNS))]


def _reference(a, w, scales, bits, block_size):
    q = w if bits == 8 else np.stack([w & 15, w >> 4], 2).reshape(len(w), 2 * w.shape[1], COLUMNS)
    block = np.arange(a.shape[-1]) // block_size
    weights = q.astype(a.dtype) * scales[:, block, 0] - scales[:, block, 1]
    return a @ weights.transpose(1, 0, 2).reshape(a.shape[-1], len(w) * COLUMNS)


def _expand(b, call: Call):
    """The weights in floats; None for dims that are not known."""
    a, w, scales = call.inputs
    if not all(v.type.is_static for v in call.inputs):
        return None
    groups, rows, _ = w.shape
    k, size, bits = a.shape[-1], call.attrs.block_size, call.attrs.bits
    if bits == 4:
        halves = (
            b.add("BitwiseAnd", w, b.constant(15, np.uint8)),
            b.add("BitShift", w, b.constant(4, np.uint8), direction="RIGHT"),
        )
        both = b.add("Concat", *(b.add("Unsqueeze", h, b.constant([2], np.int64)) for h in halves), axis=2)
        w = b.add("Reshape", both, b.constant([groups, 2 * rows, COLUMNS], np.int64))
    by_row = b.add("Gather", scales, b.constant(np.arange(k) // size, np.int64), axis=1)
    scale, shift = (b.add("Gather", by_row, b.constant(i, np.int64), axis=2) for i in (0, 1))
    weights = b.add("Sub", b.add("Mul", b.add("Cast", w, to=a.dtype), scale), shift)
    weights = b.add("Reshape", b.add("Transpose", weights, perm=(1, 0, 2)), b.constant([k, groups * COLUMNS], np.int64))
    return b.add("MatMul", a, weights)


def _case(lead: tuple[int, ...], k: int, n: int, bits: int, size: int) -> Case:
    rng = np.random.default_rng(k)
    q, count = rng.integers(0, 2**bits, (n, k)), -(-k // size)
    scales = packed_scales(rng.uniform(0.01, 0.1, (n, count)), rng.uniform(0, 2**bits, (n, count)))
    return Case(
        (Tensor((*lead, k)), Const(packed_weights(q, bits), "uint8"), Const(scales, "float32")),
        {"bits": bits, "block_size": size},
    )


register(
    Op(
        "BlockProduct",
        ("a", "weights", "scales"),
        _infer,
        _reference,
        {"bits": Attr(int, 4, (4, 8)), "block_size": Attr(int)},
        expand=_expand,
        macs=lambda call: prod((*call.shape(0), call.shape(1)[0], COLUMNS)),
        samples=Samples(
            ("float32",),
            cases=(
                _case((1,), 64, 16, 4, 16),
                _case((2, 3), 70, 64, 4, 32),
                _case((5,), 48, 96, 8, 32),
                _case((1,), 128, 32, 8, 128),
                _case((4,), 40, 112, 4, 64),
            ),
        ),
        family=Family.CONTRACTION,
        internal=True,
    )
)
