"""Floats of 8 bits and less to float32 and back, with integer operations: no table, so that they run in any number of lanes.

Elements are bytes; of those of 4 and 6 bits only the low bits are read. The way back rounds to nearest even. What is too large
becomes infinity, NaN where a type has none, and the largest number where it has neither, as ml_dtypes does; who wants the largest
number takes the minimum before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from llvmlite import ir

from graphc.dtypes import BY_NAME

if TYPE_CHECKING:
    from graphc.backends.llvm.emit import Emit

I8, I32, F32 = ir.IntType(8), ir.IntType(32), ir.FloatType()
SIGN, INFINITY, NAN = 0x80000000, 0x7F800000, 0x7FC00000  # of float32
MANTISSA, BIAS = 23, 127
E8M0, E8M0_NAN = "float8_e8m0fnu", 255


@dataclass(frozen=True)
class Format:
    """A type with a sign. largest, overflow, nan: the codes of the largest number, of what is too large and of NaN, each
    positive. one_zero: -0 is 0, and there is one NaN."""

    bits: int
    mantissa: int
    bias: int
    largest: int
    overflow: int
    nan: int
    one_zero: bool

    @property
    def sign(self) -> int:
        return 1 << (self.bits - 1)

    @property
    def shift(self) -> int:
        """Bits of the mantissa that float32 has more."""
        return MANTISSA - self.mantissa

    @property
    def smallest_normal(self) -> int:
        """Bits of that number as a float32."""
        return (BIAS + 1 - self.bias) << MANTISSA


@lru_cache
def format_of(name: str) -> Format:
    """Of a type, by what ml_dtypes makes of numbers."""
    import ml_dtypes

    dtype = BY_NAME[name].numpy
    info = ml_dtypes.finfo(dtype)
    numbers = np.array([info.max, np.inf, np.nan, -0.0], np.float32)
    largest, overflow, nan, zero = numbers.astype(dtype).view(np.uint8).tolist()
    return Format(info.bits, info.nmant, 1 - info.minexp, largest, overflow, nan, one_zero=zero == 0)


def decoded(q: Emit, code: ir.Value, name: str, lanes: int) -> ir.Value:
    """float32 of the codes of a type. Exact."""
    b, word, number = q.b, q.vector(I32, lanes), q.vector(F32, lanes)

    def c(value: int) -> ir.Constant:
        return q.const(value, I32, lanes)

    bits = b.zext(code, word)
    if name == E8M0:
        power = b.select(b.icmp_unsigned("==", bits, c(0)), c(1 << (MANTISSA - 1)), b.shl(bits, c(MANTISSA)))
        return b.bitcast(b.select(b.icmp_unsigned("==", bits, c(E8M0_NAN)), c(NAN), power), number)
    f = format_of(name)
    magnitude = b.and_(bits, c(f.sign - 1))
    moved = b.shl(magnitude, c(f.shift))
    normal = b.add(moved, c((BIAS - f.bias) << MANTISSA))
    # the mantissa of a denormal, with the exponent of the smallest normal number, is that number too large
    large = b.bitcast(b.or_(moved, c(f.smallest_normal)), number)
    denormal = b.fsub(large, b.bitcast(c(f.smallest_normal), number))
    value = b.select(b.icmp_unsigned("<", magnitude, c(1 << f.mantissa)), b.bitcast(denormal, word), normal)
    if f.largest < f.sign - 1:
        special = b.or_(moved, c(INFINITY)) if f.overflow != f.nan else c(NAN)
        value = b.select(b.icmp_unsigned(">", magnitude, c(f.largest)), special, value)
    value = b.or_(value, b.shl(b.and_(bits, c(f.sign)), c(32 - f.bits)))
    if f.one_zero:
        value = b.select(b.icmp_unsigned("==", bits, c(f.nan)), c(SIGN | NAN), value)
    return b.bitcast(value, number)


def encoded(q: Emit, value: ir.Value, name: str, lanes: int) -> ir.Value:
    """Codes of the numbers of a type that are nearest to float32."""
    b, word, number = q.b, q.vector(I32, lanes), q.vector(F32, lanes)

    def c(code: int) -> ir.Constant:
        return q.const(code, I32, lanes)

    bits = b.bitcast(value, word)
    if name == E8M0:
        return b.trunc(_power(q, value, bits, lanes), q.vector(I8, lanes))
    f = format_of(name)
    magnitude = b.and_(bits, c(SIGN - 1))
    odd = b.and_(b.lshr(magnitude, c(f.shift)), c(1))
    rounded = b.add(b.add(magnitude, odd), c((1 << (f.shift - 1)) - 1 - ((BIAS - f.bias) << MANTISSA)))
    normal = b.lshr(rounded, c(f.shift))
    # in a sum with a number whose last place is the smallest denormal's, the FPU rounds to that place
    place = c(f.smallest_normal + (f.shift << MANTISSA))
    moved = b.fadd(b.bitcast(magnitude, number), b.bitcast(place, number))
    denormal = b.sub(b.bitcast(moved, word), place)
    code = b.select(b.icmp_unsigned("<", magnitude, c(f.smallest_normal)), denormal, normal)
    code = b.select(b.icmp_unsigned(">", code, c(f.largest)), c(f.overflow), code)
    code = b.select(b.fcmp_unordered("uno", value, value), c(f.nan), code)
    sign = b.lshr(b.and_(bits, c(SIGN)), c(32 - f.bits))
    if f.one_zero:  # neither 0 nor NaN has a sign
        sign = b.select(b.icmp_unsigned("<", b.sub(code, c(1)), c(f.sign - 1)), sign, c(0))
    return b.trunc(b.xor(code, sign), q.vector(I8, lanes))


def _power(q: Emit, value: ir.Value, bits: ir.Value, lanes: int) -> ir.Value:
    """Codes of the nearest powers of two, the larger of two; of zero and negative numbers that of NaN."""
    b = q.b

    def c(code: int) -> ir.Constant:
        return q.const(code, I32, lanes)

    half = b.select(b.icmp_unsigned("<", bits, c(1 << MANTISSA)), c(1 << (MANTISSA - 2)), c(1 << (MANTISSA - 1)))
    nearest = b.lshr(b.add(bits, half), c(MANTISSA))
    return b.select(b.fcmp_ordered(">", value, q.const(0.0, F32, lanes)), nearest, c(E8M0_NAN))
