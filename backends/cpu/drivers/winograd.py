"""Winograd convolution: groups of tiles go through input transform, n x n matrix products and output transform while they are
in the cache."""

from __future__ import annotations

from graphc.backends.cpu.blocks.winograd import WINOGRAD, WINOGRAD_IN, WINOGRAD_OUT
from graphc.backends.cpu.codegen.intrinsics import STEP, call6, call7, fill_bytes, store_i64
from graphc.backends.cpu.drivers.work import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.micro.conv import BLOCK_BYTES, MAX_HEIGHTS
from graphc.backends.cpu.micro.conv import BLOCKS as MICRO_BLOCKS
from graphc.backends.cpu.micro.conv import COMING as MICRO_COMING
from graphc.backends.cpu.micro.conv import COMING_STEP as MICRO_COMING_STEP
from graphc.backends.cpu.micro.conv import HI as MICRO_HI
from graphc.backends.cpu.micro.conv import KERNEL_W as MICRO_KERNEL_W
from graphc.backends.cpu.micro.conv import LO as MICRO_LO
from graphc.backends.cpu.micro.conv import PIXELS as MICRO_PIXELS
from graphc.backends.cpu.micro.conv import TILES as MICRO_TILES
from graphc.backends.cpu.micro.conv import WS_BLOCK as MICRO_WS_BLOCK
from graphc.backends.cpu.micro.conv import XS_BLOCK as MICRO_XS_BLOCK
from graphc.backends.cpu.micro.conv import YS_BLOCK as MICRO_YS_BLOCK
from graphc.backends.cpu.micro.conv import YS_W as MICRO_YS_W
from graphc.backends.cpu.micro.winograd import HEAD_BYTES, IN_BLOCK, OUT_BLOCK, PRODUCT_BLOCK

TRANSFORM_IN, GEMM, TRANSFORM_OUT = WINOGRAD["transform_in gemm transform_out"]
X, U, BIAS, Y, ZEROS, N, BLOCKS, TILES = WINOGRAD["x u bias y zeros n blocks tiles"]
OUT_H, OUT_W, IN_H, IN_W, PAD_H, PAD_W = WINOGRAD["out_h out_w in_h in_w pad_h pad_w"]
XS_N, XS_BLOCK, XS_H, YS_N, YS_BLOCK, YS_H = WINOGRAD["xs_n xs_block xs_h ys_n ys_block ys_h"]
GROUP, PARTS, NV, ROWS, REST, REST_ROWS, COMING_BYTES = WINOGRAD["group parts nv rows rest rest_rows coming_bytes"]
LO, HI, SCRATCH, SCRATCH_STRIDE, EXTRAS_COUNT = WINOGRAD["lo hi scratch scratch_stride extras"]
EXTRAS, EXTRA = WINOGRAD.size, WINOGRAD.record_size
EXTRA_REF, EXTRA_N, EXTRA_BLOCK, EXTRA_H, EXTRA_PIXEL = WINOGRAD.in_record("ref n block h pixel")

IN_ROW, IN_POINT, IN_TEMPORARY, IN_ZEROS = WINOGRAD_IN["row point temporary zeros"]
OUT_ROW, OUT_POINT, OUT_TEMPORARY, OUT_LO, OUT_HI = WINOGRAD_OUT["row point temporary lo hi"]
OUT_EXTRAS, OUT_EXTRA = WINOGRAD_OUT.size, WINOGRAD_OUT.record_size
OUT_EXTRA_REF, OUT_EXTRA_ROW, OUT_EXTRA_PIXEL = WINOGRAD_OUT.in_record("ref row pixel")
NO_CLIP_LOW, NO_CLIP_HIGH = 0xFF800000, 0x7F800000  # bits of -inf and inf


