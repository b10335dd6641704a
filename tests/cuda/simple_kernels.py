"""Kernels of layers, as one would write them for a GPU. Nothing in them knows of the emulator."""

from __future__ import annotations

import math

from emulated import array_of
from numba import cuda
from numba.cuda.types import float32, int32

F1, F2, I1 = array_of(float32), array_of(float32, 2), array_of(int32)
ALL = 0xFFFFFFFF  # lanes of a warp


def sgemm(a, b, c, m, n, k):
    """C = A B: tiles of 64 x 64 in shared memory, 256 threads, 4 x 4 results of each."""
    a_tile = cuda.shared.array((16, 68), float32)
    b_tile = cuda.shared.array((16, 64), float32)
    t = int32(cuda.threadIdx.x)
    tx, ty = int32(t & 15), int32(t >> 4)
    across = int32((n + 63) // 64)
    m0, n0 = int32(int32(cuda.blockIdx.x) // across * 64), int32(int32(cuda.blockIdx.x) % across * 64)
    sums = cuda.local.array(16, float32)
    for i in range(16):
        sums[i] = float32(0)
    for k0 in range(int32(0), k, int32(16)):
        for i in range(4):
            e = int32(t + i * 256)
            row, column = int32(e >> 4), int32(e & 15)
            a_tile[column, row] = a[m0 + row, k0 + column] if m0 + row < m and k0 + column < k else float32(0)
            row, column = int32(e >> 6), int32(e & 63)
            b_tile[row, column] = b[k0 + row, n0 + column] if k0 + row < k and n0 + column < n else float32(0)
        cuda.syncthreads()
        for kk in range(16):
            for i in range(4):
                x = a_tile[kk, ty * 4 + i]
                for j in range(4):
                    sums[i * 4 + j] += x * b_tile[kk, tx * 4 + j]
        cuda.syncthreads()
    for i in range(4):
        for j in range(4):
            if m0 + ty * 4 + i < m and n0 + tx * 4 + j < n:
                c[m0 + ty * 4 + i, n0 + tx * 4 + j] = sums[i * 4 + j]


@cuda.jit(device=True)
def warp_max(v):
    for step in (16, 8, 4, 2, 1):
        v = max(v, cuda.shfl_xor_sync(ALL, v, step))
    return v


@cuda.jit(device=True)
def warp_sum(v):
    for step in (16, 8, 4, 2, 1):
        v = v + cuda.shfl_xor_sync(ALL, v, step)
    return v


def softmax(x, y, rows, n):
    """A warp for each row, four rows in a block."""
    row = int32(cuda.blockIdx.x * 4 + (cuda.threadIdx.x >> 5))
    lane = int32(cuda.threadIdx.x & 31)
    if row >= rows:
        return
    most = float32(-math.inf)
    for i in range(lane, n, int32(32)):
        most = max(most, x[row, i])
    most = warp_max(most)
    total = float32(0)
    for i in range(lane, n, int32(32)):
        total += math.exp(x[row, i] - most)
    total = warp_sum(total)
    for i in range(lane, n, int32(32)):
        y[row, i] = math.exp(x[row, i] - most) / total


def histogram(x, out, n):
    """256 bins in shared memory, then atomics to global memory."""
    bins = cuda.shared.array(256, int32)
    t = int32(cuda.threadIdx.x)
    bins[t] = int32(0)
    cuda.syncthreads()
    for i in range(int32(cuda.blockIdx.x * 256 + t), n, int32(cuda.gridDim.x * 256)):
        cuda.atomic.add(bins, x[i], int32(1))
    cuda.syncthreads()
    cuda.atomic.add(out, t, bins[t])


def conv(x, w, bias, y, channels, size, kernels, window, stride, pad, out):
    """x[channels, size, size] * w[kernels, channels, window, window], relu. A block: 16 positions and 16 kernels."""
    w_tile = cuda.shared.array((16, 17), float32)
    x_tile = cuda.shared.array((16, 16), float32)
    t = int32(cuda.threadIdx.x)
    tx, ty = int32(t & 15), int32(t >> 4)
    across = int32((out * out + 15) // 16)
    position = int32(int32(cuda.blockIdx.x) % across * 16 + tx)
    k = int32(int32(cuda.blockIdx.x) // across * 16 + ty)
    row, column = int32(position // int32(out)), int32(position % int32(out))
    total = float32(0)
    for c0 in range(int32(0), channels, int32(16)):
        for r in range(window):
            for s in range(window):
                c = int32(c0 + tx)
                inside = k < kernels and c < channels
                w_tile[ty, tx] = w[((k * channels + c) * window + r) * window + s] if inside else float32(0)
                ih, iw, c = int32(row * stride + r - pad), int32(column * stride + s - pad), int32(c0 + ty)
                inside = position < out * out and c < channels and ih >= 0 and ih < size and iw >= 0 and iw < size
                x_tile[ty, tx] = x[(c * size + ih) * size + iw] if inside else float32(0)
                cuda.syncthreads()
                for i in range(16):
                    total += w_tile[ty, i] * x_tile[i, tx]
                cuda.syncthreads()
    if position < out * out and k < kernels:
        y[k * out * out + position] = max(total + bias[k], float32(0))


SGEMM = (F2, F2, F2, int32, int32, int32)
SOFTMAX = (F2, F2, int32, int32)
HISTOGRAM = (I1, I1, int32)
CONV = (F1, F1, F1, F1, *[int32] * 7)
