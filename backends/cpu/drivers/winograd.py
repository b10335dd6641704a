"""Winograd convolution: groups of tiles go through input transform, n x n matrix products and output transform while they are
in the cache."""

from __future__ import annotations

from graphc.backends.cpu.drivers.work import piece
from graphc.backends.cpu.intrinsics import STEP, call6, call7, fill_bytes, store_i64
from graphc.backends.cpu.micro.conv import COMING
from graphc.backends.cpu.toolchain import driver

# fmt: off
(TRANSFORM_IN, GEMM, TRANSFORM_OUT, X, U, BIAS, Y, ZEROS, N, XS_N, YS_N, BLOCKS, TILES, OUT_H, OUT_W, IN_H, IN_W, XS_BLOCK,
 XS_H, YS_BLOCK, YS_H, PAD_H, PAD_W, GROUP, PARTS, NV, MR, LO, HI, SCRATCH, SCRATCH_STRIDE, EXTRAS_COUNT) = range(32)
# fmt: on
EXTRAS = 32  # an extra operand: address, strides of image, channel block, row, pixel
EXTRA = 5
IN_BLOCK, OUT_BLOCK, GEMM_BLOCK = 0, 64, 512  # byte offsets of the micro-kernels' argument blocks in scratch
HEAD_BYTES = 1024
NO_CLIP_LOW, NO_CLIP_HIGH = 0xFF800000, 0x7F800000  # bits of -inf and inf


@driver("winograd")
def winograd(target, m):
    """GROUP tiles at a time, whose output channels may be cut into PARTS. Scratch: argument blocks, a temporary tile, V [point][block][GROUP][c], M [point][NV][GROUP][c];
    points are an odd number of cache lines apart, so that the n x n streams do not fall on the same cache sets."""
    n = m + 2
    points = n * n
    vector = target.vl * 4

    def winograd(a, tid, nth):
        blocks, tiles, out_h, out_w, in_h, in_w = a[BLOCKS], a[TILES], a[OUT_H], a[OUT_W], a[IN_H], a[IN_W]
        group, nv, mr = a[GROUP], a[NV], a[MR]
        tiles_h, tiles_w = (out_h + m - 1) // m, (out_w + m - 1) // m
        per_image = tiles_h * tiles_w
        total = per_image * a[N]
        scratch = a[SCRATCH] + tid * a[SCRATCH_STRIDE]
        temporary = scratch + HEAD_BYTES
        v = temporary + points * vector
        v_point = (blocks * group | 1) * vector
        products = v + points * v_point
        m_point = (nv * group | 1) * vector
        panel = blocks * target_vl * nv * vector
        extras = a[EXTRAS_COUNT]
        store_i64(scratch + IN_BLOCK, a[XS_H])
        store_i64(scratch + IN_BLOCK + 8, v_point)
        store_i64(scratch + IN_BLOCK + 16, temporary)
        store_i64(scratch + IN_BLOCK + 24, a[ZEROS])
        store_i64(scratch + OUT_BLOCK, a[YS_H])
        store_i64(scratch + OUT_BLOCK + 8, m_point)
        store_i64(scratch + OUT_BLOCK + 16, temporary)
        store_i64(scratch + OUT_BLOCK + 24, a[LO])
        store_i64(scratch + OUT_BLOCK + 32, a[HI])
        store_i64(scratch + OUT_BLOCK + 40, 0)
        for e in range(extras):
            store_i64(scratch + OUT_BLOCK + 8 * (5 + 3 * e + 1), a[EXTRAS + EXTRA * e + 3])
            store_i64(scratch + OUT_BLOCK + 8 * (5 + 3 * e + 2), a[EXTRAS + EXTRA * e + 4])
        g = scratch + GEMM_BLOCK  # a 1x1 convolution whose pixels are tiles
        fill_bytes(g, 512, 0)
        store_i64(g, blocks)
        store_i64(g + 8, 1)
        store_i64(g + 16, group * vector)
        store_i64(g + 48, target_vl * nv * vector)
        store_i64(g + 72, vector)
        store_i64(g + 80, group * vector)
        store_i64(g + 96, NO_CLIP_LOW)
        store_i64(g + 104, NO_CLIP_HIGH)

        groups, parts = (total + group - 1) // group, a[PARTS]
        transformed = -1  # the group whose input is in V
        first_item, end = piece(a, groups * parts, nth, 0)
        while first_item < end:
            for k in range(first_item, end):
                first = k // parts * group
                count = min(group, total - first)
                store_i64(g + 88, (count + mr - 1) // mr * mr)
                for block in range(blocks if first != transformed else 0):
                    for t in range(count):
                        image = (first + t) // per_image
                        at = (first + t) - image * per_image
                        th = at // tiles_w
                        h = th * m - a[PAD_H]
                        w = (at - th * tiles_w) * m - a[PAD_W]
                        call7(
                            a[TRANSFORM_IN],
                            scratch + IN_BLOCK,
                            a[X] + image * a[XS_N] + block * a[XS_BLOCK] + h * a[XS_H] + w * vector,
                            v + (block * group + t) * vector,
                            max(0, -h),
                            min(n, in_h - h),
                            max(0, -w),
                            min(n, in_w - w),
                        )
                transformed = first
                part = k % parts
                for tile in range(tiles * part // parts, tiles * (part + 1) // parts):
                    for point in range(points):
                        weights = a[U] + (tile * points + point) * panel
                        store_i64(g + 8 * COMING, weights + panel)
                        call7(
                            a[GEMM],
                            g,
                            v + point * v_point,
                            weights,
                            products + point * m_point,
                            a[ZEROS],
                            1,
                            1,
                        )
                    for j in range(nv):
                        block = tile * nv + j
                        for t in range(count):
                            image = (first + t) // per_image
                            at = (first + t) - image * per_image
                            th = at // tiles_w
                            h = th * m
                            w = (at - th * tiles_w) * m
                            for e in range(extras):
                                r = EXTRAS + EXTRA * e
                                base = a[r] + image * a[r + 1] + block * a[r + 2] + h * a[r + 3] + w * a[r + 4]
                                store_i64(scratch + OUT_BLOCK + 8 * (5 + 3 * e), base)
                            call6(
                                a[TRANSFORM_OUT],
                                scratch + OUT_BLOCK,
                                products + (j * group + t) * vector,
                                a[Y] + image * a[YS_N] + block * a[YS_BLOCK] + h * a[YS_H] + w * vector,
                                a[BIAS] + block * vector,
                                min(m, out_h - h),
                                min(m, out_w - w),
                            )
            first_item, end = piece(a, groups * parts, nth, end)

    target_vl = target.vl
    return winograd, STEP
