"""One stage of a recurrent cell: rows of the batch x a panel of hidden units with all their gates, in one register tile.

The tile multiplies the state by the recurrence weights; the equations of the gates and of the new state follow while it is
hot. States lie as [block of hidden units][row of the batch][unit of the block], a vector each: what one step stores, the next
multiplies.
"""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.product.pairs_micro import rounded
from graphc.backends.cpu.product.product_micro import TILES
from graphc.backends.cpu.recurrent.recurrent_block import CELL_STAGE, CELL_STREAM, CellStage
from graphc.backends.cpu.sizes import FLOAT_BYTES
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import DOTS, PAIRS
from graphc.backends.cpu.tile.short_loop_micro import UNROLL, short_loop
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import F32, I32, I64, PTR, Emit, define, i64
from graphc.expr import Expr

AHEAD = 4096  # bytes that weights are fetched ahead of their use, but for one row and weights in the level-2 cache
BLOCKS, ROWS, STATE_BLOCK, ROOM, STREAMS = CELL_STAGE["blocks rows state_block room streams"]
STREAM = CELL_STREAM.size
BASE, ROW, VECTOR = CELL_STREAM["base row vector"]


@micro(CellStage)
def cell_stage(
    module: ir.Module,
    symbol: str,
    target: Target,
    mr: int,
    gates: int,
    vectors: int,
    operands: int,
    results: tuple[Expr, ...],
    far: bool,
    dot: str,
) -> None:
    """void(int64* block, x, w): rows of the batch, in tiles of mr, by `vectors` vectors of hidden units.

    x: the state of the first row; the last tile ends with the last row. w: the panel's weights, [depth][gates][units].
    results: expressions of float32; arg g is gate g's sum, then the operands, then the results before it. far: the weights
    are more than the level-2 cache holds. dot: a name of tile/dot.py: 'bfloat16' of weights, 'pairs' of states too, which are
    rounded for the product in memory that ends where the block begins.
    """
    fn, q = define(module, symbol, [PTR, I64, I64])
    block, x, w = fn.args
    b, width, nv = q.b, target.vl * FLOAT_BYTES, gates * vectors
    x, w, room = q.pointer(x), q.pointer(w), q.pointer(q.slot(block, ROOM))
    rows, state_block, blocks = (q.slot(block, s) for s in (ROWS, STATE_BLOCK, BLOCKS))
    words = range(STREAMS, STREAMS + STREAM * (gates + operands + len(results)), STREAM)
    streams = [(q.pointer(q.slot(block, i + BASE)), q.slot(block, i + ROW), q.slot(block, i + VECTOR)) for i in words]

    ahead, tile = AHEAD if far or mr > 1 else 0, TILES[DOTS[dot]]
    with q.loop(rows, step=mr) as t:
        start = _smaller(q, t, b.sub(rows, i64(mr)))
        with q.loop(i64(mr)) as m:
            for address, row, vector in streams[:gates]:
                for u in range(vectors):
                    _prefetch(q, q.offset(address, b.add(b.mul(row, b.add(start, m)), b.mul(vector, i64(u)))))
        xt = q.offset(x, b.mul(start, i64(width)))
        turns, from_block = blocks, state_block
        if DOTS[dot] is PAIRS:
            xt, turns, from_block = _rounded_state(q, target, mr, xt, blocks, state_block, block)
        for i, acc in enumerate(short_loop(q, target, mr, nv, xt, w, turns, from_block, ahead, tile)):
            q.store_raw(acc, q.offset(room, i * width))
        with q.loop(i64(mr)) as m, q.loop(i64(vectors)) as u:
            at = q.offset(room, b.add(b.mul(m, i64(nv * width)), b.mul(u, i64(width))))
            number = b.add(start, m)
            places = [q.offset(a, b.add(b.mul(number, row), b.mul(u, vector))) for a, row, vector in streams]
            values = [q.load_raw(place, F32, target.vl) for place in places[: gates + operands]]
            for g in range(gates):
                values[g] = b.fadd(values[g], q.load_raw(q.offset(at, g * vectors * width), F32, target.vl))
            for e, place in zip(results, places[gates + operands :]):
                values.append(expr_code.emit(q, e, values, target.vl))
                q.store_raw(values[-1], place)
    b.ret_void()


def _rounded_state(
    q: Emit, target: Target, mr: int, x: ir.Value, hidden: ir.Value, state_block: ir.Value, end: ir.Value
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """The state of mr rows as [block of vl steps][row][step], zeros behind its hidden units: where, its `blocks`, `state_block`."""
    b, vl, to_block = q.b, target.vl, mr * target.vector
    to = q.offset(end, b.mul(i64(-to_block), _over(q, hidden, PAIRS.k * vl)))
    with q.loop(hidden, step=PAIRS.k * vl) as unit:
        block = b.sdiv(unit, i64(PAIRS.k * vl))
        left = b.sub(hidden, unit)
        masks = [q.lane_mask(b.sub(left, i64(half * vl)), vl) for half in range(PAIRS.k)]
        for m in range(mr):
            row = q.offset(x, b.add(b.mul(b.mul(block, i64(PAIRS.k)), state_block), i64(m * target.vector)))
            halves = [q.masked_load(row, F32, masks[0]), q.masked_load(q.offset(row, state_block), F32, masks[1])]
            q.store_raw(
                rounded(q, target, *halves), q.offset(to, b.add(b.mul(block, i64(to_block)), i64(m * target.vector)))
            )
    return to, _over(q, hidden, PAIRS.k * UNROLL), i64(to_block)


def _over(q: Emit, n: ir.Value, each: int) -> ir.Value:
    """n / each, rounded up."""
    return q.b.sdiv(q.b.add(n, i64(each - 1)), i64(each))


def _smaller(q: Emit, a: ir.Value, b: ir.Value) -> ir.Value:
    return q.b.select(q.b.icmp_signed("<", a, b), a, b)


def _prefetch(q: Emit, pointer: ir.Value) -> None:
    """Ask for memory that is read after the product: it comes from far away, and nothing foresees it."""
    q.call("llvm.prefetch.p0", ir.VoidType(), pointer, *(ir.Constant(I32, n) for n in (0, 3, 1)))  # read, keep, data
