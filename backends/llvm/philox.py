"""Philox 2x32-10 as LLVM vector code: ten rounds on lanes of 64 bits, of which products of 32 bits by 32 fill all."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.llvm.emit import I64, Emit
from graphc.expr import PHILOX_MULTIPLIER, PHILOX_ROUNDS, PHILOX_WEYL


def philox(q: Emit, counter: ir.Value, key: ir.Value, lanes: int) -> ir.Value:
    """64 random bits. Halves lie in the low bits of a lane, the others zero, so that a product takes one instruction."""
    b = q.b
    mask, half, multiplier, weyl = (q.const(n, I64, lanes) for n in (2**32 - 1, 32, PHILOX_MULTIPLIER, PHILOX_WEYL))
    low, high = b.and_(counter, mask), b.lshr(counter, half)
    for i in range(PHILOX_ROUNDS):
        key = b.and_(b.add(key, weyl) if i else key, mask)
        product = b.mul(low, multiplier)
        low, high = b.xor(b.xor(b.lshr(product, half), key), high), b.and_(product, mask)
    return b.or_(low, b.shl(high, half))
