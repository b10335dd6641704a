"""One stage of a recurrent cell: rows of the batch x a panel of hidden units with all their gates, in one register tile.

The tile multiplies the state by the recurrence weights; the equations of the gates and of the new state follow while it is
hot. A tensor of states is row-major with padded rows, so every load and store is a whole vector.
"""

from __future__ import annotations

from dataclasses import replace

from llvmlite import ir

from backends.cpu import scalar
from backends.cpu.ir import F32, I32, I64, PTR, Emit, define, i64
from backends.cpu.micro.tile import Tile
from backends.cpu.target import Target
from backends.cpu.toolchain import micro
from graphc.expr import Expr

DEPTH = 8  # reduction steps of one inner step: packed states and weights are padded with zeros to a multiple
# argument block: depth / DEPTH, the same of one pass, rows, bytes of a packed tile of the state, room for the accumulators
# (tiles x mr x gates x units float32), then (address, bytes from row to row) of each stream: what is added to the gates'
# products, the operands, the results
BLOCKS, PASS, ROWS, TILE_BYTES, ROOM, STREAMS = range(6)


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
    """void(int64* block, x, w): rows of the batch, in tiles of mr, by `vectors` vectors of hidden units.

    x: the state, [tile][depth][mr]; the last tile ends with the last row. w: the panel's weights, [depth][gates][units],
    of which the part of one pass stays in the level-1 cache for all tiles. results: expressions of float32; arg g is gate
    g's sum, then the operands, then the results before it.
    """
    fn, q = define(module, symbol, [PTR, I64, I64])
    block, x, w = fn.args
    b, width, nv = q.b, target.vl * 4, gates * vectors
    x, w, room = q.pointer(x), q.pointer(w), q.pointer(q.slot(block, ROOM))
    rows, tile_bytes, blocks, step = (q.slot(block, s) for s in (ROWS, TILE_BYTES, BLOCKS, PASS))
    numbers = range(gates + operands + len(results))
    streams = [(q.pointer(q.slot(block, STREAMS + 2 * i)), q.slot(block, STREAMS + 2 * i + 1)) for i in numbers]

    with q.loop(rows) as m:
        for address, row in streams[:gates]:
            for u in range(vectors):
                _prefetch(q, q.offset(address, b.add(b.mul(row, m), i64(u * width))))
    scheduled = (
        replace(target, asm=None) if mr == 1 else target
    )  # one row: each weight is an operand of its multiply-add
    tile = Tile(q, scheduled, mr, nv)
    passes = b.sdiv(b.add(blocks, b.sub(step, i64(1))), step)
    with q.loop(passes) as p:
        begin = b.mul(p, step)
        end = _smaller(q, b.add(begin, step), blocks)
        with q.loop(rows, step=mr) as t:
            number = b.sdiv(t, i64(mr))
            held = q.offset(room, b.mul(number, i64(mr * nv * width)))
            xt = q.offset(x, b.mul(number, tile_bytes))
            with b.if_else(b.icmp_signed("==", p, i64(0))) as (first, later):
                with first:
                    for acc in tile.flat:
                        b.store(q.const(0.0, F32, target.vl), acc)
                with later:
                    for i, acc in enumerate(tile.flat):
                        b.store(q.load_raw(q.offset(held, i * width), F32, target.vl), acc)
            with q.loop(end, start=begin) as k:
                xk, wk = (q.offset(a, b.mul(k, i64(DEPTH * n))) for a, n in ((xt, mr * 4), (w, nv * width)))
                tile.fma_steps(xk, wk, DEPTH, 1, mr, xk)
            for i, acc in enumerate(tile.flat):
                q.store_raw(b.load(acc, typ=tile.kind), q.offset(held, i * width))

    with q.loop(rows, step=mr) as t:
        start = _smaller(q, t, b.sub(rows, i64(mr)))
        held = q.offset(room, b.mul(t, i64(nv * width)))
        with q.loop(i64(mr)) as m, q.loop(i64(vectors)) as u:
            at = q.offset(held, b.add(b.mul(m, i64(nv * width)), b.mul(u, i64(width))))
            places = [q.offset(a, b.add(b.mul(b.add(start, m), row), b.mul(u, i64(width)))) for a, row in streams]
            values = [q.load_raw(place, F32, target.vl) for place in places[: gates + operands]]
            for g in range(gates):
                values[g] = b.fadd(values[g], q.load_raw(q.offset(at, g * vectors * width), F32, target.vl))
            for e, place in zip(results, places[gates + operands :]):
                values.append(scalar.emit(q, e, values, target.vl))
                q.store_raw(values[-1], place)
    b.ret_void()


def _smaller(q: Emit, a: ir.Value, b: ir.Value) -> ir.Value:
    return q.b.select(q.b.icmp_signed("<", a, b), a, b)


def _prefetch(q: Emit, pointer: ir.Value) -> None:
    """Ask for memory that is read after the product: it comes from far away, and nothing foresees it."""
    q.call("llvm.prefetch.p0", ir.VoidType(), pointer, *(ir.Constant(I32, n) for n in (0, 3, 1)))  # read, keep, data
