"""One stage of a recurrent cell: rows of the batch x a panel of hidden units with all their gates, in one register tile.

The tile multiplies the state by the recurrence weights; the equations of the gates and of the new state follow while it is
hot. A tensor of states is row-major with padded rows, so every load and store is a whole vector.
"""

from __future__ import annotations

from llvmlite import ir

from backends.cpu import scalar
from backends.cpu.ir import F32, I64, PTR, define, i64
from backends.cpu.micro.tile import Tile
from backends.cpu.target import Target
from backends.cpu.toolchain import micro
from graphc.expr import Expr

DEPTH = 8  # reduction steps of one inner step: packed states and weights are padded with zeros to a multiple
# argument block: depth / DEPTH, room for the tile (rows x gates x units float32), then (address, bytes from row to row) of
# each stream: where the gates' accumulators start, the operands, the results
BLOCKS, ROOM, STREAMS = range(3)


@micro("cell_stage")
def cell_stage(
    module: ir.Module,
    symbol: str,
    target: Target,
    mr: int,
    gates: int,
    vectors: int,
    operands: int,
    results: tuple[Expr, ...],
) -> None:
    """void(int64* block, x, w): mr rows x `vectors` vectors of hidden units.

    x: the state, [depth][mr]; w: the panel's weights, [depth][gates][units]. results: expressions of float32; arg g is gate
    g's accumulator, then the operands, then the results before it.
    """
    fn, q = define(module, symbol, [PTR, I64, I64])
    block, x, w = fn.args
    b, width, nv = q.b, target.vl * 4, gates * vectors
    x, w = q.pointer(x), q.pointer(w)
    streams = [
        (q.pointer(q.slot(block, STREAMS + 2 * i)), q.slot(block, STREAMS + 2 * i + 1))
        for i in range(gates + operands + len(results))
    ]
    tile = Tile(q, target, mr, nv)
    for g, (address, row) in enumerate(streams[:gates]):
        for m in range(mr):
            at = q.offset(address, b.mul(row, i64(m)))
            for u in range(vectors):
                tile.set(m, g * vectors + u, q.load_raw(q.offset(at, u * width), F32, target.vl))
    with q.loop(q.slot(block, BLOCKS)) as k:
        xk, wk = (q.offset(p, b.mul(k, i64(DEPTH * size))) for p, size in ((x, mr * 4), (w, nv * width)))
        tile.fma_steps(xk, wk, DEPTH, 1, mr)
    room = q.pointer(q.slot(block, ROOM))
    for i, acc in enumerate(tile.flat):
        q.store_raw(b.load(acc, typ=tile.kind), q.offset(room, i * width))
    with q.loop(i64(mr)) as m, q.loop(i64(vectors)) as u:
        at = q.offset(room, b.add(b.mul(m, i64(nv * width)), b.mul(u, i64(width))))
        values = [q.load_raw(q.offset(at, g * vectors * width), F32, target.vl) for g in range(gates)]
        places = [q.offset(p, b.add(b.mul(m, row), b.mul(u, i64(width)))) for p, row in streams[gates:]]
        values += [q.load_raw(p, F32, target.vl) for p in places[:operands]]
        for e, place in zip(results, places[operands:]):
            values.append(scalar.emit(q, e, values, target.vl))
            q.store_raw(values[-1], place)
    b.ret_void()
