"""One tile of a matrix product: rows that are packed like the pixels of a convolution times a panel of columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from llvmlite import ir

from graphc.backends.cpu.conv.conv_row_block import EPILOGUE_OPERAND, EPILOGUE_OPERAND_SIZE
from graphc.backends.cpu.conv.conv_row_micro import (
    BLOCKS,
    COMING_STEP,
    EPILOGUE_OPERANDS,
    LANES,
    XS_BLOCK,
    XS_D,
    XS_H,
    YS_BLOCK,
    YS_W,
    _Memory,
    _residual_and_clip,
    _store,
    operand_indices,
)
from graphc.backends.cpu.integer.byte_epilogue_micro import Ending, Place
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.product.bit_tile_micro import BitTile
from graphc.backends.cpu.product.byte_tile_micro import ByteTile
from graphc.backends.cpu.product.gemm_block import ProductTile
from graphc.backends.cpu.product.half_tile_micro import HALF_TILES
from graphc.backends.cpu.sizes import CACHE_LINE
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import BITS, BYTES, DOTS, FMA, NARROW, PAIRS, SHIFTED, Dot
from graphc.backends.cpu.tile.short_loop_micro import UNROLL, short_loop
from graphc.backends.cpu.tile.tile_micro import NO_FETCH, Tile
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import I32, I64, PTR, Emit, define, i64
from graphc.dtypes import INT32
from graphc.expr import Expr

NEXT_LINES = 4  # cache lines of the next panel that are fetched with each block of reduction steps, where rows are many
NEAR = -1  # instead: one row, weights in the caches, nothing is fetched ahead
TILES: Mapping[Dot, Callable[[Emit, Target, int, int, int], Tile]] = {
    FMA: Tile,
    BYTES: ByteTile,
    SHIFTED: partial(ByteTile, dot=SHIFTED),
    NARROW: partial(ByteTile, dot=NARROW),
    BITS: BitTile,
    PAIRS: partial(ByteTile, dot=PAIRS),
    **HALF_TILES,
}
NUMBERS = {"n": 4, "t": 256}  # bytes of what kernels share the code of an epilogue by: numbers and tables
OPERAND_REF, OPERAND_PIXEL, OPERAND_BLOCK = EPILOGUE_OPERAND["ref pixel block"]
PARTIAL, OTHER = XS_D, XS_H  # of the block, where a sum ends: addresses of two tiles of partial sums


def on_stack(q: Emit, tile: Tile) -> ir.Value:
    """Pointer to the accumulators, row by row: a tile fills the registers, and what is made of it needs some."""
    kept = q.b.bitcast(q.variable(ir.ArrayType(tile.kind, tile.mr * tile.nv)), PTR)
    for i, a in enumerate(tile.flat):
        q.store_raw(q.b.load(a, typ=tile.kind), q.offset(kept, i * tile.vector))
    return kept


@micro(ProductTile)
def product_tile(
    module: ir.Module,
    symbol: str,
    target: Target,
    mr: int,
    nv: int,
    epilogue: Expr | None,
    masked: bool,
    lines: int,
    stage: str | None,
    strided: bool,
    dot: str,
    operands: tuple[tuple[str, str], ...],
    rest: int,
) -> None:
    """void(block, a, b, y, bias, ahead): a tile of mr rows x nv vectors of columns; the block is that of `conv_row`.

    a: [BLOCKS][mr][vl], b: [BLOCKS * vl][nv vectors]. strided: the blocks of a lie XS_BLOCK bytes apart. epilogue None:
    y = clip(acc + residual, LO, HI); else the expression of arg 0 = acc and the epilogue's operands. masked: only the first LANES lanes
    of the last vector exist in y and the epilogue's operands. lines: b is read again for other rows, so that so many cache lines from
    `ahead` on are fetched with each block instead, which moves on by COMING_STEP bytes if strided and else by those lines;
    0: it is not; NEAR: for one row, whose loop is short enough for the stride prefetcher. Measured on Zen 5 with weights that come from memory, 128x768 by 768x3072: 207 GFLOP/s where each
    panel is fetched only just before its first use, 218 where the one before it fetches it; 128x3072 by 3072x768: 199 and
    210. stage: which part of a longer sum it is; 'first' and 'middle' leave partial sums [mr][nv vectors] at y,
    'middle' and 'last' take them from `bias`; 'sum' ends like 'last', from the bias, PARTIAL and OTHER. dot: a name of
    tile/dot.py: 'bytes' for four bytes in the place of each float of a and b, and sums in int32, which are stored as they are
    where there is no expression; 'float16' and 'bfloat16' for b of these types, 'pairs' for two bfloat16 in the place of each float of
    a and b; 'bits' for 32 of these, of which those that differ are counted. rest: steps of the last block, 0 for all. operands: of an expression of sums in int32, as `Ending` takes them, but for 'n', a number: those and tables lie one behind
    the other, where the operand behind the others is.
    """
    fn, q = define(module, symbol, [PTR, I64, I64, I64, I64, I64])
    block, a, panel, y, bias, ahead = fn.args
    b = q.b
    a, panel, y, bias, ahead = (q.pointer(p) for p in (a, panel, y, bias, ahead))
    near = lines == NEAR
    assert not near or (mr == 1 and not stage), (mr, stage)
    tile = TILES[DOTS[dot]](q, target, mr, nv, max(0, lines))
    vl, vector, element = tile.vl, tile.vector, tile.element
    memory = memory_of(q, tile, block, masked)
    for m in range(mr):
        for j in range(nv):
            at = (m * nv + j if stage in ("middle", "last") else j) * vector
            tile.set(m, j, q.load_raw(q.offset(bias, at), element, vl))
    for other in [q.pointer(q.slot(block, slot)) for slot in (PARTIAL, OTHER)] if stage == "sum" else []:
        for i, acc in enumerate(tile.flat):
            b.store(b.fadd(b.load(acc, typ=tile.kind), q.load_raw(q.offset(other, i * vector), element, vl)), acc)
    a_block, b_block = q.slot(block, XS_BLOCK) if strided else i64(mr * vl * tile.item), i64(vl * nv * tile.weights)
    blocks = q.slot(block, BLOCKS)
    step = q.slot(block, COMING_STEP) if strided else i64(lines * CACHE_LINE)
    if near:
        sums = short_loop(q, target, mr, nv, a, panel, b.mul(blocks, i64(vl // UNROLL)), a_block, 0)
        for acc, total in zip(tile.flat, sums):
            b.store(b.fadd(b.load(acc, typ=tile.kind), total), acc)
    else:
        whole = b.sub(blocks, i64(1)) if rest else blocks
        with q.loop(whole) as k:
            at = q.offset(a, b.mul(k, a_block))
            next_rows = q.offset(at, b.mul(a_block, i64(2 if lines else 1)))
            coming = q.offset(ahead, b.mul(k, step)) if lines else None
            tile.fma_steps(at, q.offset(panel, b.mul(k, b_block)), vl, vl, 1, next_rows, coming)
        if rest:
            at, tile.lines = q.offset(a, b.mul(whole, a_block)), NO_FETCH
            tile.fma_steps(at, q.offset(panel, b.mul(whole, b_block)), rest, vl, 1, at)
    if stage in ("first", "middle"):
        for i, acc in enumerate(tile.flat):
            q.store_raw(b.load(acc, typ=tile.kind), q.offset(y, i * vector))
    elif epilogue is not None and tile.dot.accumulator is INT32:
        _end(q, target, tile, block, y, q.lane_mask(q.slot(block, LANES), vl) if masked else None, epilogue, operands)
    else:
        write(q, tile, memory, block, y, epilogue)
    b.ret_void()


def memory_of(q: Emit, tile: Tile, block: ir.Value, masked: bool) -> _Memory:
    """Where a tile's vectors of columns exist. masked: of the last one only the first LANES lanes do."""
    if not masked:
        return _Memory(q, tile.element, tile.vl, {})
    return _Memory.until(q, tile.element, tile.vl, tile.nv, q.slot(block, LANES))


