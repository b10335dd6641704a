"""Sums of products with weights of 4 or 8 bits, which become floats in registers."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.blocks.block_product_block import BLOCK_PRODUCT, COLUMNS, ITEM, WORD, BlockColumns
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.llvm.emit import F32, I32, I64, PTR, define, i64

BLOCKS, ZERO, Y_ROW = BLOCK_PRODUCT["blocks zero y_row"]

CHAINS = 4  # sums that are under way at once, so that none waits for itself


@micro(BlockColumns)
def block_columns(
    module: ir.Module, symbol: str, target: Target, rows: int, bits: int, steps: int, shifts: bool
) -> None:
    """void(block, a, w, s, y): y[rows][16] = sum over blocks of (sum of a q) · scale - (sum of a) · shift, or of (sum of
    a q - (sum of a) · zero) · scale.

    a: [k][rows].
    """
    fn, q = define(module, symbol, [PTR, I64, I64, I64, I64])
    block, *addresses = fn.args
    a, w, s, y = (q.pointer(p) for p in addresses)
    b, vl = q.b, min(target.vl, COLUMNS)
    parts = COLUMNS // vl
    per_step = 8 * WORD // bits  # rows of weights
    blocks, y_row = q.slot(block, BLOCKS), q.slot(block, Y_ROW)
    zero = b.sitofp(q.slot(block, ZERO), F32)
    nothing = q.const(0.0, F32, vl)
    chains = max(1, CHAINS // (rows * parts))  # sums that do not wait for each other
    sums = [[[q.variable(nothing.type) for _ in range(chains)] for _ in range(parts)] for _ in range(rows)]
    totals = [[q.variable(nothing.type) for _ in range(parts)] for _ in range(rows)]
    plain = q.variable(q.vector(F32, per_step * rows))
    for slot in (t for row in totals for t in row):
        b.store(nothing, slot)

    def step(number: ir.Value) -> None:
        here = q.offset(w, b.mul(number, i64(COLUMNS * WORD)))
        x = q.offset(a, b.mul(number, i64(ITEM * per_step * rows)))
        b.store(b.fadd(b.load(plain), q.load_raw(x, F32, per_step * rows)), plain)
        raw = [q.load_raw(q.offset(here, p * vl * WORD), I32, vl) for p in range(parts)]
        for i in range(per_step):
            spread = [q.splat(q.load_raw(q.offset(x, ITEM * (i * rows + r)), F32, 1), vl) for r in range(rows)]
            byte, half = i % WORD, i // WORD  # of a word; the lower halves of its bytes come first
            for p, word in enumerate(raw):
                code = b.lshr(word, q.const(8 * byte + 4 * half, I32, vl)) if i else word
                code = b.and_(code, q.const(2**bits - 1, I32, vl))
                weight = b.sitofp(code, q.vector(F32, vl))
                for r in range(rows):
                    slot = sums[r][p][i % chains]
                    b.store(q.fma(spread[r], weight, b.load(slot)), slot)

    def row_sums() -> ir.Value:
        """Of a, [rows]."""
        total, lanes = b.load(plain), per_step * rows
        while lanes > rows:
            lanes //= 2
            halves = (ir.Constant(ir.VectorType(I32, lanes), list(range(at, at + lanes))) for at in (0, lanes))
            low, high = (b.shuffle_vector(total, total, half) for half in halves)
            total = b.fadd(low, high)
        return total

    with q.loop(blocks) as number:
        for slot in (c for row in sums for part in row for c in part):
            b.store(nothing, slot)
        b.store(q.const(0.0, F32, per_step * rows), plain)
        first = b.mul(number, i64(steps))
        with q.loop(i64(steps)) as at:
            step(b.add(first, at))
        less = b.fneg(row_sums())
        less = [q.splat(b.extract_element(less, ir.Constant(I32, r)), vl) for r in range(rows)]
        scales = q.offset(s, b.mul(number, i64((1 + shifts) * COLUMNS * ITEM)))
        for p in range(parts):
            at = q.offset(scales, p * vl * ITEM)
            scale = q.load_raw(at, F32, vl)
            for r in range(rows):
                found = b.load(sums[r][p][0])
                for other in sums[r][p][1:]:
                    found = b.fadd(found, b.load(other))
                total = b.load(totals[r][p])
                if shifts:
                    total = q.fma(less[r], q.load_raw(q.offset(at, COLUMNS * ITEM), F32, vl), total)
                else:
                    found = q.fma(less[r], q.splat(zero, vl), found)
                b.store(q.fma(found, scale, total), totals[r][p])
    for r in range(rows):
        to = q.offset(y, b.mul(y_row, i64(r)))
        for p in range(parts):
            q.store_raw(b.load(totals[r][p]), q.offset(to, p * vl * ITEM))
    b.ret_void()
