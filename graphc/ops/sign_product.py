"""SignProduct: a product of signs, -1, 0 and 1, by constant weights that are signs, too, which lie in memory as bits.

A bit is 1 for -1 and 0 for 1, so that the sum of K products is K - 2 · (bits that differ) (M. Rastegari, V. Ordonez, J. Redmon and
A. Farhadi, "XNOR-Net", ECCV 2016). A zero is the mean of 1 and -1: where there are zeros each number has two bits, in two planes, of
which the first says x < 0 and the second x <= 0; a number is half the sum of their signs.
"""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Family, Op, Samples, Tensor, register
from graphc.ops.contract import differ, require_dtype
from graphc.types import TensorType, prod

WORD = 32  # bits of a word
INT32, UINT32 = (np.dtype(t) for t in ("int32", "uint32"))


def packed_signs(w: np.ndarray) -> np.ndarray:
    """uint32 [planes, K / 32 rounded up, N] of signs [K, N]: one plane where there are no zeros, else two. Bits behind the last are 0."""
    planes = [w < 0] if np.all(w) else [w < 0, w <= 0]
    bits = np.stack([np.pad(p, [(0, -len(w) % WORD), (0, 0)]) for p in planes])
    grouped = bits.reshape(len(planes), -1, WORD, w.shape[1]).astype(np.uint32)
    return np.bitwise_or.reduce(grouped << np.arange(WORD, dtype=np.uint32)[:, None], axis=2)


def _unpacked(codes: np.ndarray, k: int) -> np.ndarray:
    """The inverse: [K, N]."""
    bits = codes[:, :, None] >> np.arange(WORD, dtype=np.uint32)[:, None] & np.uint32(1)
    planes, words, n = codes.shape
    signs = 1 - 2.0 * bits.reshape(planes, words * WORD, n)[:, :k]
    return signs.mean(0)


def _infer(call: Call) -> list[TensorType]:
    require_dtype(call, 0, ("float32", "float64"))
    require_dtype(call, 1, ("uint32",))
    x, codes = call.shape(0), call.shape(1)
    if (
        len(x) < 2
        or len(codes) != 3
        or (differ(codes[0], 1) and differ(codes[0], 2))
        or differ((x[-1] + WORD - 1) // WORD, codes[1])
    ):
        raise call.fail(
            f"'x' has shape {x}, the weights {codes}", "they must be [..., M, K] and [1 or 2, K / 32 rounded up, N]"
        )
    return [TensorType(INT32, (*x[:-1], codes[2]))]


def _reference(x, codes, zeros):
    signs = np.where(x < 0, -1, np.where((x <= 0) & zeros, 0, 1))
    return (signs @ _unpacked(codes, x.shape[-1])).astype(INT32)


def _expand(b: Builder, call: Call) -> Value | None:
    x, codes = call.inputs
    if not isinstance(x.shape[-1], int) or not codes.type.is_static:
        return None
    planes, words, n = codes.shape
    zero, one, minus = (b.constant(c, x.dtype) for c in (0, 1, -1))
    signs = b.add("Where", b.add("LessOrEqual", x, zero), zero, one) if call.attrs.zeros else one
    signs = b.add("Where", b.add("Less", x, zero), minus, signs)
    places = b.constant(np.arange(WORD, dtype=np.uint32)[:, None])
    each = b.add("Unsqueeze", codes, b.constant([2], np.int64))
    bits = b.add("BitwiseAnd", b.add("BitShift", each, places, direction="RIGHT"), b.constant(1, UINT32))
    bits = b.add("Cast", b.add("Reshape", bits, b.constant([planes, words * WORD, n], np.int64)), to=x.dtype)
    kept = b.add("Slice", bits, *(b.constant([i], np.int64) for i in (0, x.shape[-1], 1)))
    mean = b.add("ReduceMean", kept, b.constant([0], np.int64), keepdims=False)
    weights = b.add("Sub", one, b.add("Mul", mean, b.constant(2, x.dtype)))
    return b.add("Cast", b.add("MatMul", signs, weights), to=INT32)


def _case(lead: tuple[int, ...], k: int, n: int, ternary: bool, zeros: bool) -> Case:
    rng = np.random.default_rng(k)
    w = rng.integers(-1, 2, (k, n)) if ternary else rng.choice([-1, 1], (k, n))
    x = Const(rng.integers(-1, 2, (*lead, k)), "float32") if zeros else Tensor((*lead, k))
    return Case((x, Const(packed_signs(w), "uint32")), {"zeros": zeros})


register(
    Op(
        "SignProduct",
        ("x", "weights"),
        _infer,
        _reference,
        {"zeros": Attr(bool, True)},  # are there zeros in x? Else 0 counts as 1
        expand=_expand,
        macs=lambda call: prod((*call.shape(0), call.shape(1)[2])),
        tolerance=0.0,
        samples=Samples(
            ("float32",),
            cases=(
                _case((1,), 64, 16, False, False),
                _case((5,), 70, 33, True, False),
                _case((2, 3), 96, 40, False, True),
                _case((17,), 600, 50, True, True),
                _case((1,), 1100, 130, True, True),
                _case((3, 0), 64, 8, False, False),
            ),
        ),
        family=Family.CONTRACTION,
        internal=True,
    )
)