def write(q: Emit, tile: Tile, memory: _Memory, block: ir.Value, y: ir.Value, epilogue: Expr | None) -> None:
    """The accumulators as they are stored: see `product_tile`."""
    b, ys_w, ys_block = q.b, q.slot(block, YS_W), q.slot(block, YS_BLOCK)
    if epilogue is not None:
        _apply(q, tile, memory, block, y, ys_w, ys_block, epilogue)
        return
    if tile.dot.accumulator.family == "float":
        _residual_and_clip(q, tile, memory, block, i64(0))
    columns, rows = range(tile.nv), range(tile.mr)
    _store(
        tile,
        memory,
        [[q.offset(y, b.add(b.mul(ys_w, i64(m)), b.mul(ys_block, i64(j)))) for j in columns] for m in rows],
    )


def _end(
    q: Emit,
    target: Target,
    tile: Tile,
    block: ir.Value,
    y: ir.Value,
    mask: ir.Value | None,
    epilogue: Expr,
    operands: Sequence[tuple[str, str]],
) -> None:
    """As convolutions of bytes end, in a loop over the rows. It computes what the expression says, to the last bit."""
    b, vector = q.b, tile.vector
    ys_w, ys_block = q.slot(block, YS_W), q.slot(block, YS_BLOCK)

    def slots(e: int) -> list[ir.Value]:
        at = EPILOGUE_OPERANDS + EPILOGUE_OPERAND_SIZE * e
        return [q.slot(block, at + word) for word in (OPERAND_REF, OPERAND_PIXEL, OPERAND_BLOCK)]

    given = sum(kind not in NUMBERS for _, kind in operands)
    places, known = [Place(*slots(e)) for e in range(given)], slots(given)[0]
    for _, kind in operands[given:]:
        places.append(Place(known, i64(0), i64(0)))
        known = b.add(known, i64(NUMBERS[kind]))
    kinds = [(dtype, "s" if kind == "n" else kind) for dtype, kind in operands]
    ending = Ending(q, target, places, tile.dot, epilogue, kinds, tile.nv, mask, contracts=False)
    kept = on_stack(q, tile)
    with q.loop(i64(tile.mr)) as m:
        for j in range(tile.nv):
            at = q.offset(kept, b.add(b.mul(m, i64(tile.nv * vector)), i64(j * vector)))
            to = q.offset(y, b.add(b.mul(m, ys_w), b.mul(ys_block, i64(j))))
            ending.write(q.load_raw(at, I32, tile.vl), to, m, j)


