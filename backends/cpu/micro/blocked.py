"""Rows of channel-blocked values: response normalisation, interpolation, channels from other places."""

from __future__ import annotations

from llvmlite import ir

from backends.cpu import scalar
from backends.cpu.ir import F32, I64, define, i64
from backends.cpu.target import Target
from backends.cpu.toolchain import micro
from graphc.expr import Expr


@micro("lrn_row")
def lrn_row(module: ir.Module, symbol: str, target: Target, before: int, after: int, e: Expr) -> None:
    """void(x, x of the block before, x of the block after, their step, y, pixels).

    y = e of arg 0 = x, arg 1 = sum of x² over `before` channels below to `after` above (each at most a block). The steps of
    the neighbours are bytes a pixel: 0 for a vector of zeros where there is no such block; low half: before, high: after.
    """
    fn, q = define(module, symbol, [I64] * 7)
    x, low, high, low_step, high_step, y, pixels = fn.args
    b, vl = q.b, target.vl
    x, low, high, y = (q.pointer(p) for p in (x, low, high, y))
    with q.loop(pixels) as i:
        at = b.mul(i, i64(vl * 4))
        v = q.load_raw(q.offset(x, at), F32, vl)
        squares = b.fmul(v, v)
        total = squares
        if before:
            below = q.load_raw(q.offset(low, b.mul(i, low_step)), F32, vl)
            below = b.fmul(below, below)
            for k in range(1, before + 1):
                total = b.fadd(total, _lanes(q, below, squares, [vl - k + j for j in range(vl)]))
        if after:
            above = q.load_raw(q.offset(high, b.mul(i, high_step)), F32, vl)
            above = b.fmul(above, above)
            for k in range(1, after + 1):
                total = b.fadd(total, _lanes(q, squares, above, [k + j for j in range(vl)]))
        q.store_raw(scalar.emit(q, e, [v, total], vl), q.offset(y, at))
    b.ret_void()


def _lanes(q, a: ir.Value, b: ir.Value, numbers: list[int]) -> ir.Value:
    return q.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), numbers))


@micro("mix_rows")
def mix_rows(module: ir.Module, symbol: str, target: Target, count: int) -> None:
    """void(table, y, vectors): y = the weighted sum of `count` rows; table: an address and the bits of a float32 for each."""
    fn, q = define(module, symbol, [I64] * 3)
    table, y, vectors = fn.args
    b, vl = q.b, target.vl
    table, y = q.pointer(table), q.pointer(y)
    rows = [q.pointer(q.slot(table, 2 * k)) for k in range(count)]
    weights = [q.splat(q.slot_f32(table, 2 * k + 1), vl) for k in range(count)]
    with q.loop(vectors) as i:
        at = b.mul(i, i64(vl * 4))
        total = b.fmul(q.load_raw(q.offset(rows[0], at), F32, vl), weights[0])
        for row, weight in zip(rows[1:], weights[1:]):
            total = q.fma(q.load_raw(q.offset(row, at), F32, vl), weight, total)
        q.store_raw(total, q.offset(y, at))
    b.ret_void()


@micro("mix_pixels")
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
            q.offset(weights, b.mul(i, i64(4 * taps))),
        )
        total = None
        for t in range(taps):
            weight = q.splat(q.load_raw(q.offset(from_weight, 4 * t), F32, 1), vl)
            v = q.load_raw(q.offset(x, q.slot(from_offset, t)), F32, vl)
            total = b.fmul(v, weight) if total is None else q.fma(v, weight, total)
        q.store_raw(total, q.offset(y, b.mul(i, i64(vl * 4))))
    b.ret_void()


@micro("gather_lanes")
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
        at = b.mul(i, i64(vl * 4))
        v = ir.Constant(kind, ir.Undefined)
        for j, source in enumerate(sources):
            element = q.load_raw(q.pointer(b.add(source, at)), F32, 1)
            v = b.insert_element(v, element, ir.Constant(ir.IntType(32), j))
        q.store_raw(b.select(mask, v, ir.Constant(kind, None)), q.offset(y, at))
    b.ret_void()
