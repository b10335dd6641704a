"""Convolutions in tiles, and one channel at a time."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import cuda
from numba.cuda.types import int32, uint32

from graphc.backends.cuda.codegen.device import register, word
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.guarded import divide, divide_wide
from graphc.backends.cuda.codegen.threads import thread_number
from graphc.backends.cuda.conv.conv_block import CONV, DEPTHWISE, Conv, Depthwise
from graphc.backends.cuda.conv.runs_kernels import each, filled, finish_run, load_run
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.lower.epilogue import summed
from graphc.backends.cuda.product.tile import Tile
from graphc.backends.cuda.product.tile_kernels import tiled
from graphc.expr import Expr
from graphc.types import dtype_from_name


@makes(Conv)
def conv(dtype: str, tile: Tile, expression: Expr, operands: tuple[str, ...]) -> Code:
    return tiled(CONV, True, dtype, tile, expression, operands)


def image_place_in(run: int) -> Callable[[int, int, int], tuple[int, int, int]]:
    """image_place(i, channels, pixels): image, (first) channel and pixel of thread i; run: as of `TensorConv`."""

    @cuda.jit(device=True)
    def image_place(i, channels, pixels):
        inner = channels // run if run else pixels
        outer = pixels if run else channels
        row = divide_wide(i, inner)
        near = int32(i - row * inner)
        n = int32(divide_wide(row, outer))
        far = int32(row - n * outer)
        if run:
            return n, int32(near * run), far
        return n, far, near

    return image_place


def _multiplied(q: CudaEmit, total: ir.Value, x: ir.Value, w: ir.Value) -> ir.Value:
    b = q.b
    if isinstance(total.type, ir.IntType):
        return b.add(total, b.mul(x, w))
    return b.fadd(total, b.fmul(x, w))


@makes(Depthwise)
def depthwise(
    dtype: str, deep: bool, run: int, wide: tuple[bool, ...], expression: Expr, operands: tuple[str, ...]
) -> Code:
    kind = register(summed(dtype_from_name(dtype)))
    TOTAL, CHANNELS, GROUP, PIXELS = DEPTHWISE["total channels group pixels"]
    X, X_N, X_C, X_D, X_H, X_W = DEPTHWISE["x x_n x_c x_d x_h x_w"]
    W, W_C, W_D, W_H, W_W = DEPTHWISE["w w_c w_d w_h w_w"]
    IN_D, IN_H, IN_W, OUT_H, OUT_W = DEPTHWISE["in_d in_h in_w out_h out_w"]
    K_D, K_H, K_W, D_D, D_H, D_W = DEPTHWISE["k_d k_h k_w d_d d_h d_w"]
    S_D, S_H, S_W, P_D, P_H, P_W = DEPTHWISE["s_d s_h s_w p_d p_h p_w"]
    EACH = max(run, 1)
    get, zeros, place = load_run(dtype, EACH), filled(kind, EACH), image_place_in(run)
    add, store = each(_multiplied, kind, EACH, 3), finish_run(DEPTHWISE, kind, expression, operands, EACH, wide)

    def depthwise(a):
        i = thread_number(THREADS)
        if i < word(a, TOTAL):
            n, channel, c = place(i, word(a, CHANNELS), word(a, PIXELS))
            out_w, out_h = int32(word(a, OUT_W)), int32(word(a, OUT_H))
            line = divide(c, out_w)
            d = divide(line, out_h) if deep else int32(0)
            w = int32(c - line * out_w)
            h = int32(line - d * out_h)
            in_d, in_h, in_w = uint32(word(a, IN_D)), uint32(word(a, IN_H)), uint32(word(a, IN_W))
            x_d, x_h, x_w = word(a, X_D), word(a, X_H), word(a, X_W)
            first_h = int32(h * word(a, S_H) - word(a, P_H))
            first_w = int32(w * word(a, S_W) - word(a, P_W))
            at_d = int32(d * word(a, S_D) - word(a, P_D)) if deep else int32(0)
            plane = word(a, X) + n * word(a, X_N) + divide(channel, int32(word(a, GROUP))) * word(a, X_C)
            taps_d = word(a, W) + channel * word(a, W_C)
            k_h, k_w = int32(word(a, K_H)), int32(word(a, K_W))
            d_h, d_w = int32(word(a, D_H)), int32(word(a, D_W))
            w_h, w_w = word(a, W_H), word(a, W_W)
            totals = zeros(kind(0))
            for _ in range(int32(word(a, K_D)) if deep else int32(1)):
                if uint32(at_d) < in_d:
                    at_h, taps_h = first_h, taps_d
                    for _ in range(k_h):
                        if uint32(at_h) < in_h:
                            at_w, tap = first_w, taps_h
                            line_at = plane + at_d * x_d + at_h * x_h
                            for _ in range(k_w):
                                if uint32(at_w) < in_w:
                                    totals = add(totals, get(line_at + at_w * x_w), get(tap))
                                at_w = int32(at_w + d_w)
                                tap += w_w
                        at_h = int32(at_h + d_h)
                        taps_h += w_h
                at_d = int32(at_d + int32(word(a, D_D)))
                taps_d += word(a, W_D)
            store(a, True, w, h, d, channel, 0, n, 0, 0, totals)

    return Code(depthwise, THREADS)
