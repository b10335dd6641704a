"""Matrix products: packing of panels and loops around the register tile (`product_tile`)."""

from __future__ import annotations

import numpy as np
from numba import njit

from graphc.backends.cpu.codegen.intrinsics import (
    STEP,
    block_address,
    call5,
    call6,
    copy_bytes,
    fill_bytes,
    load_f32,
    store_f32,
    store_i64,
)
from graphc.backends.cpu.conv.conv_row_block import BLOCK_BYTES, CONV_ROW
from graphc.backends.cpu.conv.row_block_njit import point_operand, start_block, stride_operand
from graphc.backends.cpu.executor.work_njit import offset_of, piece, product_of
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.product.gemm_block import GEMM, MATMUL_ANY, PACK_B, PACK_ROWS, Gemm, MatmulAny, PackB, PackRows
from graphc.backends.cpu.product.product_micro import NEXT_LINES
from graphc.backends.cpu.sizes import BATCH_DIMS, CACHE_LINE
from graphc.backends.cpu.tile.dot import FMA

ITEM = FMA.item  # bytes per step of a row and of a column; other inner steps move as many (tile/dot.py)

STRIP_TILES = 8  # tiles of rows for which `matmul_any` reads a strip of columns

STAGES, EDGE_STAGES, A, B, BIAS, Y, M, N_TILES, K = GEMM["stages edge_stages a b bias y m n_tiles k"]
FIRST, MIDDLE, LAST = 0, 1, 2  # stages of a sum
A_ROW, A_COLUMN, Y_ROW, Y_VECTOR = GEMM["a_row a_column y_row y_vector"]
MR, NV, LAST_NV, LAST_LANES, M_BLOCK, N_BLOCK, CHUNK = GEMM["mr nv last_nv last_lanes m_block n_block chunk"]
PANEL, PACKED, SCRATCH, SCRATCH_STRIDE, LO, HI = GEMM["panel packed scratch scratch_stride lo hi"]
DIMS, A_BATCH, B_BATCH, Y_BATCH, OPERANDS_COUNT = GEMM["dims a_batch b_batch y_batch epilogue_operands"]
OPERANDS_AT, OPERAND_SIZE = GEMM.size, GEMM.record_size
OPERAND_REF, OPERAND_ROW, OPERAND_VECTOR, OPERAND_BATCH = GEMM.in_record("ref row vector batch")
MICRO_BLOCKS, MICRO_WS_BLOCK, MICRO_LANES = CONV_ROW["blocks ws_block lanes"]


@njit(error_model="numpy")
def _tile_row(a, m0, p):
    """The first row of tile p of the block of rows that begins with m0. Overlaps take the place of a row tail."""
    return max(0, min(m0 + p * a[MR], a[M] - a[MR]))


@njit(error_model="numpy")
def _point_operands(a, block, index, m, v):
    """The epilogue's operands at batch index `index`, row m and vector v of columns."""
    for e in range(a[OPERANDS_COUNT]):
        r = OPERANDS_AT + OPERAND_SIZE * e
        batch = offset_of(a, index, DIMS, r + OPERAND_BATCH, BATCH_DIMS)
        point_operand(block, e, a[r + OPERAND_REF] + m * a[r + OPERAND_ROW] + v * a[r + OPERAND_VECTOR] + batch)


