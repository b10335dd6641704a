"""One tile of a convolution of bytes, or of bfloat16: some pixels of a row times a panel of output channels."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.integer.byte_conv_block import BYTE_TILE, ByteConvTile, begins_bytes
from graphc.backends.cpu.integer.byte_epilogue_micro import Ending, places_in
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.product.byte_tile_micro import ByteRows
from graphc.backends.cpu.product.product_micro import on_stack
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import DOTS
from graphc.backends.llvm.emit import I64, PTR, define, i64, register_type
from graphc.expr import Expr

ROWS, RUNS, STEPS, X_H, X_RUN, X_PIXEL, Y_PIXEL, Y_VECTOR, LANES = BYTE_TILE[
    "rows runs steps x_h x_run x_pixel y_pixel y_vector lanes"
]
UNROLL = 4  # steps: sixteen bytes of a pixel


@micro(ByteConvTile, unroll=False)
def byte_conv_tile(
    module: ir.Module,
    symbol: str,
    target: Target,
    dot: str,
    mr: int,
    nv: int,
    masked: bool,
    epilogue: Expr | None,
    operands: tuple[tuple[str, str], ...],
) -> None:
    """void(block, x, w, y): mr pixels, X_PIXEL bytes apart, times nv vectors of output channels.

    w: what the sums begin with, where that is not 0, and [row of the window][run][step][nv vectors] as tile/dot.py packs a step.
    masked: only the first LANES lanes of the last vector exist in the result.
    """
    fn, q = define(module, symbol, [PTR, I64, I64, I64])
    block, x, w, y = fn.args
    b = q.b
    x, w, y = (q.pointer(p) for p in (x, w, y))
    tile = ByteRows(q, target, mr, nv, q.slot(block, X_PIXEL), DOTS[dot])
    begins = begins_bytes(DOTS[dot], nv * tile.vl)
    for i, a in enumerate(tile.flat):
        first = tile.load(q.offset(w, i % nv * tile.vector)) if begins else q.const(0, tile.element, tile.vl)
        b.store(first, a)
    w = q.offset(w, begins)
    steps, x_h, x_run = q.slot(block, STEPS), q.slot(block, X_H), q.slot(block, X_RUN)
    step = nv * tile.weights
    whole = b.and_(steps, i64(-UNROLL))
    runs = q.slot(block, RUNS)
    with q.loop(q.slot(block, ROWS)) as r, q.loop(runs) as t:
        xr = q.offset(x, b.add(b.mul(r, x_h), b.mul(t, x_run)))
        wr = q.offset(w, b.mul(b.mul(b.add(b.mul(r, runs), t), steps), i64(step)))
        with q.loop(whole, step=UNROLL) as k:
            xk = q.offset(xr, b.mul(k, i64(tile.item)))
            tile.fma_steps(xk, q.offset(wr, b.mul(k, i64(step))), UNROLL, 1, 1, xk)
        with q.loop(steps, start=whole) as k:
            tile.fma_step(q.offset(xr, b.mul(k, i64(tile.item))), q.offset(wr, b.mul(k, i64(step))), 1)
    mask = q.lane_mask(q.slot(block, LANES), tile.vl) if masked else None
    ending = Ending(q, target, places_in(q, block, len(operands)), DOTS[dot], epilogue, operands, nv, mask)
    y_pixel, y_vector = q.slot(block, Y_PIXEL), q.slot(block, Y_VECTOR)
    kept, sums, words = on_stack(q, tile), register_type(ending.sums), tile.vl
    with q.loop(i64(mr)) as m:
        for j in range(nv):
            at = q.offset(kept, b.add(b.mul(m, i64(nv * tile.vector)), i64(j * tile.vector)))
            to = q.offset(y, b.add(b.mul(m, y_pixel), b.mul(y_vector, i64(j))))
            ending.write(q.load_raw(at, sums, words), to, m, j)
    b.ret_void()
