"""Rows of channel-blocked values: response normalisation, interpolation, channels from other places."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.blocked.blocked_block import GatherLanes, LrnRow, MixPixels, MixRows, PermuteLanes
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.sizes import FLOAT_BYTES
from graphc.backends.cpu.target import Target
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import F32, I64, Emit, define, i64
from graphc.expr import Expr


@micro(LrnRow)
def lrn_row(module: ir.Module, symbol: str, target: Target, before: int, after: int, expression: Expr) -> None:
    """void(x, x of the block before, x of the block after, is there one before, channels from this block on, y, pixels).

    y = expression of arg 0 = x, arg 1 = sum of x² over `before` channels below to `after` above (each at most a block). What the lanes
    behind the last channel hold does not count.
    """
    fn, q = define(module, symbol, [I64] * 7)
    x, low, high, has_low, channels, y, pixels = fn.args
    b, vl = q.b, target.vl
    x, low, high, y = (q.pointer(p) for p in (x, low, high, y))
    vectors = b.mul(has_low, i64(vl))
    masks = [q.lane_mask(n, vl) for n in (vectors, channels, b.sub(channels, i64(vl)))]
    zero = q.const(0, F32, vl)
    with q.loop(pixels) as i:
        at = b.mul(i, i64(vl * FLOAT_BYTES))
        rows = [q.load_raw(q.offset(p, at), F32, vl) for p in (low, x, high)]
        below, own, above = (b.select(mask, b.fmul(v, v), zero) for mask, v in zip(masks, rows))
        total = own
        for k in range(1, before + 1):
            total = b.fadd(total, _lanes(q, below, own, [vl - k + j for j in range(vl)]))
        for k in range(1, after + 1):
            total = b.fadd(total, _lanes(q, own, above, [k + j for j in range(vl)]))
        q.store_raw(expr_code.emit(q, expression, [rows[1], total], vl), q.offset(y, at))
    b.ret_void()


def _lanes(q: Emit, a: ir.Value, b: ir.Value, numbers: list[int]) -> ir.Value:
    return q.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), numbers))


@micro(MixRows)
def mix_rows(module: ir.Module, symbol: str, target: Target, count: int) -> None:
    """void(table, y, vectors): y = the weighted sum of `count` rows; table: an address and the bits of a float32 for each."""
    fn, q = define(module, symbol, [I64] * 3)
    table, y, vectors = fn.args
    b, vl = q.b, target.vl
    table, y = q.pointer(table), q.pointer(y)
    rows = [q.pointer(q.slot(table, 2 * k)) for k in range(count)]
    weights = [q.splat(q.slot_f32(table, 2 * k + 1), vl) for k in range(count)]
    with q.loop(vectors) as i:
        at = b.mul(i, i64(vl * FLOAT_BYTES))
        total = b.fmul(q.load_raw(q.offset(rows[0], at), F32, vl), weights[0])
        for row, weight in zip(rows[1:], weights[1:]):
            total = q.fma(q.load_raw(q.offset(row, at), F32, vl), weight, total)
        q.store_raw(total, q.offset(y, at))
    b.ret_void()


@micro(MixPixels)
def mix_pixels(module: ir.Module, symbol: str, target: Target, taps: int) -> None:
    """void(x, offsets, weights, y, pixels): each pixel of y is a weighted sum of `taps` pixels of a row.

    offsets: int64 bytes [pixel][tap]; weights: float32 [pixel][tap].
    """
    fn, q = define(module, symbol, [I64] * 5)
    x, offsets, weights, y, pixels = fn.args
    b, vl = q.b, target.vl
    x, offsets, weights, y = (q.pointer(p) for p in (x, offsets, weights, y))
    with q.loop(pixels) as i:
        from_offset, from_weight = (
            q.offset(offsets, b.mul(i, i64(8 * taps))),
            q.offset(weights, b.mul(i, i64(FLOAT_BYTES * taps))),
        )
        total = None
        for t in range(taps):
            weight = q.splat(q.load_raw(q.offset(from_weight, FLOAT_BYTES * t), F32, 1), vl)
            v = q.load_raw(q.offset(x, q.slot(from_offset, t)), F32, vl)
            total = b.fmul(v, weight) if total is None else q.fma(v, weight, total)
        q.store_raw(total, q.offset(y, b.mul(i, i64(vl * FLOAT_BYTES))))
    b.ret_void()


@micro(GatherLanes)
def gather_lanes(module: ir.Module, symbol: str, target: Target) -> None:
    """void(addresses, lanes, y, pixels): lane j of each vector of y comes from addresses[j], a block further each pixel.

    Only the first `lanes` lanes have an address that means something; the others are zero.
    """
    fn, q = define(module, symbol, [I64] * 4)
    table, lanes, y, pixels = fn.args
    b, vl = q.b, target.vl
    table, y = q.pointer(table), q.pointer(y)
    kind = ir.VectorType(F32, vl)
    mask = q.lane_mask(lanes, vl)
    sources = [q.slot(table, j) for j in range(vl)]
    with q.loop(pixels) as i:
        at = b.mul(i, i64(vl * FLOAT_BYTES))
        v = ir.Constant(kind, ir.Undefined)
        for j, source in enumerate(sources):
            element = q.load_raw(q.pointer(b.add(source, at)), F32, 1)
            v = b.insert_element(v, element, ir.Constant(ir.IntType(32), j))
        q.store_raw(b.select(mask, v, ir.Constant(kind, None)), q.offset(y, at))
    b.ret_void()


@micro(PermuteLanes)
def permute_lanes(module: ir.Module, symbol: str, target: Target, count: int) -> None:
    """void(table, y, pixels): lane j of each vector of y is lane indices[k][j] of source k, of the last one whose index is
    not negative, or zero. table: for each of `count` sources its address and that of its int32 indices. x86 only."""
    fn, q = define(module, symbol, [I64] * 3)
    table, y, pixels = fn.args
    b, vl = q.b, target.vl
    table, y = q.pointer(table), q.pointer(y)
    i32, kind = ir.IntType(32), ir.VectorType(F32, vl)
    name = {8: "llvm.x86.avx2.permps", 16: "llvm.x86.avx512.permvar.sf.512"}[vl]
    sources = [q.pointer(q.slot(table, 2 * k)) for k in range(count)]
    indices = [q.load_raw(q.pointer(q.slot(table, 2 * k + 1)), i32, vl) for k in range(count)]
    taken = [b.icmp_signed(">=", v, q.const(0, i32, vl)) for v in indices]
    with q.loop(pixels) as i:
        at = b.mul(i, i64(vl * FLOAT_BYTES))
        v = ir.Constant(kind, None)
        for source, index, mask in zip(sources, indices, taken):
            v = b.select(mask, q.call(name, kind, q.load_raw(q.offset(source, at), F32, vl), index), v)
        q.store_raw(v, q.offset(y, at))
    b.ret_void()
