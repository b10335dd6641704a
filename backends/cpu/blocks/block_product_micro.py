"""Sums of products with weights of 4 or 8 bits, which become floats in registers."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.blocks.block_product_block import BLOCK_PRODUCT, COLUMNS, ITEM, BlockColumns
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.llvm.emit import F32, I8, I32, I64, PTR, define, i64

WHOLE, TAIL, Y_ROW, GROUPS, SCALE_GROUPS = BLOCK_PRODUCT["whole tail y_row groups scale_groups"]


@micro(BlockColumns)
def block_columns(
    module: ir.Module, symbol: str, target: Target, rows: int, groups: int, bits: int, steps: int
) -> None:
    """void(block, a, w, s, y): y[rows][groups · 16] = sum over blocks of (sum of a q) · scale - (sum of a) · shift.

    a: [k][rows].
    """
    fn, q = define(module, symbol, [PTR, I64, I64, I64, I64])
    block, *addresses = fn.args
    a, w, s, y = (q.pointer(p) for p in addresses)
    b, vl = q.b, min(target.vl, COLUMNS)
    parts = COLUMNS // vl
    per_step = 8 // bits  # rows of weights
    chains = per_step if rows == 1 else 1  # sums that do not wait for each other
    whole, tail, y_row, w_group, s_group = (q.slot(block, i) for i in (WHOLE, TAIL, Y_ROW, GROUPS, SCALE_GROUPS))
    zero, nothing = q.const(0.0, F32, 1), q.const(0.0, F32, vl)
    vectors = [(g, p) for g in range(groups) for p in range(parts)]
    sums = [[[q.variable(nothing.type) for _ in range(chains)] for _ in vectors] for _ in range(rows)]
    totals = [[q.variable(nothing.type) for _ in vectors] for _ in range(rows)]
    plain = [q.variable(F32) for _ in range(rows)]
    for slot in (t for row in totals for t in row):
        b.store(nothing, slot)

    def step(first: ir.Value, at: ir.Value) -> None:
        """Number `first + at` of the steps."""
        number = b.add(first, at)
        here = q.offset(w, b.mul(number, i64(COLUMNS)))
        x_at = q.offset(a, b.mul(number, i64(ITEM * per_step * rows)))
        x = [[q.load_raw(q.offset(x_at, ITEM * (i * rows + r)), F32, 1) for i in range(per_step)] for r in range(rows)]
        for r in range(rows):
            new = x[r][0] if per_step == 1 else b.fadd(*x[r])
            b.store(b.fadd(b.load(plain[r]), new), plain[r])
        wide = [[q.splat(v, vl) for v in row] for row in x]
        for v, (g, p) in enumerate(vectors):
            raw = q.load_raw(q.offset(q.offset(here, b.mul(w_group, i64(g))), p * vl), I8, vl)
            word = b.zext(raw, q.vector(I32, vl))
            codes = [word] if bits == 8 else [b.and_(word, q.const(15, I32, vl)), b.lshr(word, q.const(4, I32, vl))]
            for i, code in enumerate(codes):
                weight = b.sitofp(code, q.vector(F32, vl))
                for r in range(rows):
                    slot = sums[r][v][i % chains]
                    b.store(q.fma(wide[r][i], weight, b.load(slot)), slot)

    def one_block(number: ir.Value, count: ir.Value) -> None:
        for slot in (c for row in sums for v in row for c in v):
            b.store(nothing, slot)
        for slot in plain:
            b.store(zero, slot)
        first = b.mul(number, i64(steps))
        with q.loop(count) as at:
            step(first, at)
        scales = q.offset(s, b.mul(number, i64(2 * COLUMNS * ITEM)))
        for v, (g, p) in enumerate(vectors):
            at = q.offset(q.offset(scales, b.mul(s_group, i64(g))), p * vl * ITEM)
            scale, shift = (q.load_raw(q.offset(at, i * COLUMNS * ITEM), F32, vl) for i in (0, 1))
            for r in range(rows):
                found = b.load(sums[r][v][0])
                for other in sums[r][v][1:]:
                    found = b.fadd(found, b.load(other))
                total = q.fma(found, scale, b.load(totals[r][v]))
                less = q.splat(b.fneg(b.load(plain[r])), vl)
                b.store(q.fma(less, shift, total), totals[r][v])

    with q.loop(whole) as number:
        one_block(number, i64(steps))
    with q.nonzero(tail):
        one_block(whole, tail)
    for r in range(rows):
        to = q.offset(y, b.mul(y_row, i64(r)))
        for v, (g, p) in enumerate(vectors):
            q.store_raw(b.load(totals[r][v]), q.offset(to, (g * COLUMNS + p * vl) * ITEM))
    b.ret_void()
