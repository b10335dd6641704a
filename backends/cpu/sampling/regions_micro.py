"""Averages over the bins of a region of an image: weights of rows, then of columns."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.sampling.regions_block import PLANE, RegionPlane
from graphc.backends.cpu.target import Target
from graphc.backends.llvm.emit import F32, I64, Emit, define, i64


@micro(RegionPlane, unroll=False)
def region_plane(module: ir.Module, symbol: str, target: Target) -> None:
    """void(block, x, y): y[out_h, out_w] = rows[out_h, h] x[h, w] columns[out_w, w]^T."""
    fn, q = define(module, symbol, [I64] * 3)
    block, x, y = fn.args
    b, lanes = q.b, target.vl
    names = "rows row_ends columns column_ends line out_h out_w h w first end"
    words = [q.slot(q.pointer(block), i) for i in PLANE[names]]
    rows, row_ends, columns, column_ends, line, out_h, out_w, h, w, first, end = words

    def at(base: ir.Value, index: ir.Value, size: int = 4) -> ir.Value:
        return q.offset(q.pointer(base), b.mul(index, i64(size)))

    with q.loop(out_h) as i:
        _weighted_rows(q, at, (rows, row_ends, x, line), i, h, w, (first, end), lanes)
        with q.loop(out_w) as j:
            total = q.variable(F32)
            b.store(ir.Constant(F32, 0.0), total)
            start, stop = (q.load_raw(at(column_ends, b.add(b.mul(j, i64(2)), i64(k)), 8), I64, 1) for k in (0, 1))
            own = b.mul(j, w)
            with q.loop(stop, start=start) as c:
                weight = q.load_raw(at(columns, b.add(own, c)), F32, 1)
                b.store(q.fma(weight, q.load_raw(at(line, c), F32, 1), b.load(total)), total)
            q.store_raw(b.load(total), at(y, b.add(b.mul(i, out_w), j)))
    b.ret_void()


def _weighted_rows(
    q: Emit,
    at: Callable[..., ir.Value],
    places: tuple[ir.Value, ...],
    i: ir.Value,
    h: ir.Value,
    w: ir.Value,
    extent: tuple[ir.Value, ir.Value],
    lanes: int,
) -> None:
    """The line: the sum of the image's rows with the weights of bin i, from the first column to the last."""
    b, (rows, row_ends, x, line), (first, end) = q.b, places, extent
    start, stop = (q.load_raw(at(row_ends, b.add(b.mul(i, i64(2)), i64(k)), 8), I64, 1) for k in (0, 1))
    own = b.mul(i, h)
    kind = ir.VectorType(F32, lanes)
    with q.loop(end, start=first, step=lanes) as c:
        mask = q.lane_mask(b.sub(end, c), lanes)
        total = q.variable(kind)
        b.store(q.const(0, F32, lanes), total)
        with q.loop(stop, start=start) as r:
            weight = q.splat(q.load_raw(at(rows, b.add(own, r)), F32, 1), lanes)
            values = q.masked_load(at(x, b.add(b.mul(r, w), c)), F32, mask)
            b.store(q.fma(weight, values, b.load(total)), total)
        q.store_raw(b.load(total), at(line, c))
