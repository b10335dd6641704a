"""What the machine can do at most: inner steps of a register tile, and reading memory. Used by backends/cpu/roofline.py."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.executor.program_block import PeakProduct, PeakRead
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.product.byte_tile_micro import RESERVED
from graphc.backends.cpu.product.product_micro import TILES
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import DOTS, Dot
from graphc.backends.cpu.tile.tile_micro import NO_FETCH, max_rows
from graphc.backends.llvm.emit import F32, I64, Emit, define, i64

LINES = 8  # vectors read at once
STEPS = 8  # of a round, all of whose operands are in the nearest cache
VECTORS = 2  # of columns, so that there are fewer loads than products


def peak_rows(target: Target) -> int:
    """Rows of the tile: it leaves the registers that some inner steps need, and has sums enough to hide their latency."""
    return max_rows(target, VECTORS, target.registers - RESERVED)


def products(target: Target, dot: Dot) -> int:
    """Of a round."""
    return STEPS * peak_rows(target) * VECTORS * dot.lanes(target) * dot.k


def operand_bytes(target: Target, dot: Dot) -> int:
    """That a round reads: weights, then rows."""
    return STEPS * (VECTORS * dot.weights(dot.lanes(target)) + peak_rows(target) * dot.item)


@micro(PeakProduct)
def peak_product(module: ir.Module, symbol: str, target: Target, dot: str) -> None:
    """A step (block, thread, threads): every thread runs block[0] rounds of `products` products.

    Their operands lie behind block[1], those of every other round by themselves: what a loop reads again and again could be multiplied
    before it. The sum goes to vector `thread` of the memory at block[2].
    """
    fn, q = define(module, symbol, [I64] * 3)
    block = q.pointer(fn.args[0])
    tile = TILES[DOTS[dot]](q, target, peak_rows(target), VECTORS, NO_FETCH)
    for acc in tile.flat:
        q.b.store(ir.Constant(tile.kind, None), acc)
    operands = q.pointer(q.slot(block, 1))
    with q.loop(q.slot(block, 0)) as i:
        w = q.offset(operands, q.b.mul(q.b.and_(i, i64(1)), i64(operand_bytes(target, tile.dot))))
        x = q.offset(w, STEPS * VECTORS * tile.weights)
        tile.fma_steps(x, w, STEPS, STEPS, 1, x)
    _store_sum(q, [q.b.load(acc, typ=tile.kind) for acc in tile.flat], q.slot(block, 2), fn.args[1], target)


@micro(PeakRead)
def peak_read(module: ir.Module, symbol: str, target: Target) -> None:
    """A step (block, thread, threads): every thread reads block[0] groups of LINES vectors, block[2] times.

    Those of all threads lie one after the other from block[1] on. The sum goes to vector `thread` of the memory at block[3].
    """
    fn, q = define(module, symbol, [I64] * 3)
    b, block, thread = q.b, q.pointer(fn.args[0]), fn.args[1]
    kind, nbytes = ir.VectorType(F32, target.vl), target.vector
    groups = q.slot(block, 0)
    memory = q.offset(q.pointer(q.slot(block, 1)), b.mul(b.mul(thread, groups), i64(LINES * nbytes)))
    sums = [q.variable(kind) for _ in range(LINES)]
    for s in sums:
        b.store(q.const(0, F32, target.vl), s)
    with q.loop(q.slot(block, 2)), q.loop(groups) as i:
        group = q.offset(memory, b.mul(i, i64(LINES * nbytes)))
        for k, s in enumerate(sums):
            b.store(b.fadd(b.load(s, typ=kind), q.load_raw(q.offset(group, k * nbytes), F32, target.vl)), s)
    _store_sum(q, [b.load(s, typ=kind) for s in sums], q.slot(block, 3), thread, target)


def _store_sum(q: Emit, values: list[ir.Value], address: ir.Value, thread: ir.Value, target: Target) -> None:
    """So that nothing of what was computed is left out."""
    total = values[0]
    for v in values[1:]:
        total = q.b.fadd(total, v)
    q.store_raw(total, q.offset(q.pointer(address), q.b.mul(thread, i64(target.vector))))
    q.b.ret_void()
