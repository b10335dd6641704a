"""Scores as numbers to sort, and a box against those that were chosen."""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.selection.masks_micro import bits_of, count_of, each_set
from graphc.backends.cpu.selection.suppression_block import KeepBox, PassingScores
from graphc.backends.cpu.target import Target
from graphc.backends.llvm.emit import F32, I32, I64, Emit, define, i64

SCORES = 16  # of a cache line
SELECTED_AT = 0xFFFFFFFF  # a box's number, from here downwards, in the low half of a candidate


@micro(PassingScores, unroll=False)
def passing_scores(module: ir.Module, symbol: str, target: Target) -> None:
    """void(n, scores, threshold or 0, candidates, count): int64 candidates, of which a larger one comes first: the score's
    order in the high half, the box's number (counted down, for the first of equals wins) in the low one. NaN comes last."""
    fn, q = define(module, symbol, [I64] * 5)
    n, scores, threshold, candidates, count = fn.args
    b = q.b
    all_pass = b.icmp_signed("==", threshold, i64(0))
    least, found = q.variable(F32), q.variable(I64)
    b.store(ir.Constant(F32, 0.0), least)
    b.store(i64(0), found)
    with q.nonzero(threshold):
        b.store(q.load_raw(q.pointer(threshold), F32, 1), least)

    def line(i: ir.Value, lanes: int) -> None:
        x = q.load_raw(q.offset(q.pointer(scores), b.mul(i, i64(4))), F32, lanes)
        above = b.fcmp_ordered(">", x, q.splat(b.load(least), lanes))
        bits = bits_of(q, b.or_(above, q.splat(all_pass, lanes)), lanes)
        with q.nonzero(bits):
            passed, at = count_of(q, bits), b.load(found)
            with each_set(q, bits, passed) as (turn, lane):
                box = b.add(i, lane)
                score = q.load_raw(q.offset(q.pointer(scores), b.mul(box, i64(4))), F32, 1)
                high = b.shl(b.zext(_order(q, score), I64), i64(32))
                candidate = b.or_(high, b.sub(i64(SELECTED_AT), box))
                q.store_raw(candidate, q.offset(q.pointer(candidates), b.mul(b.add(at, turn), i64(8))))
            b.store(b.add(at, passed), found)

    whole = b.and_(n, i64(-SCORES))
    with q.loop(whole, step=SCORES) as i:
        line(i, SCORES)
    with q.loop(n, start=whole) as i:
        line(i, 1)
    q.store_raw(b.load(found), q.pointer(count))
    b.ret_void()


def _order(q: Emit, x: ir.Value) -> ir.Value:
    """int32 that are ordered as the float32 are; -0 equals 0, NaN is below all."""
    b, zero = q.b, ir.Constant(F32, 0.0)
    bits = b.bitcast(b.select(b.fcmp_ordered("==", x, zero), zero, x), I32)
    lowest = ir.Constant(I32, np.iinfo(np.int32).min)
    flipped = b.xor(bits, ir.Constant(I32, np.iinfo(np.int32).max))
    ordered = b.select(b.icmp_signed("<", bits, ir.Constant(I32, 0)), flipped, bits)
    return b.select(b.fcmp_unordered("uno", x, x), lowest, ordered)


@micro(KeepBox, unroll=False)
def keep_box(module: ir.Module, symbol: str, target: Target, center: bool) -> None:
    """void(box, chosen, array, count, iou, kept): does the box overlap none of `count` chosen ones by more than `iou`? Then
    it becomes the next one of them, and kept (int64) is 1.

    chosen: arrays of float32, `array` bytes apart: lower corners (2), higher corners (2), areas; as long as whole vectors. A
    box without an area, or with a NaN, overlaps none.
    """
    fn, q = define(module, symbol, [I64] * 6)
    box, chosen, array, count, iou, kept = fn.args
    b, lanes = q.b, target.vl
    zero = q.const(0, F32, lanes)
    own = _corners(q, q.pointer(box), center)
    low, high = own[:2], own[2:]
    area = b.fmul(b.fsub(high[0], low[0]), b.fsub(high[1], low[1]))
    if not center:  # minimum and maximum may have dropped a NaN
        nan = b.or_(b.fcmp_unordered("uno", low[0], high[0]), b.fcmp_unordered("uno", low[1], high[1]))
        area = b.select(nan, ir.Constant(F32, float("nan")), area)
    arrays = [q.pointer(b.add(chosen, b.mul(array, i64(k)))) for k in range(5)]
    q.store_raw(i64(0), q.pointer(kept))

    has_area = b.fcmp_ordered(">", area, ir.Constant(F32, 0.0))
    with b.if_then(has_area):
        wide = [q.splat(v, lanes) for v in own]
        wide_area, limit = q.splat(area, lanes), q.splat(q.load_raw(q.pointer(iou), F32, 1), lanes)
        with q.loop(count, step=lanes) as i:
            *corners, areas = (q.load_raw(q.offset(p, b.mul(i, i64(4))), F32, lanes) for p in arrays)
            extents = []
            for d in range(2):
                above, below = _larger(q, wide[d], corners[d]), _smaller(q, wide[2 + d], corners[2 + d])
                extents.append(_larger(q, b.fsub(below, above), zero))
            common = b.fmul(*extents)
            union = b.fsub(b.fadd(areas, wide_area), common)
            hit = b.fcmp_ordered(">", b.fdiv(common, union), limit)
            for positive in (common, areas, union):
                hit = b.and_(hit, b.fcmp_ordered(">", positive, zero))
            with q.nonzero(bits_of(q, hit, lanes)):
                b.ret_void()
    place = b.mul(count, i64(4))
    with b.if_then(b.icmp_signed("==", b.and_(count, i64(lanes - 1)), i64(0))):  # a new vector: of no area so far
        q.store_raw(zero, q.offset(arrays[4], place))
    for value, p in zip((*own, area), arrays):
        q.store_raw(value, q.offset(p, place))
    q.store_raw(i64(1), q.pointer(kept))
    b.ret_void()


def _corners(q: Emit, box: ir.Value, center: bool) -> list[ir.Value]:
    """Lower and higher corner of a box, given as two corners or as center and size."""
    b = q.b
    first, second = ([q.load_raw(q.offset(box, 4 * i), F32, 1) for i in pair] for pair in ((0, 1), (2, 3)))
    if center:
        halves = [b.fdiv(size, ir.Constant(F32, 2.0)) for size in second]
        return [*map(b.fsub, first, halves), *map(b.fadd, first, halves)]
    return [*(_smaller(q, *pair) for pair in zip(first, second)), *(_larger(q, *pair) for pair in zip(first, second))]


def _smaller(q: Emit, x: ir.Value, y: ir.Value) -> ir.Value:
    """y where either is NaN."""
    return q.b.select(q.b.fcmp_ordered("<", x, y), x, y)


def _larger(q: Emit, x: ir.Value, y: ir.Value) -> ir.Value:
    """y where either is NaN."""
    return q.b.select(q.b.fcmp_ordered(">", x, y), x, y)
