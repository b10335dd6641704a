"""Pools: an element of the result per thread."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from llvmlite import ir
from numba.cuda.types import boolean, int32, int64, uint32

from graphc.backends.cuda.codegen.device import device, load, register, store, word
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.guarded import divide
from graphc.backends.cuda.codegen.threads import thread_number
from graphc.backends.cuda.conv.conv_kernels import image_place_in
from graphc.backends.cuda.conv.runs_kernels import each, filled, finish_run, load_run
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.lower.epilogue import summed
from graphc.backends.cuda.pool.pool_block import POOL, Pool
from graphc.backends.llvm.emit import I64, i64
from graphc.expr import Expr
from graphc.types import dtype_from_name


def _within(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
    b, (first, count, step, low, high) = q.b, a
    found = q.variable(I64)
    b.store(i64(0), found)
    with q.loop(count) as i:
        at = b.add(first, b.mul(i, step))
        inside = b.and_(b.icmp_signed(">=", at, low), b.icmp_signed("<", at, high))
        b.store(b.add(b.load(found, typ=I64), b.zext(inside, I64)), found)
    return b.load(found, typ=I64)


# within(first, count, step, low, high): how many of the positions first, first + step, … lie in [low, high)
within = device(_within, int64, *[int64] * 5)


def _larger(q: CudaEmit, total: ir.Value, x: ir.Value, unsigned: bool) -> ir.Value:
    """Does x come in the place of the total? NaN does, and stays."""
    if isinstance(x.type, ir.IntType):
        return q.b.icmp_unsigned(">", x, total) if unsigned else q.b.icmp_signed(">", x, total)
    return q.b.and_(q.b.fcmp_unordered(">", x, total), q.b.fcmp_ordered("ord", total, total))


def _sum(q: CudaEmit, total: ir.Value, x: ir.Value, _: ir.Value) -> ir.Value:
    return q.b.fadd(total, x)


def _power_sum(q: CudaEmit, total: ir.Value, x: ir.Value, power: ir.Value) -> ir.Value:
    b, size = q.b, q.intrinsic("fabs", x)
    product = q.variable(x.type)
    b.store(size, product)
    with q.loop(b.sub(power, i64(1))):
        b.store(b.fmul(b.load(product, typ=x.type), size), product)
    return b.fadd(total, b.load(product, typ=x.type))


def _lowest(dtype: str) -> float:
    kind = dtype_from_name(dtype)
    return int(np.iinfo(kind).min) if kind.kind in "iu" else -math.inf


@makes(Pool)
def pool(
    op: str,
    dtype: str,
    indices: bool,
    deep: bool,
    run: int,
    wide: tuple[bool, ...],
    expression: Expr,
    operands: tuple[str, ...],
) -> Code:
    kind = register(summed(dtype_from_name(dtype)))
    TOTAL, CHANNELS, PIXELS, POWER, INDICES, PLANE = POOL["total channels pixels power indices plane"]
    X, X_N, X_C, X_D, X_H, X_W = POOL["x x_n x_c x_d x_h x_w"]
    IN_D, IN_H, IN_W, OUT_H, OUT_W = POOL["in_d in_h in_w out_h out_w"]
    K_D, K_H, K_W, D_D, D_H, D_W = POOL["k_d k_h k_w d_d d_h d_w"]
    S_D, S_H, S_W, P_D, P_H, P_W = POOL["s_d s_h s_w p_d p_h p_w"]
    LOW_D, LOW_H, LOW_W, HIGH_D, HIGH_H, HIGH_W = POOL["low_d low_h low_w high_d high_h high_w"]
    STEP_D, STEP_H, STEP_W = POOL["step_d step_h step_w"]
    is_average, EACH = op == "average", max(run, 1)
    first = _lowest(dtype) if op == "max" else 0
    get, get_one, fill, put = load_run(dtype, EACH), load(dtype), filled(kind, EACH), store("int64")
    unsigned = dtype_from_name(dtype).kind == "u"

    def maximum(q: CudaEmit, total: ir.Value, x: ir.Value, _: ir.Value) -> ir.Value:
        return q.b.select(_larger(q, total, x, unsigned), x, total)

    combine = each({"max": maximum, "average": _sum, "power": _power_sum}[op], kind, EACH, 2, int64)
    divided = each(lambda q, x, n: q.b.fdiv(x, n), kind, EACH, 1, kind)
    larger = device(lambda q, a: _larger(q, *a, unsigned), boolean, kind, kind)
    place_of, keep = image_place_in(run), finish_run(POOL, kind, expression, operands, EACH, wide)

    def pool(a):
        i = thread_number(THREADS)
        if i < word(a, TOTAL):
            n, channel, c = place_of(i, word(a, CHANNELS), word(a, PIXELS))
            out_w, out_h = int32(word(a, OUT_W)), int32(word(a, OUT_H))
            line = divide(c, out_w)
            d = divide(line, out_h) if deep else int32(0)
            w = int32(c - line * out_w)
            h = int32(line - d * out_h)
            in_d, in_h, in_w = uint32(word(a, IN_D)), uint32(word(a, IN_H)), uint32(word(a, IN_W))
            k_d, k_h, k_w = int32(word(a, K_D)) if deep else int32(1), int32(word(a, K_H)), int32(word(a, K_W))
            d_d, d_h, d_w = int32(word(a, D_D)), int32(word(a, D_H)), int32(word(a, D_W))
            from_d = int32(d * word(a, S_D) - word(a, P_D)) if deep else int32(0)
            from_h = int32(h * word(a, S_H) - word(a, P_H))
            from_w = int32(w * word(a, S_W) - word(a, P_W))
            plane = word(a, X) + n * word(a, X_N) + channel * word(a, X_C)
            totals, best, where, power = fill(kind(first)), kind(first), int64(-1), word(a, POWER)
            for x in range(k_d):
                at_d = int32(from_d + x * d_d)
                for y in range(k_h):
                    at_h = int32(from_h + y * d_h)
                    if (uint32(at_d) < in_d) & (uint32(at_h) < in_h):
                        start = plane + at_d * word(a, X_D) + at_h * word(a, X_H)
                        for z in range(k_w):
                            at_w = int32(from_w + z * d_w)
                            if uint32(at_w) < in_w:
                                at = start + at_w * word(a, X_W)
                                if indices:
                                    v = get_one(at)
                                    if (where < 0) | larger(best, v):  # the first place in the image, whatever is there
                                        best = v
                                        where = at_d * word(a, STEP_D) + at_h * word(a, STEP_H) + at_w * word(a, STEP_W)
                                else:
                                    totals = combine(totals, get(at), power)
            if is_average:
                count = within(from_d, k_d, d_d, word(a, LOW_D), word(a, HIGH_D))
                count *= within(from_h, k_h, d_h, word(a, LOW_H), word(a, HIGH_H))
                count *= within(from_w, k_w, d_w, word(a, LOW_W), word(a, HIGH_W))
                totals = divided(totals, kind(count))
            if indices:
                totals = fill(best)
                put(word(a, INDICES) + 8 * i, where + (n * word(a, CHANNELS) + channel) * word(a, PLANE))
            keep(a, True, w, h, d, channel, 0, n, 0, 0, totals)

    return Code(pool, THREADS)
