"""Matrix products by one level of Strassen's algorithm, in Winograd's form: seven products of quarters instead of eight.

    S1 = A21 + A22   S2 = S1 - A11   S3 = A11 - A21   S4 = A12 - S2
    T1 = B12 - B11   T2 = B22 - T1   T3 = B22 - B12   T4 = T2 - B21
    P1 = A11 B11     P2 = A12 B21    P3 = S4 B22      P4 = A22 T4     P5 = S1 T1   P6 = S2 T2   P7 = S3 T3
    U2 = P1 + P6     U3 = U2 + P7
    C11 = P1 + P2    C21 = U3 - P4   C12 = U2 + P5 + P3               C22 = U3 + P5

(Fischer and Probert, 1974.) Factors are multiplied in the order A11 B11, A12 B21, S2 T2, S3 T3, A22 (-T4), S1 T1, S4 B22;
the right ones are made when compiling, the left ones by `strassen_factors`. Sums of products cost nothing: a tile's
accumulators begin with what is added, P1, U2, U3 and P5 of a column tile wait in the cache.

Rows of a come in images, each cut into the same blocks, whose upper and lower halves are the halves of the algorithm. Left
factors lie as [image and block][factor]; see product/strassen_block.py for their strides.
"""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import STEP as SIGNATURE
from graphc.backends.cpu.codegen.intrinsics import call6, call10, store_i64
from graphc.backends.cpu.conv.conv_row_block import BLOCK_BYTES, CONV_ROW
from graphc.backends.cpu.conv.row_block_njit import point_operand, start_block, stride_operand
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.product.product_micro import OTHER, PARTIAL
from graphc.backends.cpu.product.strassen_block import STRASSEN, STRASSEN_FACTORS, Strassen, StrassenFactors
from graphc.backends.cpu.product.strassen_micro import FACTORS, QUARTERS
from graphc.backends.cpu.sizes import CACHE_LINE


