"""float16 to float32 and back with integer operations, for processors without instructions for it.

There LLVM would call functions of a runtime library, which no kernel is linked with. The way back rounds to nearest even; as
with the instructions, denormals are kept and a NaN becomes quiet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llvmlite import ir

if TYPE_CHECKING:
    from graphc.backends.llvm.emit import Emit

I16, I32, F32 = ir.IntType(16), ir.IntType(32), ir.FloatType()
SIGN, INFINITY = 0x80000000, 0x7F800000  # of float32
MANTISSA = 13  # bits that float32 has more
OVERFLOW = (16 + 127) << 23  # 2^16, the first power of two that float16 has not
NORMAL = (-14 + 127) << 23  # 2^-14, the smallest normal number of float16
REBIAS = (127 - 15) << 23  # difference of the exponents' offsets
SCALE = 2.0**112
LAST_PLACE = 0.5  # adding it moves the last place of a denormal float16 (2^-24) to that of a float32


def widened(q: Emit, half: ir.Value, lanes: int) -> ir.Value:
    """float32 of the bits of a float16."""
    b, word = q.b, q.vector(I32, lanes)

    def c(value: int) -> ir.Constant:
        return q.const(value, I32, lanes)

    bits = b.zext(half, word)
    sign = b.shl(b.and_(bits, c(0x8000)), c(16))
    magnitude = b.shl(b.and_(bits, c(0x7FFF)), c(MANTISSA))
    scaled = b.fmul(b.bitcast(magnitude, q.vector(F32, lanes)), q.const(SCALE, F32, lanes))  # exact, of denormals too
    special = b.icmp_unsigned(">=", magnitude, c(0x7C00 << MANTISSA))
    number = b.select(special, b.or_(magnitude, c(INFINITY)), b.bitcast(scaled, word))
    return b.bitcast(b.or_(number, sign), q.vector(F32, lanes))


def narrowed(q: Emit, value: ir.Value, lanes: int) -> ir.Value:
    """Bits of the float16 that is nearest to a float32."""
    b, word = q.b, q.vector(I32, lanes)

    def c(number: int) -> ir.Constant:
        return q.const(number, I32, lanes)

    bits = b.bitcast(value, word)
    sign = b.lshr(b.and_(bits, c(SIGN)), c(16))
    magnitude = b.and_(bits, c(SIGN - 1))
    odd = b.and_(b.lshr(magnitude, c(MANTISSA)), c(1))
    normal = b.lshr(b.add(b.sub(magnitude, c(REBIAS)), b.add(odd, c((1 << (MANTISSA - 1)) - 1))), c(MANTISSA))
    moved = b.fadd(b.bitcast(magnitude, q.vector(F32, lanes)), q.const(LAST_PLACE, F32, lanes))
    denormal = b.sub(b.bitcast(moved, word), b.bitcast(q.const(LAST_PLACE, F32, lanes), word))
    payload = b.and_(b.lshr(magnitude, c(MANTISSA)), c(0x3FF))
    not_a_number = b.or_(payload, c(0x7E00))
    large = b.select(b.icmp_unsigned(">", magnitude, c(INFINITY)), not_a_number, c(0x7C00))
    finite = b.select(b.icmp_unsigned("<", magnitude, c(NORMAL)), denormal, normal)
    number = b.select(b.icmp_unsigned(">=", magnitude, c(OVERFLOW)), large, finite)
    return b.trunc(b.or_(number, sign), q.vector(I16, lanes))