@driver("winograd")
def winograd(target, m):
    """Scratch: argument blocks, a temporary tile, V [point][block][GROUP][c], M [point][NV][GROUP][c]; points are an odd number
    of cache lines apart, so that the n x n streams do not fall on the same cache sets."""
    n = m + 2
    points = n * n
    vector = target.vector

    def winograd(a, tid, nth):
        blocks, tiles, out_h, out_w, in_h, in_w = a[BLOCKS], a[TILES], a[OUT_H], a[OUT_W], a[IN_H], a[IN_W]
        group, nv = a[GROUP], a[NV]
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
        into, out_of, product = scratch + IN_BLOCK, scratch + OUT_BLOCK, scratch + PRODUCT_BLOCK
        store_i64(into + 8 * IN_ROW, a[XS_H])
        store_i64(into + 8 * IN_POINT, v_point)
        store_i64(into + 8 * IN_TEMPORARY, temporary)
        store_i64(into + 8 * IN_ZEROS, a[ZEROS])
        store_i64(out_of + 8 * OUT_ROW, a[YS_H])
        store_i64(out_of + 8 * OUT_POINT, m_point)
        store_i64(out_of + 8 * OUT_TEMPORARY, temporary)
        store_i64(out_of + 8 * OUT_LO, a[LO])
        store_i64(out_of + 8 * OUT_HI, a[HI])
        store_i64(out_of + 8 * OUT_EXTRAS, 0)
        for e in range(extras):
            r, to = EXTRAS + EXTRA * e, OUT_EXTRAS + OUT_EXTRA * e
            store_i64(out_of + 8 * (to + OUT_EXTRA_ROW), a[r + EXTRA_H])
            store_i64(out_of + 8 * (to + OUT_EXTRA_PIXEL), a[r + EXTRA_PIXEL])
        fill_bytes(product, BLOCK_BYTES, 0)  # a 1x1 convolution whose pixels are tiles
        store_i64(product + 8 * MICRO_BLOCKS, blocks)
        store_i64(product + 8 * MICRO_KERNEL_W, 1)
        store_i64(product + 8 * MICRO_XS_BLOCK, group * vector)
        store_i64(product + 8 * MICRO_WS_BLOCK, target_vl * nv * vector)
        store_i64(product + 8 * MICRO_YS_W, vector)
        store_i64(product + 8 * MICRO_YS_BLOCK, group * vector)
        store_i64(product + 8 * MICRO_LO, NO_CLIP_LOW)
        store_i64(product + 8 * MICRO_HI, NO_CLIP_HIGH)
        store_i64(product + 8 * MICRO_COMING_STEP, a[COMING_BYTES])

        groups, parts = (total + group - 1) // group, a[PARTS]
        transformed = -1  # the group whose input is in V
        first_item, end = piece(a, groups * parts, nth, 0)
        while first_item < end:
            for k in range(first_item, end):
                first = k // parts * group
                count = min(group, total - first)
                store_i64(product + 8 * MICRO_PIXELS, group if count == group else a[REST])
                for i in range(MAX_HEIGHTS):
                    store_i64(product + 8 * (MICRO_TILES + i), a[(ROWS if count == group else REST_ROWS) + i])
                for block in range(blocks if first != transformed else 0):
                    for t in range(count):
                        image = (first + t) // per_image
                        at = (first + t) - image * per_image
                        th = at // tiles_w
                        h = th * m - a[PAD_H]
                        w = (at - th * tiles_w) * m - a[PAD_W]
                        call7(
                            a[TRANSFORM_IN],
                            into,
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
                        store_i64(product + 8 * MICRO_COMING, weights + panel)
                        call7(
                            a[GEMM],
                            product,
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
                                plane = a[r + EXTRA_REF] + image * a[r + EXTRA_N] + block * a[r + EXTRA_BLOCK]
                                base = plane + h * a[r + EXTRA_H] + w * a[r + EXTRA_PIXEL]
                                store_i64(out_of + 8 * (OUT_EXTRAS + OUT_EXTRA * e + OUT_EXTRA_REF), base)
                            call6(
                                a[TRANSFORM_OUT],
                                out_of,
                                products + (j * group + t) * vector,
                                a[Y] + image * a[YS_N] + block * a[YS_BLOCK] + h * a[YS_H] + w * vector,
                                a[BIAS] + block * vector,
                                min(m, out_h - h),
                                min(m, out_w - w),
                            )
            first_item, end = piece(a, groups * parts, nth, end)

    target_vl = target.vl
    return winograd, STEP