@njit(error_model="numpy")
def _multiply(a, block, index, m0, count, t0, t1, chunk, panels, sums, c):
    """`count` tiles of rows from m0 on by the column tiles t0 … t1 - 1, one chunk of reduction steps.

    panels: the packed rows, or 0 where they are read as they lie. sums: where the tiles' partial sums are kept.
    """
    mr, nv, tiles, steps = a[MR], a[NV], a[N_TILES], a[CHUNK]
    vector = c * ITEM
    blocks = (a[K] + c - 1) // c
    chunks = (blocks + steps - 1) // steps
    rows, row = panels, blocks * c * ITEM
    if panels == 0:
        rows, row = a[A] + offset_of(a, index, DIMS, A_BATCH, BATCH_DIMS) + m0 * a[A_ROW], a[A_ROW]
    b = a[B] + offset_of(a, index, DIMS, B_BATCH, BATCH_DIMS)
    y = a[Y] + offset_of(a, index, DIMS, Y_BATCH, BATCH_DIMS)
    stage = LAST if chunk == chunks - 1 else FIRST if chunk == 0 else MIDDLE
    k0 = chunk * steps
    store_i64(block + 8 * MICRO_BLOCKS, min(steps, blocks - k0))
    for tile in range(t0, t1):
        wide, micro = nv, a[STAGES + stage]
        if tile == tiles - 1:
            wide, micro = a[LAST_NV], a[EDGE_STAGES + stage]
        store_i64(block + 8 * MICRO_WS_BLOCK, c * wide * vector)
        columns = b + tile * a[PANEL] + k0 * c * wide * vector
        coming = columns + a[PANEL]
        if tile == t1 - 1 and chunk < chunks - 1:
            coming = b + t0 * a[PANEL] + (k0 + steps) * c * nv * vector
        for p in range(count):
            m = _tile_row(a, m0, p)
            _point_operands(a, block, index, m, tile * nv)
            partial = sums + ((tile - t0) * (a[M_BLOCK] // mr) + p) * mr * nv * vector
            call6(
                micro,
                block,
                rows + p * mr * row + k0 * mr * vector,
                columns,
                y + m * a[Y_ROW] + tile * nv * a[Y_VECTOR] if stage == LAST else partial,
                partial if chunk else a[BIAS] + tile * nv * vector,
                coming + min(p * steps * NEXT_LINES * CACHE_LINE, steps * c * nv * vector),
            )


@driver(Gemm)
def gemm(target):
    """y[M, N] = a[M, K] b[K, N] for each batch index, b packed by `pack_b` or when compiling.

    Work is cut into batch x row blocks x column blocks. The rows of a block are packed as [K / c][row][c], like the pixels
    of a convolution, once for all its column tiles, or by `pack_rows` before. MR rows that overlap the last ones take the
    place of a row tail; EDGE_STAGES serve the last column tile. While a panel is in use the next one is fetched, a part with
    each tile of rows. A long reduction is cut into chunks of CHUNK blocks of c steps, so that rows and panel stay in the
    second-level cache; each tile's partial sums wait in memory of their own, which overlapping tiles do not share.
    """
    c = target.vl
    vector = target.vector

    def gemm(a, tid, nth):
        rows, tiles, depth, mr = a[M], a[N_TILES], a[K], a[MR]
        m_block, n_block = a[M_BLOCK], a[N_BLOCK]
        m_blocks, n_blocks = (rows + m_block - 1) // m_block, (tiles + n_block - 1) // n_block
        blocks = (depth + c - 1) // c
        block = a[SCRATCH] + tid * a[SCRATCH_STRIDE]
        mine = block + BLOCK_BYTES
        panel = blocks * mr * vector
        chunks = (blocks + a[CHUNK] - 1) // a[CHUNK]
        sums = mine if a[PACKED] else mine + m_block * blocks * vector
        in_place = mr == 1 and depth % c == 0 and a[A_COLUMN] == ITEM
        start_block(block, blocks, a[Y_ROW], a[Y_VECTOR], a[LO], a[HI])
        store_i64(block + 8 * MICRO_LANES, a[LAST_LANES])
        for e in range(a[OPERANDS_COUNT]):
            stride_operand(
                block,
                e,
                a[OPERANDS_AT + OPERAND_SIZE * e + OPERAND_VECTOR],
                a[OPERANDS_AT + OPERAND_SIZE * e + OPERAND_ROW],
            )
        work = product_of(a, DIMS, BATCH_DIMS) * m_blocks * n_blocks
        packed = -1  # the block of rows that lies in `mine`
        first, end = piece(a, work, nth, 0)
        while first < end:
            for item in range(first, end):
                nb = item % n_blocks
                rest = item // n_blocks
                mb = rest % m_blocks
                index = rest // m_blocks
                m0 = mb * m_block
                count = (min(rows - m0, m_block) + mr - 1) // mr
                panels = mine
                if a[PACKED]:
                    panels = a[PACKED] + (index * ((rows + mr - 1) // mr) + m0 // mr) * panel
                elif in_place:
                    panels = 0
                elif packed != rest:
                    packed = rest
                    at = a[A] + offset_of(a, index, DIMS, A_BATCH, BATCH_DIMS)
                    for p in range(count):
                        source = at + _tile_row(a, m0, p) * a[A_ROW]
                        pack_row_tile(mine + p * panel, source, mr, depth, c, a[A_ROW], a[A_COLUMN])
                t0 = nb * n_block
                t1 = min(tiles, t0 + n_block)
                for chunk in range(chunks):
                    _multiply(a, block, index, m0, count, t0, t1, chunk, panels, sums, c)
            first, end = piece(a, work, nth, end)

    return gemm, STEP


@njit(error_model="numpy")
def pack_row_tile(to, a, mr, depth, c, stride_row, stride_column):
    """mr rows of a as [depth / c][row][c], filled with zeros where depth ends inside a block."""
    whole = depth // c * c
    for m in range(mr):
        source = a + m * stride_row
        target = to + m * c * ITEM
        if stride_column == ITEM:
            for k in range(0, whole, c):
                copy_bytes(target + k * mr * ITEM, source + k * ITEM, c * ITEM)
        else:
            for k in range(whole):
                store_f32(target + (k // c * c * mr + k % c) * ITEM, load_f32(source + k * stride_column))
        if whole < depth:
            tail = target + whole * mr * ITEM
            fill_bytes(tail, c * ITEM, 0)
            for k in range(whole, depth):
                store_f32(tail + (k - whole) * ITEM, load_f32(source + k * stride_column))


@driver(PackRows)
def pack_rows(target):
    """a[M, K] for each batch index as [tile][K / c][row][c], where several threads will read it."""
    A, TO, M, K, ROW, COLUMN, MR, DIMS, A_BATCH = PACK_ROWS["a to m k row column mr dims a_batch"]
    c = target.vl

    def pack_rows(a, tid, nth):
        rows, depth, mr = a[M], a[K], a[MR]
        tiles = (rows + mr - 1) // mr
        panel = (depth + c - 1) // c * mr * c * ITEM
        work = tiles * product_of(a, DIMS, BATCH_DIMS)
        first, end = piece(a, work, nth, 0)
        while first < end:
            for item in range(first, end):
                index = item // tiles
                source = a[A] + max(0, min((item - index * tiles) * mr, rows - mr)) * a[ROW]
                source += offset_of(a, index, DIMS, A_BATCH, BATCH_DIMS)
                pack_row_tile(a[TO] + item * panel, source, mr, depth, c, a[ROW], a[COLUMN])
            first, end = piece(a, work, nth, end)

    return pack_rows, STEP


@driver(PackB)
def pack_b(target):
    """b[K, N] as [tile][K to a multiple of c][vectors of the tile], zeros where it has no element."""
    B, TO, BATCH, B_BATCH, TO_BATCH, K, N = PACK_B["b to batch b_batch to_batch k n"]
    ROW, COLUMN, NV, LAST_NV, PANEL = PACK_B["row column nv last_nv panel"]
    vl = target.vl

    def pack_b(a, tid, nth):
        batch, depth, columns, row, column, nv, last_nv = a[BATCH], a[K], a[N], a[ROW], a[COLUMN], a[NV], a[LAST_NV]
        width = nv * vl
        tiles = (columns + width - 1) // width
        padded = (depth + vl - 1) // vl * vl
        work = batch * tiles
        first, end = piece(a, work, nth, 0)
        while first < end:
            for k in range(first, end):
                i = k // tiles
                tile = k - i * tiles
                wide = width
                if tile == tiles - 1:
                    wide = last_nv * vl
                have = min(wide, columns - tile * width)
                source = a[B] + i * a[B_BATCH] + tile * width * column
                to = a[TO] + i * a[TO_BATCH] + tile * a[PANEL]
                if have < wide or depth < padded:
                    fill_bytes(to, padded * wide * ITEM, 0)
                if column == ITEM:
                    for d in range(depth):
                        copy_bytes(to + d * wide * ITEM, source + d * row, have * ITEM)
                else:
                    for j in range(have):
                        for d in range(depth):
                            store_f32(to + (d * wide + j) * ITEM, load_f32(source + d * row + j * column))
            first, end = piece(a, work, nth, end)

    return pack_b, STEP


@driver(MatmulAny)
def matmul_any(target, dtype):
    """y = a b in any number dtype. A unit of work is some rows of one batch index: a strip of b serves all of them. A tile that
    overlaps the one before takes the place of a tail of rows."""
    A, B, Y, M, N, K = MATMUL_ANY["a b y m n k"]
    A_ROW, Y_ROW, TILE, EDGE, ROW, ROW_EDGE = MATMUL_ANY["a_row y_row tile edge row row_edge"]
    MR, NV, LANES, DIMS = MATMUL_ANY["mr nv lanes dims"]
    A_BATCH, B_BATCH, Y_BATCH = MATMUL_ANY["a_batch b_batch y_batch"]
    item = np.dtype(dtype).itemsize

    def matmul_any(a, tid, nth):
        rows, columns, lanes, mr = a[M], a[N], a[LANES], a[MR]
        tile, edge = a[TILE], a[EDGE]
        if rows < mr:
            mr, tile, edge = 1, a[ROW], a[ROW_EDGE]
        unit = STRIP_TILES * mr
        units = (rows + unit - 1) // unit
        block = block_address(a)
        first, end = piece(a, product_of(a, DIMS, BATCH_DIMS) * units, nth, 0)
        while first < end:
            for k in range(first, end):
                index = k // units
                m0 = (k - index * units) * unit
                m1 = min(rows, m0 + unit)
                at = a[A] + offset_of(a, index, DIMS, A_BATCH, BATCH_DIMS)
                bt = a[B] + offset_of(a, index, DIMS, B_BATCH, BATCH_DIMS)
                y = a[Y] + offset_of(a, index, DIMS, Y_BATCH, BATCH_DIMS)
                j = 0
                while j < columns:
                    micro, wide = edge, lanes
                    if columns - j >= a[NV] * lanes:
                        micro, wide = tile, a[NV] * lanes
                    for start in range(m0, m1, mr):
                        m = min(start, rows - mr)
                        left, to = at + m * a[A_ROW], y + m * a[Y_ROW] + j * item
                        call5(micro, block, left, bt + j * item, to, min(wide, columns - j))
                    j += wide
            first, end = piece(a, product_of(a, DIMS, BATCH_DIMS) * units, nth, end)

    return matmul_any, STEP
