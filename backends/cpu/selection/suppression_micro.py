"""Scores as numbers to sort, and a box against those that were chosen."""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.selection.masks_micro import bits_of, count_of, each_set
from graphc.backends.cpu.selection.suppression_block import KeepBox, PassingScores
from graphc.backends.cpu.target import Target
from graphc.backends.llvm.boxes import BOX_NUMBERS, CORNERS, has_area, overlap
from graphc.backends.llvm.boxes import box as box_of
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
    own = box_of(q, [q.load_raw(q.offset(q.pointer(box), 4 * i), F32, 1) for i in range(CORNERS)], center)
    arrays = [q.pointer(b.add(chosen, b.mul(array, i64(k)))) for k in range(BOX_NUMBERS)]
    q.store_raw(i64(0), q.pointer(kept))

    with b.if_then(has_area(q, own)):
        wide, limit = [q.splat(v, lanes) for v in own], q.splat(q.load_raw(q.pointer(iou), F32, 1), lanes)
        with q.loop(count, step=lanes) as i:
            others = [q.load_raw(q.offset(p, b.mul(i, i64(4))), F32, lanes) for p in arrays]
            with q.nonzero(bits_of(q, overlap(q, wide, others, limit, lanes), lanes)):
                b.ret_void()
    place = b.mul(count, i64(4))
    with b.if_then(b.icmp_signed("==", b.and_(count, i64(lanes - 1)), i64(0))):  # a new vector: of no area so far
        q.store_raw(q.const(0, F32, lanes), q.offset(arrays[CORNERS], place))
    for value, p in zip(own, arrays):
        q.store_raw(value, q.offset(p, place))
    q.store_raw(i64(1), q.pointer(kept))
    b.ret_void()
