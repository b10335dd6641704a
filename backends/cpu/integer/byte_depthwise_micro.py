"""A convolution of each channel of bytes by itself: a row of pixels of one vector of channels.

Products of bytes are summed in float32, in which these sums are exact (see integer/byte_conv.py for how many).
"""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.integer.byte_conv_block import BYTE_TILE, ByteDepthwiseRow
from graphc.backends.cpu.integer.byte_epilogue_micro import Ending
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.verbs.tail_micro import load
from graphc.backends.llvm.emit import F32, I32, I64, PTR, define, i64
from graphc.dtypes import UINT8
from graphc.expr import Expr

ROWS, X_H, X_PIXEL, Y_PIXEL, LANES = BYTE_TILE["rows x_h x_pixel y_pixel lanes"]


@micro(ByteDepthwiseRow, unroll=False)
def byte_depthwise_row(
    module: ir.Module,
    symbol: str,
    target: Target,
    mr: int,
    kernel_w: int,
    stride: int,
    dilation: int,
    masked: bool,
    epilogue: Expr | None,
    operands: tuple[tuple[str, str], ...],
) -> None:
    """void(block, x, w, y): mr pixels, each input vector loaded once for a row of the window.

    w is [row of the window][column][vector] in float32. masked: only the first LANES lanes exist.
    """
    fn, q = define(module, symbol, [PTR, I64, I64, I64])
    block, x, w, y = fn.args
    b, vl, vector = q.b, target.vl, target.vector
    x, w, y = (q.pointer(p) for p in (x, w, y))
    mask = q.lane_mask(q.slot(block, LANES), vl) if masked else None
    wide, sums = q.vector(I32, vl), q.vector(F32, vl)
    acc = [q.variable(sums) for _ in range(mr)]
    for a in acc:
        b.store(q.const(0.0, F32, vl), a)
    x_h, x_pixel = q.slot(block, X_H), q.slot(block, X_PIXEL)
    with q.loop(q.slot(block, ROWS)) as r:
        xr, wr = q.offset(x, b.mul(r, x_h)), q.offset(w, b.mul(r, i64(kernel_w * vector)))
        weights = [q.load_raw(q.offset(wr, k * vector), F32, vl) for k in range(kernel_w)]
        for column in range((mr - 1) * stride + (kernel_w - 1) * dilation + 1):
            users = [(p, column - p * stride) for p in range(mr) if (column - p * stride) % dilation == 0]
            users = [(p, at // dilation) for p, at in users if 0 <= at < kernel_w * dilation]
            if users:
                v = load(q, q.offset(xr, b.mul(x_pixel, i64(column))), UINT8.numpy, vl, mask)
                v = b.sitofp(b.zext(v, wide), sums)
                for p, k in users:
                    b.store(q.fma(v, weights[k], b.load(acc[p], typ=sums)), acc[p])
    ending = Ending(q, target, block, epilogue, operands, 1, mask)
    y_pixel = q.slot(block, Y_PIXEL)
    for p, a in enumerate(acc):
        to = q.offset(y, b.mul(y_pixel, i64(p)))
        ending.write(b.fptosi(b.load(a, typ=sums), wide), to, i64(p), 0)
    b.ret_void()
