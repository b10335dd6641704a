"""Scalar expressions (`graphc.expr`) as LLVM vector code: one emitter for every epilogue, elementwise and reduction kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from llvmlite import ir

from graphc.backends.llvm import vmath
from graphc.backends.llvm.emit import F32, F64, I8, I32, I64, Emit, memory_type, register_type
from graphc.backends.llvm.philox import philox
from graphc.dtypes import BY_NAME, is_float, is_integer, is_narrow, is_signed
from graphc.expr import Expr, clipped

VECTOR = 64  # bytes of a register of AVX-512


def emit(q: Emit, e: Expr, operands: Sequence[ir.Value] | Callable[[int], ir.Value], lanes: int) -> ir.Value:
    """The value of an expression. `operands[i]` is operand i in its register type, `lanes` wide."""
    fetch = operands if callable(operands) else operands.__getitem__
    done: dict[int, ir.Value] = {}

    def go(node: Expr) -> ir.Value:
        if id(node) not in done:
            done[id(node)] = _emit_node(q, node, [go(a) for a in node.args], fetch, lanes)
        return done[id(node)]

    return go(e)


def emit_to_store(q: Emit, e: Expr, operands: Sequence[ir.Value] | Callable[[int], ir.Value], lanes: int) -> ir.Value:
    """As `emit`, for `Emit.store`, which rounds what is converted last."""
    if e.prim != "cast":
        return emit(q, e, operands, lanes)
    (part,) = e.args
    if _is_small(e):
        return _small(q, emit(q, part, operands, lanes), e.dtype, lanes)
    return _converted(q, _rounded(q, part, emit(q, part, operands, lanes), lanes), part.dtype, e.dtype, lanes)


def _emit_node(q: Emit, e: Expr, xs: list[ir.Value], fetch: Callable[[int], ir.Value], lanes: int) -> ir.Value:
    if e.prim == "arg":
        return fetch(e.index)
    if e.prim == "const":
        return q.const(e.number, register_type(e.dtype), lanes)
    if e.prim == "bytes":
        assert isinstance(e.value, bytes)
        return q.constant_bytes(e.value)
    if e.prim == "table":
        return _looked_up(q, xs[0], xs[1], lanes)
    if e.prim in _STEPS:
        xs = [_rounded(q, a, x, lanes) for a, x in zip(e.args, xs)]
    if e.prim == "cast" and _is_small(e):
        return _small(q, xs[0], e.dtype, lanes)
    if e.prim == "cast":
        return convert(q, xs[0], e.args[0].dtype, e.dtype, lanes)
    if e.prim == "bitcast":
        raw = q.narrow(xs[0], e.args[0].dtype, lanes)
        return q.widen(q.b.bitcast(raw, q.vector(q.kept_type(e.dtype), lanes)), e.dtype, lanes)
    if e.prim == "select":
        return q.b.select(*xs)
    kind = e.args[0].dtype
    if is_float(kind):
        return _float(q, e.prim, xs, lanes)
    return _bool(q, e.prim, xs) if kind == np.bool_ else _int(q, e.prim, xs, is_signed(kind), lanes)


# Narrow floats are computed in float32. That they keep more digits on the way is no fault, but where a function has steps:
_STEPS = {"cast", "bitcast", "floor", "ceil", "rint", "trunc", "fmod", "lt", "le", "gt", "ge", "eq", "ne"}
_EXACT = {
    "arg",
    "const",
    "cast",
    "bitcast",
    "neg",
    "abs",
    "min",
    "max",
    "floor",
    "ceil",
    "rint",
    "trunc",
    "fmod",
}  # of exact operands


def _rounded(q: Emit, e: Expr, x: ir.Value, lanes: int) -> ir.Value:
    """The value of an expression, with the digits of its dtype alone."""
    return x if _is_exact(e) else round_half(q, x, e.dtype, lanes)


def _is_exact(e: Expr) -> bool:
    """Is the result a number of its dtype without being rounded?"""
    if e.prim == "select":
        return all(map(_is_exact, e.args[1:]))
    return e.prim in _EXACT and (e.prim in ("cast", "bitcast") or all(map(_is_exact, e.args)))


_ORDERED = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "=="}
_ROUNDING = {"floor": "floor", "ceil": "ceil", "rint": "roundeven", "trunc": "trunc", "sqrt": "sqrt", "abs": "fabs"}
_LIBM = {"sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "log1p", "expm1", "pow", "fmod"}  # fmt: skip


def _float(q: Emit, prim: str, xs: list[ir.Value], lanes: int) -> ir.Value:
    b, x = q.b, xs[0]
    y = xs[1] if len(xs) > 1 else None
    flags = ("contract",) if q.contracts else ()
    match prim:
        case "add":
            return b.fadd(x, y, flags)
        case "sub":
            return b.fsub(x, y, flags)
        case "mul":
            return b.fmul(x, y, flags)
        case "div":
            return b.fdiv(x, y)
        case "neg":
            return q.fneg(x)
        case "ne":
            return b.fcmp_unordered("!=", x, y)
        case "min" | "max":
            # the comparison is false on NaN in x, so x comes through; NaN in y is picked by the second select
            picked = b.select(b.fcmp_ordered("<" if prim == "min" else ">", y, x), y, x)
            return b.select(b.fcmp_unordered("uno", y, y), y, picked)
    if prim in _ORDERED:
        return b.fcmp_ordered(_ORDERED[prim], x, y)
    if prim in _ROUNDING:
        return q.intrinsic(_ROUNDING[prim], x)
    if prim in ("exp", "log", "tanh", "sigmoid", "erf"):
        return getattr(vmath, prim)(q, x, lanes)
    if prim in _LIBM:
        return vmath.libm(q, prim, xs, lanes)
    raise TypeError(f"primitive '{prim}' is not defined on floats")


def _int(q: Emit, prim: str, xs: list[ir.Value], signed: bool, lanes: int) -> ir.Value:
    b, x = q.b, xs[0]
    y = xs[1] if len(xs) > 1 else None
    compare = b.icmp_signed if signed else b.icmp_unsigned
    element = x.type.element if lanes > 1 else x.type
    simple = {"add": b.add, "sub": b.sub, "mul": b.mul, "and": b.and_, "or": b.or_, "xor": b.xor}
    if prim in simple:
        return simple[prim](x, y)
    if prim in _ORDERED or prim == "ne":
        return compare(_ORDERED.get(prim, "!="), x, y)
    zero = q.const(0, element, lanes)
    match prim:
        case "neg":
            return b.sub(zero, x)
        case "not":
            return b.not_(x)
        case "abs":
            return b.select(compare("<", x, zero), b.sub(zero, x), x) if signed else x
        case "min" | "max":
            return b.select(compare("<" if prim == "min" else ">", x, y), x, y)
        case "floor" | "ceil" | "rint" | "trunc":
            return x
        case "div" | "fmod":
            return _int_division(q, prim, x, y, signed, element, lanes)
        case "shl" | "shr":
            width = q.const(element.width, element, lanes)
            inside = b.icmp_unsigned("<", y, width)  # a shift by the width or more gives poison in LLVM: define it as 0
            safe = b.select(inside, y, zero)
            shift = b.shl if prim == "shl" else b.ashr if signed else b.lshr
            return b.select(inside, shift(x, safe), zero)
        case "philox":
            return philox(q, x, y, lanes)
        case "pow":
            return vmath.int_pow(q, x, y, signed, element, lanes)
        case "sqrt" | "exp" | "log":
            own, double = np.dtype(f"{'i' if signed else 'u'}{element.width // 8}"), np.dtype("f8")
            return convert(q, _float(q, prim, [convert(q, x, own, double, lanes)], lanes), double, own, lanes)
    raise TypeError(f"primitive '{prim}' is not defined on integers")


def _int_division(q: Emit, prim: str, x: ir.Value, y: ir.Value, signed: bool, element: ir.Type, lanes: int) -> ir.Value:
    """Truncating quotient and its remainder. Division by zero gives 0, the lowest number by -1 itself: never a trap."""
    b = q.b
    zero, one = q.const(0, element, lanes), q.const(1, element, lanes)
    by_zero = b.icmp_signed("==", y, zero)
    if signed:
        minus = b.icmp_signed("==", y, q.const(-1, element, lanes))
        safe = b.select(b.or_(by_zero, minus), one, y)
        if prim == "div":
            return b.select(by_zero, zero, b.select(minus, b.sub(zero, x), b.sdiv(x, safe)))
        return b.select(b.or_(by_zero, minus), zero, b.srem(x, safe))
    safe = b.select(by_zero, one, y)
    return b.select(by_zero, zero, b.udiv(x, safe) if prim == "div" else b.urem(x, safe))


def _bool(q: Emit, prim: str, xs: list[ir.Value]) -> ir.Value:
    b, x = q.b, xs[0]
    y = xs[1] if len(xs) > 1 else None
    match prim:
        case "and" | "mul" | "min":
            return b.and_(x, y)
        case "or" | "add" | "max":
            return b.or_(x, y)
        case "xor" | "ne":
            return b.xor(x, y)
        case "eq":
            return b.not_(b.xor(x, y))
        case "not":
            return b.not_(x)
        case "lt":
            return b.and_(b.not_(x), y)
        case "gt":
            return b.and_(x, b.not_(y))
        case "le":
            return b.or_(b.not_(x), y)
        case "ge":
            return b.or_(x, b.not_(y))
    raise TypeError(f"primitive '{prim}' is not defined on bool")


def _looked_up(q: Emit, x: ir.Value, table: ir.Value, lanes: int) -> ir.Value:
    """Bytes of a table at 256 addresses. An instruction that permutes bytes chooses among 128 of them by the low seven bits."""
    b = q.b
    if lanes == 1:
        return q.load_fixed(q.offset(table, b.zext(x, I64)), I8, 1)
    undefined = ir.Constant(x.type, ir.Undefined)
    if not q.permutes_bytes:
        for i in (ir.Constant(I32, i) for i in range(lanes)):
            undefined = b.insert_element(undefined, _looked_up(q, b.extract_element(x, i), table, 1), i)
        return undefined
    parts = [q.load_fixed(q.offset(table, at), I8, VECTOR) for at in range(0, 256, VECTOR)]
    mask = ir.Constant(ir.VectorType(I32, VECTOR), [i % lanes for i in range(VECTOR)])
    index, first = b.shuffle_vector(x, undefined, mask), ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))
    low, high = (
        b.shuffle_vector(q.call("llvm.x86.avx512.vpermi2var.qi.512", index.type, one, index, other), index, first)
        for one, other in (parts[:2], parts[2:])
    )
    return b.select(b.icmp_signed("<", x, ir.Constant(x.type, None)), high, low)


def convert(q: Emit, x: ir.Value, source: np.dtype, to: np.dtype, lanes: int) -> ir.Value:
    """Cast between register types. Floats to integers truncate; out of range wraps through int64, NaN gives 0. Floats to narrower
    ones round once."""
    return round_half(q, _converted(q, x, source, to, lanes), to, lanes)


def _converted(q: Emit, x: ir.Value, source: np.dtype, to: np.dtype, lanes: int) -> ir.Value:
    """In the register type of a narrow float, which is left to round."""
    b = q.b
    source, to = np.dtype(source), np.dtype(to)
    a, z = register_type(source), register_type(to)
    out = q.vector(z, lanes)
    source_float, to_float = is_float(source), is_float(to)
    if to == np.bool_:
        if source == np.bool_:
            return x
        zero = q.const(0, a, lanes)
        return b.fcmp_unordered("!=", x, zero) if source_float else b.icmp_unsigned("!=", x, zero)
    if source_float and to_float:
        if a == z:
            return x
        if z == F64:
            return b.fpext(x, out)
        return _to_odd(q, x, lanes) if is_narrow(to) else b.fptrunc(x, out)
    if source_float:
        return _whole(q, x, a, to, lanes)
    if to_float:
        return b.sitofp(x, out) if is_signed(source) else b.uitofp(x, out)
    if a.width == z.width:
        return x
    if a.width > z.width:
        return b.trunc(x, out)
    return b.sext(x, out) if is_signed(source) else b.zext(x, out)


def _is_small(e: Expr) -> bool:
    """Is a cast one of float32 to an integer of 8 or 16 bits, between two numbers that are int32s?"""
    (x,) = e.args
    if x.dtype != np.float32 or not is_integer(e.dtype) or e.dtype.itemsize > 2 or BY_NAME[e.dtype.name].bits < 8:
        return False
    found = clipped(x)
    return found is not None and all(abs(n) < 2**31 for n in found[1:])


def _small(q: Emit, x: ir.Value, to: np.dtype, lanes: int) -> ir.Value:
    """By way of int32: NaN, the one number that is none, has zeros in the lower half there as x86 converts it, or is 0."""
    return q.b.trunc(q.b.fptosi(x, q.vector(I32, lanes)), q.vector(register_type(to), lanes))


def _to_odd(q: Emit, x: ir.Value, lanes: int) -> ir.Value:
    """A float64 as float32; where that is not exact, of the two neighbours the one with an odd last place. So rounding it again
    is rounding once (Boldo and Melquiond, Emulation of FMA and correctly rounded sums, IEEE Transactions on Computers 2008)."""
    b, word = q.b, q.vector(I32, lanes)
    near = b.fptrunc(x, q.vector(F32, lanes))
    wide, bits = b.fpext(near, x.type), b.bitcast(near, word)
    inexact = b.zext(b.fcmp_ordered("!=", wide, x), word)
    beyond = b.zext(b.fcmp_ordered(">", q.intrinsic("fabs", wide), q.intrinsic("fabs", x)), word)
    return b.bitcast(b.or_(b.sub(bits, beyond), inexact), q.vector(F32, lanes))


def _whole(q: Emit, x: ir.Value, kind: ir.Type, to: np.dtype, lanes: int) -> ir.Value:
    """Floats of a kind as integers, as `convert` says. A vector of numbers that are all int32s, as most are, needs no int64."""
    if lanes == 1:
        return _wide(q, x, kind, to, lanes)
    b, out = q.b, q.vector(register_type(to), lanes)
    small = b.fcmp_ordered("<", q.intrinsic("fabs", x), q.const(2.0**31, kind, lanes))
    every = b.icmp_unsigned("==", b.bitcast(small, ir.IntType(lanes)), ir.Constant(ir.IntType(lanes), -1))
    with b.if_else(every, likely=True) as (then, otherwise):
        with then:
            words = b.fptosi(x, q.vector(I32, lanes))
            quick = b.sext(words, out) if to.itemsize > 4 else b.trunc(words, out) if to.itemsize < 4 else words
            of_quick = b.block
        with otherwise:
            slow, of_slow = _wide(q, x, kind, to, lanes), b.block
    result = b.phi(out)
    result.add_incoming(quick, of_quick)
    result.add_incoming(slow, of_slow)
    return result


def _wide(q: Emit, x: ir.Value, kind: ir.Type, to: np.dtype, lanes: int) -> ir.Value:
    """By way of int64."""
    whole = q.whole(x, lanes)
    if to == np.uint64:
        large = q.whole(x, lanes, signed=False)
        return q.b.select(q.b.fcmp_ordered(">=", x, q.const(2.0**63, kind, lanes)), large, whole)
    return whole if to.itemsize == 8 else q.b.trunc(whole, q.vector(register_type(to), lanes))


def round_half(q: Emit, x: ir.Value, to: np.dtype, lanes: int) -> ir.Value:
    """A float32 rounded to the precision of `to` (a cast to float16 must lose bits even when computing in float32)."""
    if not is_narrow(to):
        return x
    slot = q.variable(q.vector(memory_type(to), lanes))
    pointer = q.b.bitcast(slot, q.b.bitcast(slot, ir.IntType(8).as_pointer()).type)
    q.store(x, pointer, to, lanes)
    return q.load(pointer, to, lanes)
