"""Matrix products by one level of Strassen's algorithm, in Winograd's form: seven products of quarters instead of eight.

    S1 = A21 + A22   S2 = S1 - A11   S3 = A11 - A21   S4 = A12 - S2
    T1 = B12 - B11   T2 = B22 - T1   T3 = B22 - B12   T4 = T2 - B21
    P1 = A11 B11     P2 = A12 B21    P3 = S4 B22      P4 = A22 T4     P5 = S1 T1   P6 = S2 T2   P7 = S3 T3
    U2 = P1 + P6     U3 = U2 + P7
    C11 = P1 + P2    C21 = U3 - P4   C12 = U2 + P5 + P3               C22 = U3 + P5

(Fischer and Probert, 1974.) Factors are multiplied in the order A11 B11, A12 B21, S2 T2, S3 T3, A22 (-T4), S1 T1, S4 B22;
the right ones are made when compiling, the left ones by `pack_strassen`. Sums of products cost nothing: a tile's
accumulators begin with what is added, P1, U2, U3 and P5 of a column tile wait in the cache.
"""

from __future__ import annotations

from numba import njit

from backends.cpu.drivers.work import piece
from backends.cpu.intrinsics import STEP, call6, call7, fill_bytes, store_i64
from backends.cpu.micro.product import OTHER, PARTIAL
from backends.cpu.micro.strassen import FACTORS, HEAD_BYTES
from backends.cpu.toolchain import driver

# fmt: off
(MIDDLE, SUM, EDGE_MIDDLE, EDGE_SUM, PACKED, B, BIAS, Y, ZEROS, M, BLOCKS, TILES, STEPS, VECTORS, Y_ROW, MR, NV, LAST_NV,
 LINES, SCRATCH, SCRATCH_STRIDE, LO, HI, EXTRAS_COUNT, EXTRAS) = range(25)
# fmt: on
EXTRA = 3  # an extra operand: address, stride of a row, stride of a vector


@njit(error_model="numpy")
def _rows(rows, blocks, block):
    """(first row, rows of a half) of a block of rows. The halves of an odd number of rows share the one in the middle."""
    first = rows * block // blocks
    count = rows * (block + 1) // blocks - first
    return first, count, (count + 1) // 2


@njit(error_model="numpy")
def _row_tiles(rows, blocks, mr):
    """Tiles of a half, in every block of rows."""
    half = ((rows + blocks - 1) // blocks + 1) // 2
    return (half + mr - 1) // mr


@driver("pack_strassen")
def pack_strassen(target):
    """The left factors of a[M, K], float32, as [block of rows][factor][tile][K / 2 / c][row][c].

    Block: a, to, M, vectors of K / 2, row stride, MR, blocks of rows, `strassen_rows`.
    """
    c = target.vl
    vector = c * 4

    def pack_strassen(a, tid, nth):
        rows, steps, mr, blocks = a[2], a[3], a[5], a[6]
        tiles = _row_tiles(rows, blocks, mr)
        panel = steps * mr * vector
        first_item, end = piece(a, blocks * tiles, nth, 0)
        while first_item < end:
            for item in range(first_item, end):
                index = item // tiles
                tile = item - index * tiles
                first, count, half = _rows(rows, blocks, index)
                start = min(tile * mr, half - mr)
                to = a[1] + (index * FACTORS * tiles + tile) * panel
                for m in range(mr):
                    top = a[0] + (first + start + m) * a[4]
                    bottom = top + (count - half) * a[4]
                    call7(a[7], steps, top, bottom, steps * vector, to + m * vector, mr * vector, tiles * panel)
            first_item, end = piece(a, blocks * tiles, nth, end)

    return pack_strassen, STEP


@driver("strassen")
def strassen(target):
    """y[M, N] = a[M, K] b[K, N], float32, both packed as factors: b as [column tile][factor][K / 2][vectors].

    Work is cut into blocks of rows x tiles of half the columns. Row tiles overlap in place of a tail; EDGE serves the last
    column tile. While a panel is in use the next one is fetched, LINES cache lines with each vector of reduction steps.
    """
    c = target.vl
    vector = c * 4

    def strassen(a, tid, nth):
        rows, blocks, tiles, steps, mr, nv = a[M], a[BLOCKS], a[TILES], a[STEPS], a[MR], a[NV]
        row_tiles = _row_tiles(rows, blocks, mr)
        panel = steps * mr * vector
        partial = mr * nv * vector
        block = a[SCRATCH] + tid * a[SCRATCH_STRIDE]
        p1 = block + HEAD_BYTES
        u2 = p1 + row_tiles * partial
        u3 = u2 + row_tiles * partial
        p5 = u3 + row_tiles * partial
        extras = a[EXTRAS_COUNT]
        fill_bytes(block, HEAD_BYTES, 0)
        store_i64(block + 72, a[Y_ROW])
        store_i64(block + 80, vector)
        store_i64(block + 96, a[LO])
        store_i64(block + 104, a[HI])
        for e in range(extras):
            store_i64(block + 8 * (15 + 3 * e + 1), a[EXTRAS + EXTRA * e + 2])
            store_i64(block + 8 * (15 + 3 * e + 2), a[EXTRAS + EXTRA * e + 1])
        first_item, end = piece(a, blocks * tiles, nth, 0)
        while first_item < end:
            for item in range(first_item, end):
                index = item // tiles
                t = item - index * tiles
                first, count, half = _rows(rows, blocks, index)
                left = a[PACKED] + index * FACTORS * row_tiles * panel
                right = a[B] + t * FACTORS * steps * c * nv * vector
                wide, middle, ends = nv, a[MIDDLE], a[SUM]
                if t == tiles - 1:
                    wide, middle, ends = a[LAST_NV], a[EDGE_MIDDLE], a[EDGE_SUM]
                width = steps * c * wide * vector  # bytes of a panel
                for factor in range(FACTORS):
                    coming = right + width
                    for p in range(row_tiles):
                        start = min(p * mr, half - mr)
                        at = p * partial
                        rows_at = left + p * panel
                        ahead = coming + min(p * steps * a[LINES] * 64, width)
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
                            one, m = u3 + at, m + count - half
                        elif factor == 5:  # C22
                            one, other, m, v = u3 + at, p5 + at, m + count - half, v + a[VECTORS]
                        elif factor == 6:  # C12
                            one, other, v = u2 + at, p5 + at, v + a[VECTORS]
                        store_i64(block + 8 * PARTIAL, one)
                        store_i64(block + 8 * OTHER, other)
                        for e in range(extras):
                            r = EXTRAS + EXTRA * e
                            store_i64(block + 8 * (15 + 3 * e), a[r] + m * a[r + 1] + v * a[r + 2])
                        y = a[Y] + m * a[Y_ROW] + v * vector
                        call6(ends, block, rows_at, right, y, a[BIAS] + v * vector, ahead)
                    left += row_tiles * panel
                    right += width
            first_item, end = piece(a, blocks * tiles, nth, end)

    return strassen, STEP
