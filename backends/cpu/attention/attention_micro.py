"""The softmax between the two products of attention, on a tile of rows that lies in the first-level cache."""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from graphc.backends.cpu.attention.attention_block import SOFTMAX_TILE, TILE_ROW, SoftmaxTile
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.product.pairs_micro import rounded
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import PAIRS
from graphc.backends.cpu.verbs.passes_micro import horizontal
from graphc.backends.llvm import vmath
from graphc.backends.llvm.emit import F32, I32, I64, PTR, Emit, define, i64

KEYS, SCALE, SOFTCAP, ROWS = SOFTMAX_TILE["keys scale softcap rows"]
MASK, FIRST, SEEN = TILE_ROW["mask first seen"]


@micro(SoftmaxTile)
def softmax_tile(
    module: ir.Module,
    symbol: str,
    target: Target,
    rows: int,
    mask: str,
    zeros: bool,
    windowed: bool,
    capped: bool,
    pairs: bool,
) -> None:
    """void(block, scores): softmax(scores · SCALE + mask) along the keys, in place.

    scores: [KEYS / vl][rows][vl], whose lanes behind the last key become 0. mask: '' for none, 'v' for one number per key, 's'
    for one number per row. zeros: a row of -inf becomes zeros instead of NaN. windowed: a row sees SEEN keys from FIRST on.
    capped: scores · SCALE become their tanh, times SOFTCAP, before the mask is added. pairs: results are pairs of bfloat16,
    [KEYS / 2 vl][rows][vl].
    """
    fn, q = define(module, symbol, [PTR, I64])
    block, scores = fn.args
    b, vl = q.b, target.vl
    vector, pitch = target.vector, rows * target.vector
    keys = q.slot(block, KEYS)
    whole = b.sdiv(keys, i64(vl))
    left = b.sub(keys, b.mul(whole, i64(vl)))
    partial = b.icmp_signed(">", left, i64(0))
    blocks = b.add(whole, b.zext(partial, I64))
    lanes = q.lane_mask(left, vl)
    scale = q.splat(q.slot_f32(block, SCALE), vl)
    lowest, nothing = q.const(float("-inf"), F32, vl), q.const(0.0, F32, vl)
    largest, total = q.variable(lowest.type), q.variable(lowest.type)
    cap = q.splat(q.slot_f32(block, SOFTCAP), vl) if capped else None
    table = q.pointer(q.slot(block, ROWS))
    numbers = ir.Constant(ir.VectorType(I32, vl), list(range(vl)))

    with q.loop(i64(rows)) as m:
        row = q.pointer(b.add(scores, b.mul(m, i64(vector))))
        record = q.offset(table, b.mul(m, i64(8 * TILE_ROW.size)))
        masks = q.pointer(q.slot(record, MASK)) if mask else None
        single = q.splat(q.load_raw(masks, F32, 1), vl) if mask == "s" else None
        first_seen, seen = (b.trunc(q.slot(record, i), I32) for i in (FIRST, SEEN))
        count = q.splat(seen, vl)

        def at(i: ir.Value) -> ir.Value:
            return q.offset(row, b.mul(i, i64(pitch)))

        def scaled(i: ir.Value, part: ir.Value | None) -> ir.Value:
            x = b.fmul(q.load_raw(at(i), F32, vl), scale)
            if cap is not None:
                x = b.fmul(vmath.tanh(q, x, vl), cap)
            if mask == "v":
                where = q.offset(masks, b.mul(i, i64(vector)))
                x = b.fadd(x, q.load_raw(where, F32, vl) if part is None else q.masked_load(where, F32, part))
            elif mask == "s":
                x = b.fadd(x, single)
            return x if part is None else b.select(part, x, lowest)

        def first(i: ir.Value, part: ir.Value | None) -> None:
            x = scaled(i, part)
            q.store_raw(x, at(i))
            b.store(_larger(q, x, b.load(largest)), largest)

        def visible(i: ir.Value) -> ir.Value:
            """Which lanes of block i the row sees: those that are less than `seen` behind its first."""
            start = b.sub(b.mul(b.trunc(i, I32), ir.Constant(I32, vl)), first_seen)
            return b.icmp_unsigned("<", b.add(numbers, q.splat(start, vl)), count)

        b.store(lowest, largest)
        if windowed:
            with q.loop(blocks) as i:
                first(i, visible(i))
        else:
            with q.loop(whole) as i:
                first(i, None)
            with b.if_then(partial):
                first(whole, lanes)
        top = horizontal_max(q, b.load(largest), vl)
        if zeros:
            top = b.select(b.fcmp_ordered("==", top, q.const(float("-inf"), F32, 1)), q.const(0.0, F32, 1), top)
        top = q.splat(top, vl)

        b.store(nothing, total)
        with q.loop(blocks) as i:
            power = _exp_of_negative(q, b.fsub(q.load_raw(at(i), F32, vl), top), vl)
            q.store_raw(power, at(i))
            b.store(b.fadd(b.load(total), power), total)
        one = q.const(1.0, F32, 1)
        summed = horizontal(q, "add", np.dtype(np.float32), b.load(total), vl)
        inverse = b.fdiv(one, summed)
        if zeros:
            inverse = b.select(b.fcmp_ordered("==", summed, q.const(0.0, F32, 1)), q.const(0.0, F32, 1), inverse)
        inverse = q.splat(inverse, vl)
        if pairs:  # a block's place has been read by then
            with q.loop(blocks, step=PAIRS.k) as i:
                there = b.select(b.icmp_signed("<", b.add(i, i64(1)), blocks), i64(vl), i64(0))
                second = q.masked_load(at(b.add(i, i64(1))), F32, q.lane_mask(there, vl))
                halves = [b.fmul(x, inverse) for x in (q.load_raw(at(i), F32, vl), second)]
                q.store_raw(rounded(q, target, *halves), at(b.sdiv(i, i64(PAIRS.k))))
        else:
            with q.loop(blocks) as i:
                q.store_raw(b.fmul(q.load_raw(at(i), F32, vl), inverse), at(i))
    b.ret_void()


def _larger(q: Emit, x: ir.Value, y: ir.Value) -> ir.Value:
    """One instruction; a NaN in x is lost here and comes back through the exponential."""
    return q.b.select(q.b.fcmp_ordered(">", x, y), x, y)


def _exp_of_negative(q: Emit, x: ir.Value, lanes: int) -> ir.Value:
    """e**x for x <= 0; 0 below -87.33, where the result would be subnormal (and slow). NaN stays."""
    b = q.b
    small = b.fcmp_ordered("<", x, q.const(-87.33, F32, lanes))
    power = vmath.exp_bounded(q, b.select(small, q.const(0.0, F32, lanes), x), lanes)
    power = b.select(b.fcmp_unordered("uno", x, x), x, power)
    return b.select(small, q.const(0.0, F32, lanes), power)


def horizontal_max(q: Emit, x: ir.Value, lanes: int) -> ir.Value:
    """The largest lane."""
    b = q.b
    while lanes > 1:
        lanes //= 2
        undef = ir.Constant(x.type, ir.Undefined)
        if lanes == 1:
            low, high = (b.extract_element(x, ir.Constant(I32, i)) for i in (0, 1))
        else:
            low, high = (
                b.shuffle_vector(x, undef, ir.Constant(ir.VectorType(I32, lanes), list(range(start, start + lanes))))
                for start in (0, lanes)
            )
        x = _larger(q, low, high)
    return x
