"""One row of output pixels of a convolution from planes to few channels: pixels in the lanes, output channels in registers.

A vector of channels would be mostly padding there. Called like `conv_row`, with its argument block, where a channel's plane is
an input block. Vectors of pixels become pixels of channels as they are stored.
"""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.conv.conv_row_block import ConvPlanesRow
from graphc.backends.cpu.conv.conv_row_micro import (
    BLOCKS,
    HI,
    KERNEL_W,
    LO,
    PIXELS,
    WS_BLOCK,
    WS_D,
    WS_H,
    XS_BLOCK,
    XS_D,
    XS_H,
    XS_W,
    YS_W,
    clip,
)
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import F32, I32, I64, PTR, Emit, define, i64
from graphc.dtypes import FLOAT32
from graphc.expr import Expr


@micro(ConvPlanesRow)
def conv_planes_row(
    module: ir.Module, symbol: str, target: Target, channels: int, vectors: int, columns: int, epilogue: Expr | None
) -> None:
    """void(block, x, w, y, bias, planes and rows of the window).

    channels: of the output, at most half a vector; the other lanes of a pixel become 0. vectors: of pixels at a time; each
    begins early enough to end with the row, which has at least one. columns: of the window, adjacent and unrolled; 0: KERNEL_W
    of them in a loop, XS_W bytes apart. Adjacent pixels are one element apart in x. w: for each position of the window `channels`
    weights; bias alike. epilogue: of arg 0 = acc alone, or None: clip(acc, LO, HI).
    """
    fn, q = define(module, symbol, [PTR, I64, I64, I64, I64, I64, I64])
    block, x, w, y, bias, kernel_d, kernel_h = fn.args
    b, vl, item = q.b, target.vl, FLOAT32.item
    x, w, y, bias = (q.pointer(p) for p in (x, w, y, bias))
    kind = ir.VectorType(F32, vl)
    pixels, ys_w = q.slot(block, PIXELS), q.slot(block, YS_W)
    last = b.sub(pixels, i64(vl))
    acc = [[q.variable(kind) for _ in range(vectors)] for _ in range(channels)]
    with q.loop(pixels, step=vectors * vl) as t:
        starts = []
        for j in range(vectors):
            start = b.add(t, i64(j * vl))
            starts.append(b.select(b.icmp_signed("<", start, last), start, last))
        for m, row in enumerate(acc):
            first = q.splat(q.load_raw(q.offset(bias, item * m), F32, 1), vl)
            for a in row:
                b.store(first, a)
        _reduce(q, block, [q.offset(x, b.mul(s, i64(item))) for s in starts], w, kernel_d, kernel_h, acc, vl, columns)
        for j, start in enumerate(starts):
            planes = [_finish(q, block, b.load(row[j], typ=kind), epilogue, vl) for row in acc]
            at = q.offset(y, b.mul(start, ys_w))
            for k, pixel in enumerate(_pixels(q, planes, vl)):
                q.store_raw(pixel, q.offset(at, b.mul(ys_w, i64(k))))
    b.ret_void()


def _reduce(
    q: Emit,
    block: ir.Value,
    xs: list[ir.Value],
    w: ir.Value,
    kernel_d: ir.Value,
    kernel_h: ir.Value,
    acc: list[list[ir.Value]],
    vl: int,
    columns: int,
) -> None:
    """acc += weights * x, over planes and window."""
    b, kind, item = q.b, ir.VectorType(F32, vl), FLOAT32.item
    xs_block, xs_d, xs_h = (q.slot(block, s) for s in (XS_BLOCK, XS_D, XS_H))
    ws_block, ws_d, ws_h = (q.slot(block, s) for s in (WS_BLOCK, WS_D, WS_H))
    with q.loop(q.slot(block, BLOCKS)) as c, q.loop(kernel_d) as kd, q.loop(kernel_h) as kh:
        row = b.add(b.mul(c, xs_block), b.add(b.mul(kd, xs_d), b.mul(kh, xs_h)))
        taps = q.offset(w, b.add(b.mul(c, ws_block), b.add(b.mul(kd, ws_d), b.mul(kh, ws_h))))
        rows = [q.offset(x, row) for x in xs]

        def tap(x_offset: int | ir.Value, w_offset: int | ir.Value) -> None:
            vectors = [q.load_raw(q.offset(r, x_offset), F32, vl) for r in rows]
            at = q.offset(taps, w_offset)
            for m, sums in enumerate(acc):
                weight = q.splat(q.load_raw(q.offset(at, item * m), F32, 1), vl)
                for a, v in zip(sums, vectors):
                    b.store(q.fma(v, weight, b.load(a, typ=kind)), a)

        for k in range(columns):
            tap(item * k, item * k * len(acc))
        if not columns:
            with q.loop(q.slot(block, KERNEL_W)) as kw:
                tap(b.mul(kw, q.slot(block, XS_W)), b.mul(kw, i64(item * len(acc))))


def _finish(q: Emit, block: ir.Value, v: ir.Value, epilogue: Expr | None, vl: int) -> ir.Value:
    if epilogue is not None:
        return expr_code.emit(q, epilogue, [v], vl)
    lo, hi = (q.splat(q.slot_f32(block, s), vl) for s in (LO, HI))
    return clip(q, v, lo, hi)


def _pixels(q: Emit, planes: list[ir.Value], vl: int) -> list[ir.Value]:
    """Vectors of vl pixels, one per channel -> for each pixel its channels, then zeros.

    Both halves of the vectors are transposed at once, by rounds of shuffles of two vectors as in `micro.transpose`.
    """
    n = vl // 2
    zero = q.const(0.0, F32, vl)
    rows = planes + [zero] * (n - len(planes))
    h = n // 2
    while h:
        out = list(rows)
        for i in range(n):
            if not i & h:
                one, two = rows[i], rows[i | h]
                out[i] = _shuffle(q, one, two, [k if not k & h else vl + (k ^ h) for k in range(vl)])
                out[i | h] = _shuffle(q, one, two, [(k | h) if not k & h else vl + k for k in range(vl)])
        rows = out
        h //= 2
    low, high = ([*range(start, start + n), *range(vl, vl + n)] for start in (0, n))
    return [_shuffle(q, row, zero, half) for half in (low, high) for row in rows]


def _shuffle(q: Emit, one: ir.Value, two: ir.Value, lanes: list[int]) -> ir.Value:
    return q.b.shuffle_vector(one, two, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))
