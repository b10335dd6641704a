"""Operands of products in bfloat16: float32 in memory, rounded while they are packed."""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, call5, call7
from graphc.backends.cpu.executor.work_njit import offset_of, piece, product_of
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.product.pairs_block import (
    PACK_PAIR_COLUMNS,
    PACK_PAIR_ROWS,
    PackPairColumns,
    PackPairRows,
)
from graphc.backends.cpu.sizes import BATCH_DIMS
from graphc.backends.cpu.tile.dot import PAIRS

PAIR = PAIRS.k


@driver(PackPairRows)
def pack_pair_rows(target):
    """a[M, K] for each batch index as [tile][steps / c][row][c], like `pack_rows`."""
    MICRO, A, TO, M, K, ROW, COLUMN, MR = PACK_PAIR_ROWS["micro a to m k row column mr"]
    DIMS, A_BATCH = PACK_PAIR_ROWS["dims a_batch"]
    c, vector = target.vl, target.vector

    def pack_pair_rows(a, tid, nth):
        rows, depth, mr = a[M], a[K], a[MR]
        tiles = (rows + mr - 1) // mr
        panel = (depth + PAIR * c - 1) // (PAIR * c) * mr * vector
        work = tiles * product_of(a, DIMS, BATCH_DIMS)
        first, end = piece(a, work, nth, 0)
        while first < end:
            for item in range(first, end):
                index = item // tiles
                source = a[A] + max(0, min((item - index * tiles) * mr, rows - mr)) * a[ROW]
                source += offset_of(a, index, DIMS, A_BATCH, BATCH_DIMS)
                to = a[TO] + item * panel
                for m in range(mr):
                    call5(a[MICRO], to + m * vector, mr * vector, source + m * a[ROW], a[COLUMN], depth)
            first, end = piece(a, work, nth, end)

    return pack_pair_rows, STEP


@driver(PackPairColumns)
def pack_pair_columns(target):
    """b[K, N] as [tile][steps to a multiple of c][vectors of the tile], like `pack_b`."""
    MICRO, B, TO, BATCH, B_BATCH, TO_BATCH = PACK_PAIR_COLUMNS["micro b to batch b_batch to_batch"]
    K, N, ROW, COLUMN, NV, LAST_NV, PANEL = PACK_PAIR_COLUMNS["k n row column nv last_nv panel"]
    vl = target.vl

    def pack_pair_columns(a, tid, nth):
        columns, width = a[N], a[NV] * vl
        tiles = (columns + width - 1) // width
        work = a[BATCH] * tiles
        first, end = piece(a, work, nth, 0)
        while first < end:
            for item in range(first, end):
                i = item // tiles
                tile = item - i * tiles
                vectors = a[NV]
                if tile == tiles - 1:
                    vectors = a[LAST_NV]
                source = a[B] + i * a[B_BATCH] + tile * width * a[COLUMN]
                to = a[TO] + i * a[TO_BATCH] + tile * a[PANEL]
                have = min(vectors * vl, columns - tile * width)
                call7(a[MICRO], to, vectors, source, a[K], a[ROW], a[COLUMN], have)
            first, end = piece(a, work, nth, end)

    return pack_pair_columns, STEP
