"""Squared distances of a sample from vectors, a register of vectors at a time: no difference is stored."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.trees.distances_block import DistanceRow
from graphc.backends.llvm.emit import F32, I64, define, i64

REGISTERS = 4  # sums at once, so that one need not wait for another


@micro(DistanceRow, unroll=False)
def distance_row(module: ir.Module, symbol: str, target: Target) -> None:
    fn, q = define(module, symbol, [I64] * 5)
    x, vectors, y, features, count = fn.args
    b, lanes = q.b, target.vl

    def at(base: ir.Value, index: ir.Value) -> ir.Value:
        return q.offset(q.pointer(base), b.mul(index, i64(4)))

    with q.loop(count, step=REGISTERS * lanes) as s:
        places = [b.add(s, i64(k * lanes)) for k in range(REGISTERS)]
        masks = [q.lane_mask(b.sub(count, place), lanes) for place in places]
        sums = [q.variable(ir.VectorType(F32, lanes)) for _ in places]
        for total in sums:
            b.store(q.const(0, F32, lanes), total)
        with q.loop(features) as f:
            own, row = q.splat(q.load_raw(at(x, f), F32, 1), lanes), b.mul(f, count)
            for place, mask, total in zip(places, masks, sums):
                difference = b.fsub(own, q.masked_load(at(vectors, b.add(row, place)), F32, mask))
                b.store(q.fma(difference, difference, b.load(total)), total)
        for place, mask, total in zip(places, masks, sums):
            q.masked_store(b.load(total), at(y, place), mask)
    b.ret_void()