def _apply(
    q: Emit,
    tile: Tile,
    memory: _Memory,
    block: ir.Value,
    y: ir.Value,
    ys_w: ir.Value,
    ys_block: ir.Value,
    epilogue: Expr,
) -> None:
    """The expression in a loop over the tile."""
    b, vector = q.b, tile.vector
    kept = on_stack(q, tile)
    epilogue_operands = sorted({e for e in operand_indices(epilogue) if e > 0})
    slots = {
        e: [
            q.slot(block, EPILOGUE_OPERANDS + EPILOGUE_OPERAND_SIZE * (e - 1) + i) for i in range(EPILOGUE_OPERAND_SIZE)
        ]
        for e in epilogue_operands
    }
    with q.loop(i64(tile.mr)) as m:
        for j in range(tile.nv):
            at = q.offset(kept, b.add(b.mul(m, i64(tile.nv * vector)), i64(j * vector)))
            values = {0: q.load_raw(at, tile.element, tile.vl)}
            for e, (address, stride_block, stride_w) in slots.items():
                where = b.add(b.mul(m, stride_w), b.mul(stride_block, i64(j)))
                values[e] = memory.load(q.offset(q.pointer(address), where), j)
            to = q.offset(y, b.add(b.mul(m, ys_w), b.mul(ys_block, i64(j))))
            memory.store(expr_code.emit(q, epilogue, values.__getitem__, tile.vl), to, j)
