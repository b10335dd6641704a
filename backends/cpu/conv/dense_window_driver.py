"""Windowed operators on dense values of any number dtype and any strides: plain loops.

They serve what the blocked kernels do not: float64 and integers, weights that are computed at run time, indices.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

from graphc.backends.cpu.codegen.intrinsics import STEP, call4, store_i64, typed_memory
from graphc.backends.cpu.conv.dense_window_block import CONV_DENSE, DENSE_WINDOW, POOL_DENSE, ConvDense, PoolDense
from graphc.backends.cpu.conv.window_njit import counted, window
from graphc.backends.cpu.executor.work_njit import row_of
from graphc.backends.cpu.kernel import driver

X, Y, N, CHANNELS = DENSE_WINDOW["x y n channels"]
IN_D, IN_H, IN_W, OUT_D, OUT_H, OUT_W = DENSE_WINDOW["in_d in_h in_w out_d out_h out_w"]
K_D, K_H, K_W, S_D, S_H, S_W = DENSE_WINDOW["k_d k_h k_w s_d s_h s_w"]
D_D, D_H, D_W, P_D, P_H, P_W = DENSE_WINDOW["d_d d_h d_w p_d p_h p_w"]
XS_N, XS_C, XS_D, XS_H, XS_W = DENSE_WINDOW["xs_n xs_c xs_d xs_h xs_w"]
YS_N, YS_C, YS_D, YS_H, YS_W = DENSE_WINDOW["ys_n ys_c ys_d ys_h ys_w"]

W, BIAS, BIAS_STEP, GROUPS, PER_GROUP, ADD_SCALED = CONV_DENSE["w bias bias_step groups per_group add_scaled"]
WS_O, WS_I, WS_D, WS_H, WS_W = CONV_DENSE["ws_o ws_i ws_d ws_h ws_w"]

END_D, END_H, END_W, PADDED, NORM = POOL_DENSE["end_d end_h end_w padded norm"]
INDICES, INDEX_D, INDEX_H, INDEX_W = POOL_DENSE["indices index_d index_h index_w"]


@njit(error_model="numpy")
def _undo_stride(position, stride):
    """position / stride, or -1 where that is no whole number."""
    return position // stride if position % stride == 0 else -1


@driver(ConvDense, computes=True)
def conv_dense(target, dtype: str, transposed: bool):
    """Convolution, or its transpose, with weights in memory as they are."""
    kind, item = getattr(types, dtype), np.dtype(dtype).itemsize
    load, store = typed_memory(kind)

    def conv_dense(a, tid, nth):
        out_d, out_h, out_w, in_d, in_h, in_w = a[OUT_D], a[OUT_H], a[OUT_W], a[IN_D], a[IN_H], a[IN_W]
        channels, per_in = a[CHANNELS], a[PER_GROUP]
        per_out = channels // a[GROUPS]
        stride, step, xs, ys, ys_h = a[S_W], a[D_W], a[XS_W], a[YS_W], a[YS_H]
        dense = stride == 1 and xs == item and ys == item
        work = a[N] * channels * out_d
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            d = k % out_d
            rest = k // out_d
            n = rest // channels
            o = rest - n * channels
            plane = a[Y] + n * a[YS_N] + o * a[YS_C] + d * a[YS_D]
            bias = kind(0)
            if a[BIAS] != 0:
                bias = load(a[BIAS] + o * a[BIAS_STEP])
            for h in range(out_h):
                for i in range(out_w):
                    store(plane + h * ys_h + i * ys, bias)
            for c in range(per_in):
                image = a[X] + n * a[XS_N] + (o // per_out * per_in + c) * a[XS_C]
                taps = a[W] + o * a[WS_O] + c * a[WS_I]
                if transposed:  # weights [in, out of the group, …]
                    taps = a[W] + (o // per_out * per_in + c) * a[WS_I] + o % per_out * a[WS_O]
                for kd in range(a[K_D]):
                    at_d = d * a[S_D] - a[P_D] + kd * a[D_D]
                    if transposed:
                        at_d = _undo_stride(d + a[P_D] - kd * a[D_D], a[S_D])
                    if at_d < 0 or at_d >= in_d:
                        continue
                    for kh in range(a[K_H]):
                        for kw in range(a[K_W]):
                            tap = taps + kd * a[WS_D] + kh * a[WS_H] + kw * a[WS_W]
                            factor = load(tap)
                            shift = kw * step - a[P_W]  # of the strided side against the other
                            wide = out_w if transposed else in_w
                            first = max(0, -(shift // stride))
                            last = min(in_w if transposed else out_w, (wide - 1 - shift) // stride + 1)
                            for h in range(out_h):
                                at_h = h * a[S_H] - a[P_H] + kh * a[D_H]
                                if transposed:
                                    at_h = _undo_stride(h + a[P_H] - kh * a[D_H], a[S_H])
                                if at_h < 0 or at_h >= in_h or last <= first:
                                    continue
                                line, row = image + at_d * a[XS_D] + at_h * a[XS_H], plane + h * ys_h
                                if dense:
                                    x0, y0 = (first, first + shift) if transposed else (first + shift, first)
                                    call4(a[ADD_SCALED], line + x0 * xs, row + y0 * ys, last - first, tap)
                                    continue
                                for i in range(first, last):
                                    j = i * stride + shift
                                    to = row + (j if transposed else i) * ys
                                    store(to, load(to) + factor * load(line + (i if transposed else j) * xs))

    return conv_dense, STEP


@driver(PoolDense, computes=True)
def pool_dense(target, op: str, dtype: str):
    """op: 'max' (NaN wins; also writes the flat index of the first maximum where INDICES is not 0), 'average', 'lp'."""
    kind = getattr(types, dtype)
    load, store = typed_memory(kind)
    lowest = kind(np.iinfo(dtype).min if np.dtype(dtype).kind in "iu" else -np.inf)
    is_max, is_average = op == "max", op == "average"

    def pool_dense(a, tid, nth):
        out_d, out_h, out_w, in_d, in_h, in_w = a[OUT_D], a[OUT_H], a[OUT_W], a[IN_D], a[IN_H], a[IN_W]
        channels, padded, p = a[CHANNELS], a[PADDED], a[NORM]
        d_w, xs_w, index_w = a[D_W], a[XS_W], a[INDEX_W]
        plane = in_d * in_h * in_w
        indices = a[INDICES]
        work = a[N] * channels * out_d * out_h
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            n, c, d, h = row_of(k, channels, out_d, out_h)
            from_d, from_h = d * a[S_D] - a[P_D], h * a[S_H] - a[P_H]
            d0, d1 = window(from_d, a[D_D], a[K_D], in_d)
            h0, h1 = window(from_h, a[D_H], a[K_H], in_h)
            high = 1
            if is_average:
                high = counted(from_d, a[D_D], a[K_D], in_d, a[P_D], a[END_D], padded)
                high *= counted(from_h, a[D_H], a[K_H], in_h, a[P_H], a[END_H], padded)
            x = a[X] + n * a[XS_N] + c * a[XS_C]
            y = a[Y] + n * a[YS_N] + c * a[YS_C] + d * a[YS_D] + h * a[YS_H]
            for w in range(out_w):
                from_w = w * a[S_W] - a[P_W]
                w0, w1 = window(from_w, a[D_W], a[K_W], in_w)
                best = lowest if is_max else kind(0)
                where = -1
                if is_max and d0 < d1 and h0 < h1 and w0 < w1:
                    at_d, at_h, at_w = from_d + d0 * a[D_D], from_h + h0 * a[D_H], from_w + w0 * d_w
                    best = load(x + at_d * a[XS_D] + at_h * a[XS_H] + at_w * xs_w)
                    where = at_d * a[INDEX_D] + at_h * a[INDEX_H] + at_w * index_w
                for kd in range(d0, d1):
                    at_d = from_d + kd * a[D_D]
                    for kh in range(h0, h1):
                        at_h = from_h + kh * a[D_H]
                        line = x + at_d * a[XS_D] + at_h * a[XS_H]
                        place = at_d * a[INDEX_D] + at_h * a[INDEX_H]
                        for kw in range(w0, w1):
                            at_w = from_w + kw * d_w
                            v = load(line + at_w * xs_w)
                            if is_max:  # no branches: which element wins is not to be predicted
                                keep = (v <= best) | (best != best)
                                best = best if keep else v
                                where = where if keep else place + at_w * index_w
                            elif is_average:
                                best += v
                            else:
                                power = abs(v)
                                for _ in range(p - 1):
                                    power *= abs(v)
                                best += power
                if is_average:
                    count = high * counted(from_w, a[D_W], a[K_W], in_w, a[P_W], a[END_W], padded)
                    best = best / kind(count) if count > 0 else kind(np.nan)
                elif not is_max and p != 1:
                    best = kind(math.sqrt(best)) if p == 2 else best ** (kind(1) / kind(p))
                store(y + w * a[YS_W], best)
                if is_max and indices != 0:
                    store_i64(indices + 8 * (k * out_w + w), where + (n * channels + c) * plane)

    return pool_dense, STEP
