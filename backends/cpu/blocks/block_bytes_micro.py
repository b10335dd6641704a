"""Products of rows rounded to bytes with weights of 4 or 8 bits, summed in int32 within each block."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.blocks.block_product_block import (
    BLOCK_PRODUCT,
    COLUMNS,
    ITEM,
    ROUND_ROWS,
    STEPS,
    WORD,
    ByteColumns,
    RoundTile,
    record,
)
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.llvm.emit import F32, I8, I32, I64, PTR, Emit, define, i64

BLOCKS, Y_ROW = BLOCK_PRODUCT["blocks y_row"]
ROUND_BLOCKS, ZERO, A_ROW = ROUND_ROWS["blocks zero a_row"]
UNROLL = 4


@micro(RoundTile)
def round_tile(module: ir.Module, symbol: str, target: Target, rows: int, size: int, shifts: bool) -> None:
    """void(block, a, to): rows of floats as records. What the sum of a row takes away is - (sum of its bytes) · zero, an int32, which
    the sums of products begin with, or with shifts - (sum of its bytes) · step, a float32."""
    fn, q = define(module, symbol, [PTR, I64, I64])
    block, a, to = fn.args[0], q.pointer(fn.args[1]), q.pointer(fn.args[2])
    b, vl = q.b, COLUMNS
    blocks, zero, a_row = (q.slot(block, i) for i in (ROUND_BLOCKS, ZERO, A_ROW))
    words, parts = q.vector(I32, vl), size // vl
    with q.loop(blocks) as number:
        at, numbers = q.offset(to, b.mul(number, i64(record(rows, size)))), rows * size
        for r in range(rows):
            x = q.offset(q.offset(a, b.mul(a_row, i64(r))), b.mul(number, i64(size * ITEM)))
            values = [q.load_raw(q.offset(x, p * vl * ITEM), F32, vl) for p in range(parts)]
            bits = [b.and_(b.bitcast(v, words), q.const(0x7FFFFFFF, I32, vl)) for v in values]
            most = bits[0]  # of bits as of magnitudes, but NaN is above all
            for other in bits[1:]:
                most = q.intrinsic("smax", most, other)
            largest = b.bitcast(q.intrinsic("vector.reduce.smax", most, returns=I32), F32)
            step = b.fdiv(largest, ir.Constant(F32, STEPS))
            nothing = b.fcmp_ordered("==", step, ir.Constant(F32, 0.0))
            divisor = q.splat(b.select(nothing, ir.Constant(F32, 1.0), step), vl)
            ones, total = q.const(0x01010101, I32, vl // WORD), q.const(0, I32, vl // WORD)
            for p, v in enumerate(values):
                whole = b.trunc(_nearest(q, b.fdiv(v, divisor)), q.vector(I8, vl))
                four = b.bitcast(whole, total.type)
                total = q.call("llvm.x86.avx512.vpdpbusd.128", total.type, total, ones, four)
                for i in range(vl // WORD):
                    place = ((p * vl // WORD + i) * rows + r) * WORD
                    q.store_raw(b.extract_element(four, ir.Constant(I32, i)), q.offset(at, place))
            total = q.intrinsic("vector.reduce.add", total, returns=I32)
            q.store_raw(step, q.offset(at, numbers + r * ITEM))
            if shifts:
                less = b.fneg(b.fmul(b.sitofp(total, F32), step))
            else:
                less = b.neg(b.mul(total, b.trunc(zero, I32)))
            q.store_raw(less, q.offset(at, numbers + (rows + r) * ITEM))
    b.ret_void()


def _nearest(q: Emit, x: ir.Value) -> ir.Value:
    """The nearest int32, the even one of two; the least one of NaN, whose last byte is 0."""
    words, every, as_set = q.vector(I32, COLUMNS), ir.Constant(ir.IntType(16), -1), ir.Constant(I32, 4)
    return q.call("llvm.x86.avx512.mask.cvtps2dq.512", words, x, q.const(0, I32, COLUMNS), every, as_set)


@micro(ByteColumns)
def block_byte_columns(
    module: ir.Module, symbol: str, target: Target, rows: int, bits: int, steps: int, shifts: bool
) -> None:
    """void(block, a, w, s, y): y[rows][16] = sum over blocks of (sum of a q) · step · scale, less what zero points take away."""
    fn, q = define(module, symbol, [PTR, I64, I64, I64, I64])
    block, *addresses = fn.args
    a, w, s, y = (q.pointer(p) for p in addresses)
    b, vl = q.b, COLUMNS
    blocks, y_row = (q.slot(block, i) for i in (BLOCKS, Y_ROW))
    floats, words = q.vector(F32, vl), q.vector(I32, vl)
    size, halves = steps * WORD * 8 // bits, 8 // bits
    chains = 2 if rows <= 2 else 1  # sums that do not wait for each other
    sums = [[q.variable(words) for _ in range(chains)] for _ in range(rows)]
    totals = [q.variable(floats) for _ in range(rows)]
    for slot in totals:
        b.store(q.const(0.0, F32, vl), slot)

    def splat(at: ir.Value, kind: ir.Type) -> ir.Value:
        return q.splat(q.load_raw(at, kind, 1), vl)

    def step(x: ir.Value, here: ir.Value, number: int) -> None:
        word = q.load_raw(q.offset(here, number * COLUMNS * WORD), I32, vl)
        mask = q.const(0x0F0F0F0F, I32, vl)
        codes = [word] if bits == 8 else [b.and_(word, mask), b.and_(b.lshr(word, q.const(4, I32, vl)), mask)]
        for i, code in enumerate(codes):
            for r in range(rows):
                slot = sums[r][(number * halves + i) % chains]
                spread = splat(q.offset(x, ((number * halves + i) * rows + r) * WORD), I32)
                b.store(q.call("llvm.x86.avx512.vpdpbusd.512", words, b.load(slot), code, spread), slot)

    together = next(n for n in range(min(steps, UNROLL), 0, -1) if steps % n == 0)
    with q.loop(blocks) as number:
        here = q.offset(a, b.mul(number, i64(record(rows, size))))
        weights = q.offset(w, b.mul(number, i64(steps * COLUMNS * WORD)))
        scales = q.offset(s, b.mul(number, i64((1 + shifts) * COLUMNS * ITEM)))
        numbers = q.offset(here, rows * size)
        for r, slots in enumerate(sums):
            for i, slot in enumerate(slots):
                fresh = shifts or i > 0
                b.store(q.const(0, I32, vl) if fresh else splat(q.offset(numbers, (rows + r) * ITEM), I32), slot)
        with q.loop(i64(steps // together)) as at:
            x = q.offset(here, b.mul(at, i64(together * halves * rows * WORD)))
            first = q.offset(weights, b.mul(at, i64(together * COLUMNS * WORD)))
            for i in range(together):
                step(x, first, i)
        scale = q.load_raw(scales, F32, vl)
        shift = q.load_raw(q.offset(scales, COLUMNS * ITEM), F32, vl) if shifts else None
        for r in range(rows):
            found = b.load(sums[r][0])
            for other in sums[r][1:]:
                found = b.add(found, b.load(other))
            factor = b.fmul(scale, splat(q.offset(numbers, r * ITEM), F32))
            total = q.fma(b.sitofp(found, floats), factor, b.load(totals[r]))
            if shift is not None:
                total = q.fma(splat(q.offset(numbers, (rows + r) * ITEM), F32), shift, total)
            b.store(total, totals[r])
    for r in range(rows):
        q.store_raw(b.load(totals[r]), q.offset(y, b.mul(y_row, i64(r))))
    b.ret_void()