@njit(error_model="numpy")
def _rows(rows, blocks, block):
    """(first row, rows of a half, rows between the halves' first) of a block of an image's rows. All blocks but the last have
    an even number of them; the halves of an odd number share the row in the middle."""
    pairs = rows // 2
    first = 2 * (pairs * block // blocks)
    end = 2 * (pairs * (block + 1) // blocks) if block < blocks - 1 else rows
    half = (end - first + 1) // 2
    return first, half, end - first - half


@njit(error_model="numpy")
def _row_tiles(rows, blocks, mr):
    """Tiles of a half, in every block of rows."""
    half = (rows // 2 + blocks - 1) // blocks + rows % 2
    return (half + mr - 1) // mr


@driver(StrassenFactors)
def strassen_factors(target):
    """Left factors of a[images][M, K], float32."""
    A, TO, IMAGES, M, BLOCKS, STEPS, MR = STRASSEN_FACTORS["a to images m blocks steps mr"]
    A_IMAGE, A_LINE, A_ROW, A_STEP, A_WIDTH = STRASSEN_FACTORS["a_image a_line a_row a_step a_width"]
    OPERAND, TILE, ROW, STEP, BLOCK, AT_ONCE, MICRO = STRASSEN_FACTORS["operand tile row step block at_once micro"]
    vector = target.vector

    def strassen_factors(a, tid, nth):
        source, to, images, rows, blocks, steps, mr = a[A], a[TO], a[IMAGES], a[M], a[BLOCKS], a[STEPS], a[MR]
        image_bytes, line_bytes, row_bytes, step_bytes = a[A_IMAGE], a[A_LINE], a[A_ROW], a[A_STEP]
        width, at_once = a[A_WIDTH], a[AT_ONCE]
        tiles = _row_tiles(rows, blocks, mr)
        first_item, end = piece(a, images * blocks * tiles, nth, 0)
        while first_item < end:
            for item in range(first_item, end):
                index = item // tiles
                image = index // blocks
                first, half, between = _rows(rows, blocks, index - image * blocks)
                start = min((item - index * tiles) * mr, max(0, half - mr))
                base = to + index * a[BLOCK] + (item - index * tiles) * a[TILE] + start * a[ROW]
                for m in range(0, min(mr, half), at_once):
                    row = first + start + m
                    top = source + image * image_bytes + row // width * line_bytes + row % width * row_bytes
                    row += between
                    bottom = source + image * image_bytes + row // width * line_bytes + row % width * row_bytes
                    at = base + m * vector
                    call10(
                        a[MICRO], steps, min(at_once, half), top, bottom, steps * step_bytes, step_bytes, row_bytes, at,
                        a[STEP], a[OPERAND],
                    )  # fmt: skip
            first_item, end = piece(a, images * blocks * tiles, nth, end)

    return strassen_factors, SIGNATURE


MIDDLE, SUM, EDGE_MIDDLE, EDGE_SUM, ZEROS = STRASSEN["middle sum edge_middle edge_sum zeros"]
A, A_IMAGE, A_ROW, A_STEP = STRASSEN["a a_image a_row a_step"]
FACTOR, OPERAND, TILE, ROW, STEP, B, BIAS = STRASSEN["factor operand tile row step b bias"]
Y, Y_IMAGE, Y_LINE, Y_ROW, Y_VECTOR, Y_WIDTH = STRASSEN["y y_image y_line y_row y_vector y_width"]
M, IMAGES, BLOCKS, TILES, STEPS, VECTORS = STRASSEN["m images blocks tiles steps vectors"]
MR, NV, LAST_NV, TILES_PER_UNIT, LINES = STRASSEN["mr nv last_nv tiles_per_unit lines"]
SCRATCH, SCRATCH_STRIDE, LO, HI, OPERANDS_COUNT = STRASSEN["scratch scratch_stride lo hi epilogue_operands"]
OPERANDS_AT, OPERAND_SIZE = STRASSEN.size, STRASSEN.record_size
OPERAND_REF, OPERAND_IMAGE, OPERAND_ROW, OPERAND_VECTOR = STRASSEN.in_record("ref image row vector")
MICRO_BLOCKS, MICRO_XS_BLOCK, MICRO_COMING_STEP = CONV_ROW["blocks xs_block coming_step"]
_, SECOND, THIRD = QUARTERS


@njit(error_model="numpy")
def _left(a, index, factor):
    """Where a left factor of a block of rows lies: address, strides of a row and of a vector of reduction steps."""
    if a[A] == 0:
        return a[FACTOR] + (index * FACTORS + factor) * a[OPERAND], a[ROW], a[STEP]
    if factor > SECOND and factor != THIRD:  # a sum; the quarters are not among those that lie there
        number = factor - 2 if factor < THIRD else factor - 3
        return a[FACTOR] + (index * (FACTORS - 3) + number) * a[OPERAND], a[ROW], a[STEP]
    image = index // a[BLOCKS]
    first, _, between = _rows(a[M], a[BLOCKS], index - image * a[BLOCKS])
    base = a[A] + image * a[A_IMAGE] + first * a[A_ROW]
    if factor > 0:
        base += a[STEPS] * a[A_STEP]
    if factor == THIRD:
        base += between * a[A_ROW]
    return base, a[A_ROW], a[A_STEP]


@njit(error_model="numpy")
def _keep(micro, block, factor, rows, right, zeros, kept, run, coming):
    """P1, U2, U3 and P5 of a tile, which wait at kept, kept + run and so on."""
    if factor == 0:
        call6(micro, block, rows, right, kept, zeros, coming)
    elif factor == 2:
        call6(micro, block, rows, right, kept + run, kept, coming)
    elif factor == 3:
        call6(micro, block, rows, right, kept + 2 * run, kept + run, coming)
    elif factor == 5:
        call6(micro, block, rows, right, kept + 3 * run, zeros, coming)


@njit(error_model="numpy")
def _quarter(factor, zeros, kept, run):
    """What a quarter of the result is the sum of, besides this factor's product; is it a lower one, is it a right one?"""
    if factor == 4:  # C21
        return kept + 2 * run, zeros, True, False
    if factor == 5:  # C22
        return kept + 2 * run, kept + 3 * run, True, True
    if factor == 6:  # C12
        return kept + run, kept + 3 * run, False, True
    return kept, zeros, False, False  # C11


@njit(error_model="numpy")
def _point(a, block, image, m, v):
    """Points the epilogue's operands at row m and vector v, and gives the address there in y."""
    for e in range(a[OPERANDS_COUNT]):
        r = OPERANDS_AT + OPERAND_SIZE * e
        near = a[r + OPERAND_REF] + image * a[r + OPERAND_IMAGE] + m * a[r + OPERAND_ROW] + v * a[r + OPERAND_VECTOR]
        point_operand(block, e, near)
    y = a[Y] + image * a[Y_IMAGE] + v * a[Y_VECTOR]
    return y + m // a[Y_WIDTH] * a[Y_LINE] + m % a[Y_WIDTH] * a[Y_ROW]


@driver(Strassen)
def strassen(target):
    """y[images][M, N] = a[images][M, K] b[K, N], float32, as factors: b as [column tile][factor][K / 2][vectors].

    A register tile lies in one of the lines of y. Work is cut into blocks of rows x tiles of half the columns x TILES_OF_ITEM
    tiles of rows. Row tiles overlap in place of a tail; EDGE serves the last column tile. With an odd number of rows an item
    takes all tiles of rows, so that the row which both halves share is written in the same order by any number of threads.
    While a panel is in use the next one is fetched, LINES cache lines with each vector of reduction steps.
    """
    c = target.vl
    vector = target.vector

    def strassen(a, tid, nth):
        rows, blocks, tiles, steps, mr, nv = a[M], a[BLOCKS], a[TILES], a[STEPS], a[MR], a[NV]
        row_tiles, some = _row_tiles(rows, blocks, mr), a[TILES_PER_UNIT]
        parts = (row_tiles + some - 1) // some
        partial = mr * nv * vector
        block = a[SCRATCH] + tid * a[SCRATCH_STRIDE]
        kept, run = block + BLOCK_BYTES, some * partial
        start_block(block, steps, a[Y_ROW], a[Y_VECTOR], a[LO], a[HI])
        store_i64(block + 8 * MICRO_COMING_STEP, a[LINES] * CACHE_LINE)
        for e in range(a[OPERANDS_COUNT]):
            stride_operand(
                block,
                e,
                a[OPERANDS_AT + OPERAND_SIZE * e + OPERAND_VECTOR],
                a[OPERANDS_AT + OPERAND_SIZE * e + OPERAND_ROW],
            )
        work = a[IMAGES] * blocks * tiles * parts
        first_item, end = piece(a, work, nth, 0)
        while first_item < end:
            for item in range(first_item, end):
                group = item // parts
                part = item - group * parts
                index = group // tiles
                t = group - index * tiles
                image = index // blocks
                first, half, between = _rows(rows, blocks, index - image * blocks)
                right = a[B] + t * FACTORS * steps * c * nv * vector
                wide, middle, ends = nv, a[MIDDLE], a[SUM]
                if t == tiles - 1:
                    wide, middle, ends = a[LAST_NV], a[EDGE_MIDDLE], a[EDGE_SUM]
                width = steps * c * wide * vector  # bytes of a panel
                tile = part * some
                for factor in range(FACTORS):
                    left, row, step = _left(a, index, factor)
                    store_i64(block + 8 * MICRO_XS_BLOCK, step)
                    for p in range(min(some, row_tiles - tile)):
                        start = min((tile + p) * mr, half - mr)
                        near, here = left + (tile + p) * a[TILE] + start * row, kept + p * partial
                        coming = right + width + min(p * steps * a[LINES] * CACHE_LINE, width)
                        store_i64(block + 8 * MICRO_BLOCKS, steps)
                        _keep(middle, block, factor, near, right, a[ZEROS], here, run, coming)
                        if factor == 0 or factor == 2 or factor == 3:
                            continue
                        if factor == 5:  # C22 is a sum of what is there
                            store_i64(block + 8 * MICRO_BLOCKS, 0)
                        one, other, lower, last = _quarter(factor, a[ZEROS], here, run)
                        store_i64(block + 8 * PARTIAL, one)
                        store_i64(block + 8 * OTHER, other)
                        m, v = first + start, t * nv
                        if lower:
                            m += between
                        if last:
                            v += a[VECTORS]
                        y = _point(a, block, image, m, v)
                        call6(ends, block, near, right, y, a[BIAS] + v * vector, coming)
                    right += width
            first_item, end = piece(a, work, nth, end)

    return strassen, SIGNATURE
