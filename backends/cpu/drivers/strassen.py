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
factors lie as [image and block][factor]; see blocks/strassen.py for their strides.
"""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.blocks.strassen import STRASSEN, STRASSEN_FACTORS
from graphc.backends.cpu.codegen.intrinsics import STEP as SIGNATURE
from graphc.backends.cpu.codegen.intrinsics import call6, call10, fill_bytes, store_i64
from graphc.backends.cpu.drivers.work import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.micro.conv import BLOCK_BYTES, XS_BLOCK
from graphc.backends.cpu.micro.conv import COMING_STEP as MICRO_COMING_STEP
from graphc.backends.cpu.micro.conv import EXTRA as MICRO_EXTRA
from graphc.backends.cpu.micro.conv import EXTRAS as MICRO_EXTRAS
from graphc.backends.cpu.micro.conv import HI as MICRO_HI
from graphc.backends.cpu.micro.conv import LO as MICRO_LO
from graphc.backends.cpu.micro.conv import YS_BLOCK as MICRO_YS_BLOCK
from graphc.backends.cpu.micro.conv import YS_W as MICRO_YS_W
from graphc.backends.cpu.micro.product import OTHER, PARTIAL
from graphc.backends.cpu.micro.strassen import FACTORS, QUARTERS
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


@driver("strassen_factors")
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


@driver("strassen")
def strassen(target):
    """y[images][M, N] = a[images][M, K] b[K, N], float32, as factors: b as [column tile][factor][K / 2][vectors].

    A register tile lies in one of the lines of y. Work is cut into blocks of rows x tiles of half the columns x TILES_OF_ITEM
    tiles of rows. Row tiles overlap in place of a tail; EDGE serves the last column tile. With an odd number of rows an item
    takes all tiles of rows, so that the row which both halves share is written in the same order by any number of threads.
    While a panel is in use the next one is fetched, LINES cache lines with each vector of reduction steps.
    """
    MIDDLE, SUM, EDGE_MIDDLE, EDGE_SUM, ZEROS = STRASSEN["middle sum edge_middle edge_sum zeros"]
    A, A_IMAGE, A_ROW, A_STEP = STRASSEN["a a_image a_row a_step"]
    FACTOR, OPERAND, TILE, ROW, STEP, B, BIAS = STRASSEN["factor operand tile row step b bias"]
    Y, Y_IMAGE, Y_LINE, Y_ROW, Y_VECTOR, Y_WIDTH = STRASSEN["y y_image y_line y_row y_vector y_width"]
    M, IMAGES, BLOCKS, TILES, STEPS, VECTORS = STRASSEN["m images blocks tiles steps vectors"]
    MR, NV, LAST_NV, TILES_OF_ITEM, LINES = STRASSEN["mr nv last_nv tiles_of_item lines"]
    SCRATCH, SCRATCH_STRIDE, LO, HI, EXTRAS_COUNT = STRASSEN["scratch scratch_stride lo hi extras"]
    EXTRAS, EXTRA = STRASSEN.size, STRASSEN.record_size
    EXTRA_IMAGE, EXTRA_ROW, EXTRA_VECTOR = STRASSEN.in_record("image row vector")
    c = target.vl
    vector = target.vector
    second, third = QUARTERS[1], QUARTERS[2]

    def strassen(a, tid, nth):
        rows, blocks, tiles, steps, mr, nv = a[M], a[BLOCKS], a[TILES], a[STEPS], a[MR], a[NV]
        row_tiles, some = _row_tiles(rows, blocks, mr), a[TILES_OF_ITEM]
        parts = (row_tiles + some - 1) // some
        in_place = a[A] != 0
        packed = FACTORS - 3 if in_place else FACTORS
        partial = mr * nv * vector
        block = a[SCRATCH] + tid * a[SCRATCH_STRIDE]
        p1 = block + BLOCK_BYTES
        u2 = p1 + some * partial
        u3 = u2 + some * partial
        p5 = u3 + some * partial
        extras = a[EXTRAS_COUNT]
        fill_bytes(block, BLOCK_BYTES, 0)
        store_i64(block + 8 * MICRO_YS_W, a[Y_ROW])
        store_i64(block + 8 * MICRO_YS_BLOCK, a[Y_VECTOR])
        store_i64(block + 8 * MICRO_LO, a[LO])
        store_i64(block + 8 * MICRO_HI, a[HI])
        store_i64(block + 8 * MICRO_COMING_STEP, a[LINES] * CACHE_LINE)
        for e in range(extras):
            store_i64(block + 8 * (MICRO_EXTRAS + MICRO_EXTRA * e + 1), a[EXTRAS + EXTRA * e + EXTRA_VECTOR])
            store_i64(block + 8 * (MICRO_EXTRAS + MICRO_EXTRA * e + 2), a[EXTRAS + EXTRA * e + EXTRA_ROW])
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
                left = a[FACTOR] + index * packed * a[OPERAND]
                wide, middle, ends = nv, a[MIDDLE], a[SUM]
                if t == tiles - 1:
                    wide, middle, ends = a[LAST_NV], a[EDGE_MIDDLE], a[EDGE_SUM]
                width = steps * c * wide * vector  # bytes of a panel
                tile = part * some
                count = min(some, row_tiles - tile)
                for factor in range(FACTORS):
                    coming = right + width
                    base, tile_bytes, row_bytes, step = left, a[TILE], a[ROW], a[STEP]
                    if in_place and (factor <= second or factor == third):
                        row_bytes, step = a[A_ROW], a[A_STEP]
                        base = a[A] + image * a[A_IMAGE] + first * row_bytes
                        if factor > 0:
                            base += steps * step
                        if factor == third:
                            base += between * row_bytes
                    else:
                        left += a[OPERAND]
                    store_i64(block + 8 * XS_BLOCK, step)
                    for p in range(count):
                        start = min((tile + p) * mr, half - mr)
                        at = p * partial
                        rows_at = base + (tile + p) * tile_bytes + start * row_bytes
                        ahead = coming + min(p * steps * a[LINES] * CACHE_LINE, width)
                        store_i64(block, steps)
                        if factor == 0:
                            call6(middle, block, rows_at, right, p1 + at, a[ZEROS], ahead)
                        elif factor == 2:
                            call6(middle, block, rows_at, right, u2 + at, p1 + at, ahead)
                        elif factor == 3:
                            call6(middle, block, rows_at, right, u3 + at, u2 + at, ahead)
                        elif factor == 5:
                            call6(middle, block, rows_at, right, p5 + at, a[ZEROS], ahead)
                            store_i64(block, 0)  # C22 is a sum of what is there
                        if factor == 0 or factor == 2 or factor == 3:
                            continue
                        one, other = p1 + at, a[ZEROS]  # C11
                        m, v = first + start, t * nv
                        if factor == 4:  # C21
                            one, m = u3 + at, m + between
                        elif factor == 5:  # C22
                            one, other, m, v = u3 + at, p5 + at, m + between, v + a[VECTORS]
                        elif factor == 6:  # C12
                            one, other, v = u2 + at, p5 + at, v + a[VECTORS]
                        store_i64(block + 8 * PARTIAL, one)
                        store_i64(block + 8 * OTHER, other)
                        for e in range(extras):
                            r = EXTRAS + EXTRA * e
                            near = a[r] + image * a[r + EXTRA_IMAGE] + m * a[r + EXTRA_ROW] + v * a[r + EXTRA_VECTOR]
                            store_i64(block + 8 * (MICRO_EXTRAS + MICRO_EXTRA * e), near)
                        y = a[Y] + image * a[Y_IMAGE] + v * a[Y_VECTOR]
                        y += m // a[Y_WIDTH] * a[Y_LINE] + m % a[Y_WIDTH] * a[Y_ROW]
                        call6(ends, block, rows_at, right, y, a[BIAS] + v * vector, ahead)
                    right += width
            first_item, end = piece(a, work, nth, end)

    return strassen, SIGNATURE
