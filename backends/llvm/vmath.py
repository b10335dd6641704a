"""Vector exp, log, tanh, sigmoid, erf of the project's own (LLVM does not vectorise calls to libm).

float32 is computed by polynomials on vectors; float64 and the rare functions go lane by lane through the C library.
Measured errors are in tests/cpu/test_vmath.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from llvmlite import ir

from graphc.backends.llvm.emit import F32, F64, I32, Emit

# (e**r - 1 - r) / r**2 for |r| <= ln 2 / 2 (Cephes expf), highest power first
_EXP_TAIL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)


def _f32(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]


def _is_f64(x: ir.Value, lanes: int) -> bool:
    return (x.type.element if lanes > 1 else x.type) == F64


def _horner(q: Emit, x: ir.Value, coefficients: Sequence[float], lanes: int) -> ir.Value:
    """Polynomial, highest power first."""
    acc = q.const(_f32(coefficients[0]), F32, lanes)
    for c in coefficients[1:]:
        acc = q.fma(acc, x, q.const(_f32(c), F32, lanes))
    return acc


def _exp2_int(q: Emit, n: ir.Value, lanes: int) -> ir.Value:
    """2**n for a vector of int32 with -126 <= n <= 127, by its bits."""
    b = q.b
    biased = b.add(n, q.const(127, I32, lanes))
    return b.bitcast(b.shl(biased, q.const(23, I32, lanes)), q.vector(F32, lanes))


def _constants(q: Emit, lanes: int) -> Callable[[float], ir.Value]:
    """What makes vectors of one float32 number."""

    def constant(v: float) -> ir.Value:
        return q.const(_f32(v), F32, lanes)

    return constant


def exp(q: Emit, x: ir.Value, lanes: int) -> ir.Value:
    """e**x: x = n ln 2 + r with |r| <= ln 2 / 2 (Cody & Waite), a degree-6 polynomial, scaled by 2**n in two halves.

    Underflows gradually to 0 below -103.97, overflows to infinity above 88.72, NaN stays.
    """
    if _is_f64(x, lanes):
        return libm(q, "exp", [x], lanes)
    b = q.b
    c = _constants(q, lanes)
    lo = b.select(b.fcmp_ordered("<", x, c(-104.0)), c(-104.0), x)
    xc = b.select(b.fcmp_ordered(">", lo, c(89.0)), c(89.0), lo)
    n = q.intrinsic("roundeven", b.fmul(xc, c(1.4426950408889634)))
    r = q.fma(n, c(-0.693145751953125), xc)
    r = q.fma(n, c(-1.428606765330187e-06), r)
    y = _exp_of_rest(q, r, lanes)
    whole = q.b.fptosi(b.select(b.fcmp_unordered("uno", x, x), c(0.0), n), q.vector(I32, lanes))
    half = b.ashr(whole, q.const(1, I32, lanes))
    return b.fmul(b.fmul(y, _exp2_int(q, half, lanes)), _exp2_int(q, b.sub(whole, half), lanes))


def _exp_of_rest(q: Emit, r: ir.Value, lanes: int) -> ir.Value:
    """e**r for |r| <= ln 2 / 2."""
    b = q.b
    p = _horner(q, r, _EXP_TAIL, lanes)
    return b.fadd(q.fma(p, b.fmul(r, r), r), q.const(1.0, F32, lanes))


def exp_bounded(q: Emit, x: ir.Value, lanes: int) -> ir.Value:
    """e**x of float32 for -87.33 <= x <= 88.37, which the caller sees to (NaN gives any number): two thirds of exp's work.

    n = round(x / ln 2) appears in the low bits of x / ln 2 + 1.5 * 2**23 and is added to the exponent of e**r.
    """
    b = q.b
    c = _constants(q, lanes)
    shifted = q.fma(x, c(1.4426950408889634), c(1.5 * 2.0**23))
    n = b.fsub(shifted, c(1.5 * 2.0**23))
    r = q.fma(n, c(-1.428606765330187e-06), q.fma(n, c(-0.693145751953125), x))
    ints = q.vector(I32, lanes)
    exponent = b.shl(b.bitcast(shifted, ints), q.const(23, I32, lanes))
    return b.bitcast(b.add(b.bitcast(_exp_of_rest(q, r, lanes), ints), exponent), x.type)


def log(q: Emit, x: ir.Value, lanes: int) -> ir.Value:
    """Natural logarithm (Cephes logf): mantissa in [sqrt(1/2), sqrt 2), a degree-8 polynomial. 0 -> -inf, negative -> NaN."""
    if _is_f64(x, lanes):
        return libm(q, "log", [x], lanes)
    b = q.b
    c = _constants(q, lanes)

    def k(v: int) -> ir.Value:
        return q.const(v, I32, lanes)

    tiny = b.fcmp_ordered("<", x, c(1.17549435e-38))
    scaled = b.select(tiny, b.fmul(x, c(2.0**23)), x)  # subnormals
    bits = b.bitcast(scaled, q.vector(I32, lanes))
    exponent = b.sub(b.lshr(bits, k(23)), k(126))
    m = b.bitcast(b.or_(b.and_(bits, k(0x7FFFFF)), k(0x3F000000)), q.vector(F32, lanes))
    small = b.fcmp_ordered("<", m, c(0.70710678118))
    e = b.sitofp(exponent, q.vector(F32, lanes))
    e = b.fsub(e, b.select(tiny, c(23.0), c(0.0)))
    e = b.fsub(e, b.select(small, c(1.0), c(0.0)))
    m = b.fsub(b.fadd(m, b.select(small, m, c(0.0))), c(1.0))
    z = b.fmul(m, m)
    p = _horner(q, m, (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
                       -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1), lanes)  # fmt: skip
    y = b.fmul(b.fmul(p, m), z)
    y = q.fma(e, c(-2.12194440e-4), y)
    y = q.fma(z, c(-0.5), y)
    y = q.fma(e, c(0.693359375), b.fadd(m, y))
    inf = c(float("inf"))
    y = b.select(b.fcmp_ordered("==", x, inf), inf, y)
    y = b.select(b.fcmp_ordered("==", x, c(0.0)), c(float("-inf")), y)
    return b.select(b.or_(b.fcmp_ordered("<", x, c(0.0)), b.fcmp_unordered("uno", x, x)), c(float("nan")), y)


def sigmoid(q: Emit, x: ir.Value, lanes: int) -> ir.Value:
    """1 / (1 + e**-x), 0 below -88.3."""
    b = q.b
    if _is_f64(x, lanes):
        one = q.const(1.0, F64, lanes)
        return b.fdiv(one, b.fadd(one, exp(q, q.fneg(x), lanes)))
    one = q.const(1.0, F32, lanes)
    rest, power = _exp_in_parts(q, q.fneg(x), -87.0, 88.3, 1, lanes)
    y = b.fdiv(one, q.fma(rest, power, b.fadd(power, one)))
    return b.select(b.fcmp_ordered("<", x, q.const(_f32(-88.3), F32, lanes)), q.const(0.0, F32, lanes), y)


def tanh(q: Emit, x: ir.Value, lanes: int) -> ir.Value:
    """(e**2x - 1) / (e**2x + 1), without the cancellation; the sign of x, so that -0 stays -0."""
    if _is_f64(x, lanes):
        return libm(q, "tanh", [x], lanes)
    b = q.b
    rest, power = _exp_in_parts(q, q.intrinsic("fabs", x), None, 10.0, 2, lanes)
    less = q.fma(rest, power, b.fsub(power, q.const(1.0, F32, lanes)))  # e**2x - 1
    return q.intrinsic("copysign", b.fdiv(less, b.fadd(less, q.const(2.0, F32, lanes))), x)


def _exp_in_parts(
    q: Emit, x: ir.Value, low: float | None, high: float, times: int, lanes: int
) -> tuple[ir.Value, ir.Value]:
    """(r, p) with e**(times x) = p (1 + r), p a power of 2 and r precise near 0; x is cut off at low, if
    it can be below, and at high; NaN stays.

    As in `exp_bounded`, which the bounds have to suit; `times`, a power of 2, goes into the constants.
    """
    b = q.b
    c = _constants(q, lanes)
    if low is not None:
        x = b.select(b.fcmp_ordered("<", x, c(low)), c(low), x)
    x = b.select(b.fcmp_ordered(">", x, c(high)), c(high), x)
    shifted = q.fma(x, c(times * 1.4426950408889634), c(1.5 * 2.0**23))
    n = b.fsub(shifted, c(1.5 * 2.0**23))
    r = q.fma(n, c(-1.428606765330187e-06 / times), q.fma(n, c(-0.693145751953125 / times), x))
    scaled = [a * times ** (len(_EXP_TAIL) + 1 - i) for i, a in enumerate(_EXP_TAIL)]
    rest = q.fma(_horner(q, r, scaled, lanes), b.fmul(r, r), b.fmul(r, c(times)) if times > 1 else r)
    bits = b.shl(b.bitcast(shifted, q.vector(I32, lanes)), q.const(23, I32, lanes))
    return rest, b.bitcast(b.add(bits, q.const(0x3F800000, I32, lanes)), x.type)


def erf(q: Emit, x: ir.Value, lanes: int) -> ir.Value:
    """erf: a polynomial in x**2 below 0.921875, 1 - exp(-poly(|x|)) above (N. Juffa's erff, error below 1 ulp or so)."""
    if _is_f64(x, lanes):
        return libm(q, "erf", [x], lanes)
    b = q.b
    c = _constants(q, lanes)
    t = q.intrinsic("fabs", x)
    s = b.fmul(x, x)
    near = _horner(
        q, s, (-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1), lanes
    )
    near = q.fma(near, x, x)
    capped = b.select(b.fcmp_ordered(">", t, c(4.0)), c(4.0), t)
    r = q.fma(c(-1.72853470e-5), capped, c(3.83197126e-4))
    u = q.fma(c(-3.88396438e-3), capped, c(2.42546219e-2))
    s2 = b.fmul(capped, capped)
    r = q.fma(r, s2, u)
    r = q.fma(r, capped, c(-1.06777877e-1))
    r = q.fma(r, capped, c(-6.34846687e-1))
    r = q.fma(r, capped, c(-1.28717512e-1))
    r = q.fma(r, capped, q.fneg(capped))
    far = q.intrinsic("copysign", b.fsub(c(1.0), exp_bounded(q, r, lanes)), x)  # -17 < r <= 0
    y = b.select(b.fcmp_ordered(">", t, c(0.921875)), far, near)
    return b.select(b.fcmp_unordered("uno", x, x), x, y)


def libm(q: Emit, name: str, xs: list[ir.Value], lanes: int) -> ir.Value:
    """A function of the C library, in double precision, lane by lane."""
    b = q.b
    single = not _is_f64(xs[0], lanes)

    def one(args: list[ir.Value]) -> ir.Value:
        wide = [b.fpext(a, F64) for a in args] if single else args
        y = q.libm(name, *wide)
        return b.fptrunc(y, F32) if single else y

    if lanes == 1:
        return one(xs)
    out = ir.Constant(xs[0].type, ir.Undefined)
    for lane in range(lanes):
        index = ir.Constant(I32, lane)
        out = b.insert_element(out, one([b.extract_element(x, index) for x in xs]), index)
    return out


def int_pow(q: Emit, x: ir.Value, y: ir.Value, signed: bool, element: ir.Type, lanes: int) -> ir.Value:
    """x**y by squaring, wrapping around; a negative exponent gives 0, or 1 and -1 where |x| is 1."""
    b = q.b
    zero, one = q.const(0, element, lanes), q.const(1, element, lanes)
    result, base, e = one, x, y
    for _ in range(element.width):
        odd = b.icmp_unsigned("!=", b.and_(e, one), zero)
        result = b.select(odd, b.mul(result, base), result)
        base, e = b.mul(base, base), b.lshr(e, one)
    if not signed:
        return result
    odd = b.icmp_unsigned("!=", b.and_(y, one), zero)
    minus = q.const(-1, element, lanes)
    unit = b.select(
        b.icmp_signed("==", x, one), one, b.select(b.icmp_signed("==", x, minus), b.select(odd, minus, one), zero)
    )
    return b.select(b.icmp_signed("<", y, zero), unit, result)
