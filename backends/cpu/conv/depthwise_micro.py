"""Depthwise convolution of one row: MR output pixels at a time, every input vector loaded once."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.conv.conv_row_micro import clip, operand_indices
from graphc.backends.cpu.conv.depthwise_block import DEPTHWISE_ROW, DepthwiseRow
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import I64, PTR, define, i64
from graphc.dtypes import BY_NAME
from graphc.expr import Expr

XS_H, PIXELS, LO, HI = DEPTHWISE_ROW["xs_h pixels lo hi"]
EPILOGUE_OPERANDS, EPILOGUE_OPERAND_SIZE = DEPTHWISE_ROW.size, DEPTHWISE_ROW.record_size
REF, PIXEL = DEPTHWISE_ROW.in_record("ref pixel")


@micro(DepthwiseRow, unroll=False)
def depthwise_row(
    module: ir.Module,
    symbol: str,
    target: Target,
    mr: int,
    kernel_w: int,
    stride: int,
    dilation: int,
    epilogue: Expr | None,
    dtype: str,
) -> None:
    """void(block, x, w, y, bias, kernel rows): rows of x lie XS_H apart and have the halo that the window needs.

    w is [kernel row][kernel column][c]. The last tile overlaps the one before: a row needs at least mr pixels. dtype:
    of the elements of x, w, y and the epilogue's operands, a vector of which is a channel block; they are summed in what it accumulates in, of
    which bias is.
    """
    fn, q = define(module, symbol, [PTR] + [I64] * 5)
    block, x, w, y, bias, kernel_h = fn.args
    b, element, vector = q.b, BY_NAME[dtype], target.vector
    vl = target.lanes(element)
    x, w, y = q.pointer(x), q.pointer(w), q.pointer(y)
    bias = q.load(q.pointer(bias), element.accumulator, vl)
    xs_h, pixels = q.slot(block, XS_H), q.slot(block, PIXELS)
    lo, hi = (q.splat(q.slot_f32(block, s), vl) for s in (LO, HI))
    acc = [q.variable(bias.type) for _ in range(mr)]
    last = b.sub(pixels, i64(mr))
    epilogue_operands = [0] if epilogue is None else sorted(e - 1 for e in operand_indices(epilogue) if e > 0)
    with q.loop(pixels, step=mr) as t:
        start = b.select(b.icmp_signed("<", t, last), t, last)
        for a in acc:
            b.store(bias, a)
        xt = q.offset(x, b.mul(start, i64(stride * vector)))
        with q.loop(kernel_h) as kh:
            xr, wr = q.offset(xt, b.mul(kh, xs_h)), q.offset(w, b.mul(kh, i64(kernel_w * vector)))
            weights = [q.load(q.offset(wr, k * vector), element.numpy, vl) for k in range(kernel_w)]
            for column in range((mr - 1) * stride + (kernel_w - 1) * dilation + 1):
                users = [
                    (p, (column - p * stride) // dilation) for p in range(mr) if (column - p * stride) % dilation == 0
                ]
                users = [(p, k) for p, k in users if 0 <= k < kernel_w]
                if users:
                    v = q.load(q.offset(xr, column * vector), element.numpy, vl)
                    for p, k in users:
                        b.store(q.fma(v, weights[k], b.load(acc[p], typ=v.type)), acc[p])
        at = {
            e: q.pointer(q.slot(block, EPILOGUE_OPERANDS + EPILOGUE_OPERAND_SIZE * e + REF)) for e in epilogue_operands
        }
        steps = {e: q.slot(block, EPILOGUE_OPERANDS + EPILOGUE_OPERAND_SIZE * e + PIXEL) for e in epilogue_operands}
        if epilogue is None:
            with q.nonzero(q.slot(block, EPILOGUE_OPERANDS + REF)):
                for p, a in enumerate(acc):
                    r = q.load(q.offset(at[0], b.mul(steps[0], b.add(start, i64(p)))), element.numpy, vl)
                    b.store(b.fadd(b.load(a, typ=r.type), r), a)
        out = q.offset(y, b.mul(start, i64(vector)))
        for p, a in enumerate(acc):
            v = b.load(a, typ=bias.type)
            if epilogue is None:
                v = clip(q, v, lo, hi)
            else:
                operands = {0: v} | {
                    e + 1: q.load(q.offset(at[e], b.mul(steps[e], b.add(start, i64(p)))), element.numpy, vl)
                    for e in epilogue_operands
                }
                v = expr_code.emit(q, epilogue, operands.__getitem__, vl)
            q.store(v, q.offset(out, p * vector), element.numpy, vl)
    b.ret_void()
