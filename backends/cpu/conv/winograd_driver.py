"""Winograd convolution: groups of tiles go through input transform, n x n matrix products and output transform while they are
in the cache."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import STEP, call6, call7, store_i64
from graphc.backends.cpu.conv.conv_row_block import CONV_ROW, MAX_HEIGHTS
from graphc.backends.cpu.conv.row_block_njit import NO_CLIP_HIGH, NO_CLIP_LOW, start_block
from graphc.backends.cpu.conv.winograd_block import WINOGRAD, WINOGRAD_IN, WINOGRAD_OUT, Winograd
from graphc.backends.cpu.conv.winograd_micro import HEAD_BYTES, IN_BLOCK, OUT_BLOCK, PRODUCT_BLOCK
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver

TRANSFORM_IN, GEMM, TRANSFORM_OUT = WINOGRAD["transform_in gemm transform_out"]
X, U, BIAS, Y, ZEROS, N, BLOCKS, TILES = WINOGRAD["x u bias y zeros n blocks tiles"]
OUT_H, OUT_W, IN_H, IN_W, PAD_H, PAD_W = WINOGRAD["out_h out_w in_h in_w pad_h pad_w"]
XS_N, XS_BLOCK, XS_H, YS_N, YS_BLOCK, YS_H = WINOGRAD["xs_n xs_block xs_h ys_n ys_block ys_h"]
GROUP, PARTS, NV, ROWS, REST, REST_ROWS, COMING_BYTES = WINOGRAD["group parts nv rows rest rest_rows coming_bytes"]
LO, HI, SCRATCH, SCRATCH_STRIDE, OPERANDS_COUNT = WINOGRAD["lo hi scratch scratch_stride epilogue_operands"]
OPERANDS_AT, OPERAND_SIZE = WINOGRAD.size, WINOGRAD.record_size
OPERAND_REF, OPERAND_N, OPERAND_BLOCK, OPERAND_H, OPERAND_PIXEL = WINOGRAD.in_record("ref n block h pixel")

IN_ROW, IN_POINT, IN_TEMPORARY, IN_ZEROS = WINOGRAD_IN["row point temporary zeros"]
OUT_ROW, OUT_POINT, OUT_TEMPORARY, OUT_LO, OUT_HI = WINOGRAD_OUT["row point temporary lo hi"]
OUT_OPERANDS_AT, OUT_OPERAND_SIZE = WINOGRAD_OUT.size, WINOGRAD_OUT.record_size
OUT_OPERAND_REF, OUT_OPERAND_ROW, OUT_OPERAND_PIXEL = WINOGRAD_OUT.in_record("ref row pixel")

MICRO_KERNEL_W, MICRO_PIXELS, MICRO_TILES = CONV_ROW["kernel_w pixels tiles"]
MICRO_XS_BLOCK, MICRO_WS_BLOCK, MICRO_COMING, MICRO_COMING_STEP = CONV_ROW["xs_block ws_block coming coming_step"]


@njit(error_model="numpy")
def _start_transforms(a, scratch, v_point, m_point):
    """The blocks of both transforms. v_point, m_point: from point to point of V and M."""
    into, out_of, temporary = scratch + IN_BLOCK, scratch + OUT_BLOCK, scratch + HEAD_BYTES
    store_i64(into + 8 * IN_ROW, a[XS_H])
    store_i64(into + 8 * IN_POINT, v_point)
    store_i64(into + 8 * IN_TEMPORARY, temporary)
    store_i64(into + 8 * IN_ZEROS, a[ZEROS])
    store_i64(out_of + 8 * OUT_ROW, a[YS_H])
    store_i64(out_of + 8 * OUT_POINT, m_point)
    store_i64(out_of + 8 * OUT_TEMPORARY, temporary)
    store_i64(out_of + 8 * OUT_LO, a[LO])
    store_i64(out_of + 8 * OUT_HI, a[HI])
    store_i64(out_of + 8 * (OUT_OPERANDS_AT + OUT_OPERAND_REF), 0)
    for e in range(a[OPERANDS_COUNT]):
        r, to = OPERANDS_AT + OPERAND_SIZE * e, OUT_OPERANDS_AT + OUT_OPERAND_SIZE * e
        store_i64(out_of + 8 * (to + OUT_OPERAND_ROW), a[r + OPERAND_H])
        store_i64(out_of + 8 * (to + OUT_OPERAND_PIXEL), a[r + OPERAND_PIXEL])


@njit(error_model="numpy")
def _start_product(a, product, c, vector):
    """The block of the products: 1x1 convolutions whose pixels are tiles."""
    start_block(product, a[BLOCKS], vector, a[GROUP] * vector, NO_CLIP_LOW, NO_CLIP_HIGH)
    store_i64(product + 8 * MICRO_KERNEL_W, 1)
    store_i64(product + 8 * MICRO_XS_BLOCK, a[GROUP] * vector)
    store_i64(product + 8 * MICRO_WS_BLOCK, c * a[NV] * vector)
    store_i64(product + 8 * MICRO_COMING_STEP, a[COMING_BYTES])


@njit(error_model="numpy")
def _grid(a, m):
    """Tiles of a row and of an image."""
    tiles_w = (a[OUT_W] + m - 1) // m
    return tiles_w, (a[OUT_H] + m - 1) // m * tiles_w


@njit(error_model="numpy")
def _tile(t, m, tiles_w, per_image):
    """(image, first row, first column) of the outputs of a tile. tiles_w, per_image: see `_grid`."""
    image = t // per_image
    at = t - image * per_image
    row = at // tiles_w
    return image, row * m, (at - row * tiles_w) * m


@njit(error_model="numpy")
def _transform_in(a, block, first, count, v, m, vector):
    """All channels of `count` tiles of the input into V."""
    n = m + 2
    tiles_w, per_image = _grid(a, m)
    for b in range(a[BLOCKS]):
        for t in range(count):
            image, h, w = _tile(first + t, m, tiles_w, per_image)
            h -= a[PAD_H]
            w -= a[PAD_W]
            call7(
                a[TRANSFORM_IN],
                block,
                a[X] + image * a[XS_N] + b * a[XS_BLOCK] + h * a[XS_H] + w * vector,
                v + (b * a[GROUP] + t) * vector,
                max(0, -h),
                min(n, a[IN_H] - h),
                max(0, -w),
                min(n, a[IN_W] - w),
            )


@njit(error_model="numpy")
def _transform_out(a, out_of, first, count, b, products, m, vector):
    """One block of channels of `count` tiles of the result from M."""
    tiles_w, per_image = _grid(a, m)
    for t in range(count):
        image, h, w = _tile(first + t, m, tiles_w, per_image)
        for e in range(a[OPERANDS_COUNT]):
            r = OPERANDS_AT + OPERAND_SIZE * e
            plane = a[r + OPERAND_REF] + image * a[r + OPERAND_N] + b * a[r + OPERAND_BLOCK]
            near = plane + h * a[r + OPERAND_H] + w * a[r + OPERAND_PIXEL]
            store_i64(out_of + 8 * (OUT_OPERANDS_AT + OUT_OPERAND_SIZE * e + OUT_OPERAND_REF), near)
        call6(
            a[TRANSFORM_OUT],
            out_of,
            products + t * vector,
            a[Y] + image * a[YS_N] + b * a[YS_BLOCK] + h * a[YS_H] + w * vector,
            a[BIAS] + b * vector,
            min(m, a[OUT_H] - h),
            min(m, a[OUT_W] - w),
        )


@driver(Winograd)
def winograd(target, m):
    """Scratch: argument blocks, a temporary tile, V [point][block][GROUP][c], M [point][NV][GROUP][c]; points are an odd number
    of cache lines apart, so that the n x n streams do not fall on the same cache sets."""
    n = m + 2
    points = n * n
    c = target.vl
    vector = target.vector

    def winograd(a, tid, nth):
        blocks, tiles, group, nv = a[BLOCKS], a[TILES], a[GROUP], a[NV]
        _, per_image = _grid(a, m)
        total = per_image * a[N]
        scratch = a[SCRATCH] + tid * a[SCRATCH_STRIDE]
        v = scratch + HEAD_BYTES + points * vector
        v_point = (blocks * group | 1) * vector
        products = v + points * v_point
        m_point = (nv * group | 1) * vector
        panel = blocks * c * nv * vector
        product = scratch + PRODUCT_BLOCK
        _start_transforms(a, scratch, v_point, m_point)
        _start_product(a, product, c, vector)
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
                if first != transformed:
                    _transform_in(a, scratch + IN_BLOCK, first, count, v, m, vector)
                transformed = first
                part = k % parts
                for tile in range(tiles * part // parts, tiles * (part + 1) // parts):
                    for point in range(points):
                        weights = a[U] + (tile * points + point) * panel
                        store_i64(product + 8 * MICRO_COMING, weights + panel)
                        of_point = products + point * m_point
                        call7(a[GEMM], product, v + point * v_point, weights, of_point, a[ZEROS], 1, 1)
                    for j in range(nv):
                        of_block = products + j * group * vector
                        _transform_out(a, scratch + OUT_BLOCK, first, count, tile * nv + j, of_block, m, vector)
            first_item, end = piece(a, groups * parts, nth, end)

    return winograd, STEP
