"""A convolution of each channel of bytes, or of bfloat16, by itself: a row of pixels of one vector of channels.

Products of bytes are summed in float32, in which these sums are exact (see integer/byte_conv.py for how many).
"""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.integer.byte_conv_block import BYTE_TILE, ByteDepthwiseRow
from graphc.backends.cpu.integer.byte_epilogue_micro import Ending, places_in
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import DOTS
from graphc.backends.cpu.verbs.tail_micro import load
from graphc.backends.llvm.emit import F32, I32, I64, PTR, Emit, define, i64
from graphc.dtypes import FLOAT32, Element, is_integer
from graphc.expr import Expr

ROWS, X_H, X_PIXEL, Y_PIXEL, LANES = BYTE_TILE["rows x_h x_pixel y_pixel lanes"]


@micro(ByteDepthwiseRow, unroll=False)
def byte_depthwise_row(
    module: ir.Module,
    symbol: str,
    target: Target,
    dot: str,
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
    sums = q.vector(F32, vl)
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
                v = _numbers(q, q.offset(xr, b.mul(x_pixel, i64(column))), DOTS[dot].a, vl, mask)
                for p, k in users:
                    b.store(q.fma(v, weights[k], b.load(acc[p], typ=sums)), acc[p])
    ending = Ending(q, target, places_in(q, block, len(operands)), DOTS[dot], epilogue, operands, 1, mask)
    y_pixel = q.slot(block, Y_PIXEL)
    for p, a in enumerate(acc):
        total = b.load(a, typ=sums)
        to = q.offset(y, b.mul(y_pixel, i64(p)))
        ending.write(total if ending.sums == FLOAT32.numpy else b.fptosi(total, q.vector(I32, vl)), to, i64(p), 0)
    b.ret_void()


def _numbers(q: Emit, at: ir.Value, element: Element, vl: int, mask: ir.Value | None) -> ir.Value:
    """A vector of the images in float32."""
    v = load(q, at, element.numpy, vl, mask)
    if not is_integer(element.numpy):
        return v if mask is None else q.widen(v, element.numpy, vl)
    return q.b.sitofp(q.b.zext(v, q.vector(I32, vl)), q.vector(F32, vl))
