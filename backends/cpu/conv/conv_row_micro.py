"""One row of output pixels of a direct convolution in NCHW[c]c, tile by tile.

Loops over input-channel blocks and the kernel window run at run time; the channels of one block are unrolled. A kernel has
tiles of a few heights, and how many of each make up a row is an argument: rows of any width share the kernel. Tiles that
would end behind the row overlap those before them. Window columns outside the image read the halo's zeros; rows outside
are clipped by the driver.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

from llvmlite import ir

from graphc.backends.cpu.conv.conv_row_block import BLOCK_BYTES as BLOCK_BYTES
from graphc.backends.cpu.conv.conv_row_block import CONV_ROW, EPILOGUE_OPERAND_SIZE, ConvRow
from graphc.backends.cpu.conv.conv_row_block import MAX_EPILOGUE_OPERANDS as MAX_EPILOGUE_OPERANDS
from graphc.backends.cpu.conv.conv_row_block import MAX_HEIGHTS as MAX_HEIGHTS
from graphc.backends.cpu.conv.group_tile_micro import GroupTile
from graphc.backends.cpu.conv.prologue_micro import Prologue
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.tile_micro import Tile
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import F32, I64, PTR, Emit, define, i64
from graphc.expr import Expr

BLOCKS, KERNEL_W, PIXELS, TILES, LO, HI, EPILOGUE_OPERANDS, SOURCES = CONV_ROW[
    "blocks kernel_w pixels tiles lo hi epilogue_operands sources"
]
XS_BLOCK, XS_D, XS_H, XS_W, YS_W, YS_BLOCK = CONV_ROW["xs_block xs_d xs_h xs_w ys_w ys_block"]
WS_BLOCK, WS_D, WS_H, COMING, COMING_STEP = CONV_ROW["ws_block ws_d ws_h coming coming_step"]
FIRST_LANE, LANES, INPUT_FIRST, INPUT_END = CONV_ROW["first_lane lanes input_first input_end"]
CONTINUES, PARTIAL = CONV_ROW["continues partial"]


class _Memory:
    """Vectors in memory, numbered along the outputs. masks: the lanes that exist, where not all of a vector do."""

    def __init__(self, q: Emit, element: ir.Type, lanes: int, masks: dict[int, ir.Value]) -> None:
        self.q, self.element, self.lanes, self.masks = q, element, lanes, masks

    @classmethod
    def until(cls, q: Emit, element: ir.Type, lanes: int, nv: int, end: ir.Value) -> _Memory:
        """`end` lanes of the last of nv vectors exist."""
        return cls(q, element, lanes, {nv - 1: q.lane_mask(end, lanes)})

    @classmethod
    def between(cls, q: Emit, element: ir.Type, lanes: int, nv: int, first: ir.Value, end: ir.Value) -> _Memory:
        """The lanes [first, end) exist, with one of the first vector and one of the last among them."""
        before = q.b.not_(q.lane_mask(first, lanes))
        until = q.lane_mask(q.b.sub(end, i64((nv - 1) * lanes)), lanes)
        return cls(q, element, lanes, {0: before, nv - 1: until} if nv > 1 else {0: q.b.and_(before, until)})

    def load(self, pointer: ir.Value, j: int) -> ir.Value:
        if j in self.masks:
            return self.q.masked_load(pointer, self.element, self.masks[j])
        return self.q.load_raw(pointer, self.element, self.lanes)

    def store(self, value: ir.Value, pointer: ir.Value, j: int) -> None:
        if j in self.masks:
            self.q.masked_store(value, pointer, self.masks[j])
        else:
            self.q.store_raw(value, pointer)


@micro(ConvRow)
def conv_row(
    module: ir.Module,
    symbol: str,
    target: Target,
    heights: tuple[int, ...],
    nv: int,
    xm: int,
    xu: int,
    depth: int,
    epilogue: Expr | None,
    masked: bool,
    lines: int,
    in_parts: bool,
    group: int,
    prologue: tuple[Expr, str] | None,
    ragged: bool,
) -> None:
    """void(block, x, w, y, bias, planes and rows of the window).

    heights x nv: tiles of pixels x channel blocks; TILES says how many there are of each. xm, xu: elements from one pixel to
    the next and from one channel to the next.
    depth: channels of a block. epilogue None: y = clip(acc + residual, LO, HI); else the expression of arg 0 = acc and the
    epilogue's operands. masked: only the lanes [FIRST_LANE, LANES) of the tile's vectors are its own in y and these operands.
    ragged: of the first input block it reads the lanes from INPUT_FIRST on, of the last one those before INPUT_END; what the
    others hold does not count, be it NaN. lines: from COMING on that are fetched with each run of `depth` steps; 0, NO_FETCH: see `Tile`.
    in_parts: CONTINUES and PARTIAL say which part of a longer sum it is, else it is a whole one. group: channels of a group,
    whose outputs lie in the block that its inputs lie in; depth is the same then. 0: all outputs read all inputs. prologue:
    expression and kinds of its operands, which gives the input of each tile but the first while the one before is
    multiplied; 1x1 with one height only, see conv/prologue_micro.py.
    """
    fn, q = define(module, symbol, [PTR, I64, I64, I64, I64, I64, I64])
    block, x, w, y, bias, kernel_d, kernel_h = fn.args
    b = q.b
    x, w, y, bias = (q.pointer(p) for p in (x, w, y, bias))
    assert len(heights) == 1 or not prologue
    before = Prologue(q, target.vl, heights[0], *prologue, block, SOURCES) if prologue else None
    coming = _Stream(q, q.pointer(q.slot(block, COMING)), q.slot(block, COMING_STEP)) if lines > 0 else None
    memory = _Memory(q, F32, target.vl, {})
    if masked:
        memory = _Memory.between(q, F32, target.vl, nv, q.slot(block, FIRST_LANE), q.slot(block, LANES))
    pixels, ys_w, ys_block = q.slot(block, PIXELS), q.slot(block, YS_W), q.slot(block, YS_BLOCK)
    biases = [q.load_raw(q.offset(bias, j * target.vector), F32, target.vl) for j in range(nv)]
    continues = b.icmp_signed("!=", q.slot(block, CONTINUES), i64(0)) if in_parts else None
    complete = b.icmp_signed("==", q.slot(block, PARTIAL), i64(0)) if in_parts else ir.Constant(ir.IntType(1), 1)
    ragged_end = complete if ragged else None  # the last of other parts is a whole block
    done = q.variable(I64)
    b.store(i64(0), done)
    for i, mr in enumerate(heights):
        tile = GroupTile(q, target, mr, group) if group else Tile(q, target, mr, nv, lines)
        last_start = b.sub(pixels, i64(mr))
        with q.loop(q.slot(block, TILES + i)):
            t = b.load(done, typ=I64)
            b.store(b.add(t, i64(mr)), done)
            start = b.select(b.icmp_signed("<", t, last_start), t, last_start)
            xt = q.offset(x, b.mul(start, i64(xm * tile.item)))
            yt = q.offset(y, b.mul(start, ys_w))
            rows = places(q, yt, ys_w, ys_block, mr, nv)
            _begin(b, tile, memory, rows, biases, continues)
            if before:
                before.at(x, t, last_start)
            _reduce(q, tile, block, xt, w, kernel_d, kernel_h, xm, xu, depth, coming, before, ragged_end)
            if epilogue is None:
                with b.if_then(complete):
                    _residual_and_clip(q, tile, memory, block, start)
            _store(tile, memory, rows)
            if epilogue is not None:
                with b.if_then(complete):
                    _apply(q, tile, memory, block, start, yt, ys_w, ys_block, epilogue)
    b.ret_void()


def _begin(
    b: ir.IRBuilder,
    tile: Tile,
    memory: _Memory,
    rows: list[list[ir.Value]],
    biases: list[ir.Value],
    continues: ir.Value | None,
) -> None:
    """The biases, or where the sum continues what lies in y."""

    def fill(at: Callable[[int, int], ir.Value]) -> None:
        for m in range(tile.mr):
            for j in range(tile.nv):
                tile.set(m, j, at(m, j))

    if continues is None:
        fill(lambda m, j: biases[j])
        return
    with b.if_else(continues) as (sums, start_anew):
        with sums:
            fill(lambda m, j: memory.load(rows[m][j], j))
        with start_anew:
            fill(lambda m, j: biases[j])


def places(q: Emit, start: ir.Value, row: ir.Value, vector: ir.Value, mr: int, nv: int) -> list[list[ir.Value]]:
    """Pointers to mr rows `row` bytes apart of nv vectors `vector` bytes apart."""
    firsts = list(accumulate([start] + [row] * (mr - 1), q.offset))
    return [list(accumulate([first] + [vector] * (nv - 1), q.offset)) for first in firsts]


class _Stream:
    """A pointer that moves on with each use."""

    def __init__(self, q: Emit, start: ir.Value, step: ir.Value) -> None:
        self.q, self.step, self.at = q, step, q.variable(PTR)
        q.b.store(start, self.at)

    def next(self) -> ir.Value:
        now = self.q.b.load(self.at, typ=PTR)
        self.q.b.store(self.q.offset(now, self.step), self.at)
        return now


def _reduce(
    q: Emit,
    tile: Tile,
    block: ir.Value,
    x: ir.Value,
    w: ir.Value,
    kernel_d: ir.Value,
    kernel_h: ir.Value,
    xm: int,
    xu: int,
    depth: int,
    coming: _Stream | None,
    before: Prologue | None,
    ragged_end: ir.Value | None,
) -> None:
    """ragged_end: is the end of the last input block INPUT_END? None where all lanes of all blocks are read."""
    b = q.b
    xs_block, xs_d, xs_h, xs_w = (q.slot(block, s) for s in (XS_BLOCK, XS_D, XS_H, XS_W))
    ws_block, ws_d, ws_h = (q.slot(block, s) for s in (WS_BLOCK, WS_D, WS_H))
    step = tile.nv * tile.weights
    blocks = q.slot(block, BLOCKS)
    last = b.select(ragged_end, b.sub(blocks, i64(1)), i64(-1)) if ragged_end else None
    with q.loop(blocks) as c:
        xc, wc = q.offset(x, b.mul(c, xs_block)), q.offset(w, b.mul(c, ws_block))
        ahead = before.ahead(c) if before else q.offset(xc, xs_block)

        def positions(run: Callable[[ir.Value, ir.Value], None], xc: ir.Value = xc, wc: ir.Value = wc) -> None:
            with q.loop(kernel_d) as kd:
                xd, wd = q.offset(xc, b.mul(kd, xs_d)), q.offset(wc, b.mul(kd, ws_d))
                with q.loop(kernel_h) as kh:
                    xh, wh = q.offset(xd, b.mul(kh, xs_h)), q.offset(wd, b.mul(kh, ws_h))
                    with q.loop(q.slot(block, KERNEL_W)) as kw:
                        run(q.offset(xh, b.mul(kw, xs_w)), q.offset(wh, b.mul(kw, i64(depth * step))))

        def whole(xw: ir.Value, ww: ir.Value, ahead: ir.Value = ahead) -> None:
            tile.fma_steps(xw, ww, depth, xm, xu, ahead, coming.next() if coming else None)

        if last is None:
            positions(whole)
        else:
            first = b.select(b.icmp_signed("==", c, i64(0)), q.slot(block, INPUT_FIRST), i64(0))
            end = b.select(b.icmp_signed("==", c, last), q.slot(block, INPUT_END), i64(depth))

            def part(xw: ir.Value, ww: ir.Value, first: ir.Value = first, end: ir.Value = end) -> None:
                with q.loop(end, start=first) as u:
                    tile.fma_step(q.offset(xw, b.mul(u, i64(xu * tile.item))), q.offset(ww, b.mul(u, i64(step))), xm)

            with b.if_else(b.icmp_signed("==", b.sub(end, first), i64(depth))) as (all_lanes, some_lanes):
                with all_lanes:
                    positions(whole)
                with some_lanes:
                    positions(part)
        if before:
            before.compute(c, xs_block)


def _residual_and_clip(q: Emit, tile: Tile, memory: _Memory, block: ir.Value, start: ir.Value) -> None:
    b = q.b
    residual = q.slot(block, EPILOGUE_OPERANDS)
    with q.nonzero(residual):
        stride_block, stride_w = q.slot(block, EPILOGUE_OPERANDS + 1), q.slot(block, EPILOGUE_OPERANDS + 2)
        at = q.offset(q.pointer(residual), b.mul(start, stride_w))
        near = places(q, at, stride_w, stride_block, tile.mr, tile.nv)
        for m in range(tile.mr):
            for j in range(tile.nv):
                tile.set(m, j, b.fadd(tile.get(m, j), memory.load(near[m][j], j)))
    lo, hi = (q.splat(q.slot_f32(block, s), tile.vl) for s in (LO, HI))
    for m in range(tile.mr):
        for j in range(tile.nv):
            tile.set(m, j, clip(q, tile.get(m, j), lo, hi))


def clip(q: Emit, v: ir.Value, lo: ir.Value, hi: ir.Value) -> ir.Value:
    """min(max(v, lo), hi) where NaN in v stays NaN; folds to one maximum and one minimum instruction."""
    b = q.b
    v = b.select(b.fcmp_ordered("<", v, lo), lo, v)
    return b.select(b.fcmp_ordered(">", v, hi), hi, v)


def _store(tile: Tile, memory: _Memory, rows: list[list[ir.Value]]) -> None:
    for j in range(tile.nv):
        for m in range(tile.mr):
            memory.store(tile.get(m, j), rows[m][j], j)


def _apply(
    q: Emit,
    tile: Tile,
    memory: _Memory,
    block: ir.Value,
    start: ir.Value,
    y: ir.Value,
    ys_w: ir.Value,
    ys_block: ir.Value,
    epilogue: Expr,
) -> None:
    """The expression over the tile that was just stored: a loop, because the tile fills the registers."""
    b = q.b
    epilogue_operands = sorted({e for e in operand_indices(epilogue) if e > 0})
    for j in range(tile.nv):
        with q.loop(i64(tile.mr)) as m:
            at = q.offset(y, b.add(b.mul(m, ys_w), b.mul(ys_block, i64(j))))
            values = {0: memory.load(at, j)}
            for e in epilogue_operands:
                slot = EPILOGUE_OPERANDS + EPILOGUE_OPERAND_SIZE * (e - 1)
                stride_block, stride_w = q.slot(block, slot + 1), q.slot(block, slot + 2)
                where = b.add(b.mul(b.add(start, m), stride_w), b.mul(stride_block, i64(j)))
                values[e] = memory.load(q.offset(q.pointer(q.slot(block, slot)), where), j)
            memory.store(expr_code.emit(q, epilogue, values.__getitem__, tile.vl), at, j)


def operand_indices(e: Expr) -> set[int]:
    """Operands that an expression reads."""
    if e.prim == "arg":
        return {e.index}
    return set().union(*(operand_indices(a) for a in e.args)) if e.args else set()
