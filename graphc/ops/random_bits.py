"""RandomBits: random numbers as a function of a position, a draw and a seed, without a state. An operator of the compiler's own.

Philox 2x32-10 of Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC 2011). Every backend and any number of threads
give the same bits.
"""

from __future__ import annotations

import numpy as np

from graphc import expr as e
from graphc.graph import Builder, Value
from graphc.op import INTS, Call, Case, Op, Samples, Tensor, register
from graphc.ops.elementwise import EXACT, require, require_broadcasts_to_first
from graphc.ops.precision import INTEGER
from graphc.types import TensorType

HALF, MASK = 32, 2**32 - 1
UINT64, INT64 = np.dtype(np.uint64), np.dtype(np.int64)


def _infer(call: Call) -> list[TensorType]:
    """uint64 in the shape of the positions; draws and seeds broadcast to it."""
    for i in range(3):
        require(call, INTEGER, call.dtype(i))
        require_broadcasts_to_first(call, i)
    return [call.type(0).with_dtype(UINT64)]


def _scalar(position, draw, seed):
    """The counter is position + 2**32·draw + the high half of the seed, the key the seed's low half.

    So arrays of up to 2**32 elements share no number with other draws, and seeds of 64 bits give other streams.
    """
    position, draw, seed = (e.cast(x, UINT64) for x in (position, draw, seed))
    high_half = e.shift_left(e.shift_right(seed, HALF), HALF)
    return e.philox(position + e.shift_left(draw, HALF) + high_half, seed)


def random_bits(position: np.ndarray, draw: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The reference, in words of 32 bits as the paper has it."""
    position, draw, seed = (np.asarray(x).astype(UINT64) for x in (position, draw, seed))
    with np.errstate(over="ignore"):
        counter = position + (draw << np.uint64(32)) + (seed & np.uint64(0xFFFFFFFF00000000))
        left, right = counter.astype(np.uint32), (counter >> np.uint64(32)).astype(np.uint32)
        key = seed.astype(np.uint32)
        for _ in range(10):
            product = left * np.uint64(0xD256D193)
            left, right = (product >> np.uint64(32)).astype(np.uint32) ^ key ^ right, product.astype(np.uint32)
            key = key + np.uint32(0x9E3779B9)
    return left | right.astype(UINT64) << np.uint64(32)


def _expand(b: Builder, call: Call) -> Value:
    """In operators that other runtimes have: products of int64, whose low 64 bits are those of uint64, and shifts of uint64."""

    def cast(v: Value, to: np.dtype) -> Value:
        return b.add("Cast", v, to=to)

    def shift(v: Value, direction: str) -> Value:
        return b.add("BitShift", v, b.constant(HALF, UINT64), direction=direction)

    def low_half(v: Value) -> Value:
        return b.add("BitwiseAnd", v, b.constant(MASK, UINT64))

    position, draw, seed = (cast(v, UINT64) for v in call.inputs)
    ahead = b.add("BitwiseAnd", seed, b.constant(MASK << HALF, UINT64))
    ahead = b.add("Add", cast(shift(draw, "LEFT"), INT64), cast(ahead, INT64))
    counter = cast(b.add("Add", cast(position, INT64), ahead), UINT64)
    low, high, key = low_half(counter), shift(counter, "RIGHT"), low_half(seed)
    for i in range(e.PHILOX_ROUNDS):
        if i:
            weyl = b.constant(e.PHILOX_WEYL, INT64)
            key = low_half(cast(b.add("Add", cast(key, INT64), weyl), UINT64))
        product = cast(b.add("Mul", cast(low, INT64), b.constant(e.PHILOX_MULTIPLIER, INT64)), UINT64)
        low = b.add("BitwiseXor", b.add("BitwiseXor", shift(product, "RIGHT"), key), high)
        high = low_half(product)
    return b.add("BitwiseOr", low, shift(high, "LEFT"))


register(
    Op(
        "RandomBits",
        ("position", "draw", "seed"),
        _infer,
        random_bits,
        scalar=_scalar,
        expand=_expand,
        tolerance=EXACT,
        samples=Samples(
            INTS,
            low=-99,
            high=99,
            cases=(
                Case((Tensor((3, 7)), Tensor(()), Tensor(()))),
                Case((Tensor((2, 3, 5)), Tensor((3, 1)), Tensor((1, 5)))),
                Case(
                    (Tensor((65,), 0, 2**62, "int64"), Tensor((1,), 0, 2**40, "int64"), Tensor((), 0, 2**62, "int64"))
                ),
                Case((Tensor(()), Tensor((), 0, 9, "int32"), Tensor((), 0, 9, "uint8"))),
            ),
        ),
        internal=True,
    )
)
