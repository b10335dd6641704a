"""Attention: for each head and tile of queries the scores, their softmax and the weighted sum of the values."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.attention.attention_block import (
    ANY_ATTENTION,
    ATTENTION,
    ATTENTION_PAIRS,
    BLOCKS,
    TABLE,
    VECTORS,
    Attention,
    AttentionPairs,
)
from graphc.backends.cpu.attention.attention_njit import (
    MICRO_KEYS,
    ROW_BYTES,
    WINDOWED,
    fill_row,
    keys_of,
    range_of,
    start_softmax,
)
from graphc.backends.cpu.codegen.intrinsics import (
    STEP,
    call2,
    call5,
    call6,
    call7,
    copy_bytes,
    fill_bytes,
    load_f32,
    store_f32,
    store_i64,
)
from graphc.backends.cpu.conv.conv_row_block import BLOCK_BYTES, CONV_ROW
from graphc.backends.cpu.conv.row_block_njit import NO_CLIP_HIGH, NO_CLIP_LOW, start_block
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.product.gemm_driver import ITEM, pack_row_tile
from graphc.backends.cpu.tile.dot import PAIRS

SOFTMAX, Q, K, V, MASK, Y, SCRATCH, SCRATCH_STRIDE = ANY_ATTENTION["softmax q k v mask y scratch scratch_stride"]
BATCH, HEADS, GROUP, QUERIES, KEYS, SIZE, V_SIZE = ANY_ATTENTION["batch heads group queries keys size v_size"]
Q_AT, K_AT, V_AT, Y_AT, MASK_AT = ANY_ATTENTION["q_strides k_strides v_strides y_strides mask_strides"]
SCORES, SCORES_ONE, VALUES, VALUES_LAST = ATTENTION["scores scores_one values values_last"]
TRANSPOSE, ZEROS, MR, LAST_K, NV_V, LAST_V = ATTENTION["transpose zeros mr last_k nv_v last_v"]
LAST_LANES, CHUNK = ATTENTION["last_lanes chunk"]
(PAIR_ROW,) = ATTENTION_PAIRS["pair_row"]
PAIR = PAIRS.k
MICRO_BLOCKS, MICRO_WS_BLOCK, MICRO_LANES = CONV_ROW["blocks ws_block lanes"]


@driver(Attention)
def attention(target):
    """Both products in float32."""
    return _attention(target, 1, _pack_queries, _pack_keys, _pack_values)


@driver(AttentionPairs)
def attention_pairs(target):
    """Both products in bfloat16."""
    return _attention(target, PAIRS.k, _round_queries, _round_keys, _round_values)


def _attention(target, each, pack_queries, pack_keys, pack_values):
    """y = softmax(q k^T · scale + mask) v for each batch and head, tile by tile of MR queries.

    Work is cut into batch x heads x chunks of CHUNK tiles. Those keys and values of a head that a chunk's queries see are
    packed once for the items that follow each other: keys as [panel][size][VECTORS vectors], values as [panel][keys][NV_V
    vectors]. A tile of queries is packed like the rows of a product; its scores lie as [keys / c][query][c], the form in which
    the second product reads them. Panels of keys that no query of a tile sees are left out of both. MR queries that overlap
    the last ones take the place of a tail. each: numbers that one step of the products takes of a row.
    """
    c = target.vl
    vector = target.vector
    deep = each * c  # numbers of a block of steps
    assert VECTORS * c % deep == 0

    def attention(a, tid, nth):
        mr, keys, size, queries = a[MR], a[KEYS], a[SIZE], a[QUERIES]
        size_blocks, key_blocks = (size + deep - 1) // deep, (keys + c - 1) // c
        k_tiles = (key_blocks + VECTORS - 1) // VECTORS
        v_tiles = ((a[V_SIZE] + c - 1) // c + a[NV_V] - 1) // a[NV_V]
        k_panel, v_panel = size_blocks * c * VECTORS * vector, (keys + deep - 1) // deep * c * a[NV_V] * vector
        panel_keys = VECTORS * c
        first = a[SCRATCH] + tid * a[SCRATCH_STRIDE]
        second, third = first + BLOCK_BYTES, first + 2 * BLOCK_BYTES
        table = third + TABLE
        rows = first + BLOCKS * BLOCK_BYTES
        scores = rows + size_blocks * mr * vector
        k_packed = scores + key_blocks * mr * vector
        v_packed = k_packed + k_tiles * k_panel
        start_block(first, size_blocks, vector, mr * vector, NO_CLIP_LOW, NO_CLIP_HIGH)
        start_block(second, key_blocks, a[Y_AT + 2], vector, NO_CLIP_LOW, NO_CLIP_HIGH)
        store_i64(first + 8 * MICRO_LANES, c)
        store_i64(second + 8 * MICRO_LANES, a[LAST_LANES])
        start_softmax(a, third, table)
        tiles = (queries + mr - 1) // mr
        chunks = (tiles + a[CHUNK] - 1) // a[CHUNK]
        work = a[BATCH] * a[HEADS] * chunks
        packed, packed_from, packed_to = -1, 0, 0  # whose keys are packed, and which panels of them
        first_item, end = piece(a, work, nth, 0)
        while first_item < end:
            for item in range(first_item, end):
                rest = item // chunks
                begin = (item - rest * chunks) * a[CHUNK]
                stop = min(tiles, begin + a[CHUNK])
                batch = rest // a[HEADS]
                head = rest - batch * a[HEADS]
                kv_head = head // a[GROUP]
                there = keys_of(a, batch)
                lo, hi = range_of(a, there, tile_row(a, begin), tile_row(a, stop - 1) + mr - 1)
                lo, hi = lo // panel_keys, (hi + panel_keys - 1) // panel_keys
                if packed != batch * a[HEADS] + kv_head or lo < packed_from or lo > packed_to:
                    packed, packed_from, packed_to = batch * a[HEADS] + kv_head, lo, lo
                if hi > packed_to:
                    k = a[K] + batch * a[K_AT] + kv_head * a[K_AT + 1]
                    v = a[V] + batch * a[V_AT] + kv_head * a[V_AT + 1]
                    pack_keys(a, k_packed, k, packed_to, hi, k_tiles, k_panel, c)
                    pack_values(
                        a, v_packed, v, packed_to * panel_keys, min(hi * panel_keys, max(there, 1)), v_tiles, v_panel, c
                    )
                    packed_to = hi
                q = a[Q] + batch * a[Q_AT] + head * a[Q_AT + 1]
                y = a[Y] + batch * a[Y_AT] + head * a[Y_AT + 1]
                mask = a[MASK] + batch * a[MASK_AT] + head * a[MASK_AT + 1]
                for tile in range(begin, stop):
                    m = tile_row(a, tile)
                    pack_queries(a, rows, q + m * a[Q_AT + 2], c)
                    lo, hi = range_of(a, there, m, m + mr - 1)
                    lo = lo // panel_keys * panel_keys
                    for r in range(mr if a[WINDOWED] or a[MASK] else 0):
                        seen = mask + (m + r) * a[MASK_AT + 2] + lo * a[MASK_AT + 3]
                        fill_row(a, table + r * ROW_BYTES, there, m + r, lo, seen, 0)
                    weights = scores + lo * mr * ITEM
                    for p in range(lo // panel_keys, (hi + panel_keys - 1) // panel_keys):
                        wide = VECTORS if p < k_tiles - 1 else a[LAST_K]
                        micro = a[SCORES] if wide == VECTORS else a[SCORES_ONE]
                        store_i64(first + 8 * MICRO_WS_BLOCK, c * wide * vector)
                        to = scores + p * VECTORS * mr * vector
                        call6(micro, first, rows, k_packed + p * k_panel, to, a[ZEROS], 0)
                    store_i64(third + 8 * MICRO_KEYS, hi - lo)
                    call2(a[SOFTMAX], third, weights)
                    store_i64(second + 8 * MICRO_BLOCKS, (hi - lo + deep - 1) // deep)
                    for p in range(v_tiles):
                        wide, micro = a[NV_V], a[VALUES]
                        if p == v_tiles - 1:
                            wide, micro = a[LAST_V], a[VALUES_LAST]
                        store_i64(second + 8 * MICRO_WS_BLOCK, c * wide * vector)
                        to = y + m * a[Y_AT + 2] + p * a[NV_V] * vector
                        values = v_packed + p * v_panel + lo // each * wide * vector
                        call6(micro, second, weights, values, to, a[ZEROS], 0)
            first_item, end = piece(a, work, nth, end)

    return attention, STEP


@njit(error_model="numpy")
def tile_row(a, tile):
    """The first query of a tile."""
    return max(0, min(tile * a[MR], a[QUERIES] - a[MR]))


@njit(error_model="numpy")
def _pack_queries(a, to, q, c):
    """A tile of queries like rows of a product."""
    pack_row_tile(to, q, a[MR], a[SIZE], c, a[Q_AT + 2], ITEM)


@njit(error_model="numpy")
def _round_queries(a, to, q, c):
    """The same in bfloat16."""
    vector = c * ITEM
    for m in range(a[MR]):
        call5(a[PAIR_ROW], to + m * vector, a[MR] * vector, q + m * a[Q_AT + 2], ITEM, a[SIZE])


@njit(error_model="numpy")
def _pack_keys(a, to, k, first, end, tiles, panel, c):
    """Panels `first` to `end` of k[keys, size] as [panel][size][vectors of keys], zeros where it has no element."""
    size, stride = a[SIZE], a[K_AT + 2]
    depth = (size + c - 1) // c * c
    for p in range(first, end):
        wide = VECTORS if p < tiles - 1 else a[LAST_K]
        pitch = wide * c * ITEM
        for j in range(wide):
            at = (p * VECTORS + j) * c
            have = min(c, a[KEYS] - at)
            target = to + p * panel + j * c * ITEM
            source = k + at * stride
            if have == c and size >= c:
                call5(a[TRANSPOSE], size, source, stride, target, pitch)
            else:
                for d in range(size):
                    fill_bytes(target + d * pitch, c * ITEM, 0)
                    for i in range(have):
                        store_f32(target + d * pitch + i * ITEM, load_f32(source + i * stride + d * ITEM))
            for d in range(size, depth):
                fill_bytes(target + d * pitch, c * ITEM, 0)


@njit(error_model="numpy")
def _pack_values(a, to, v, first, end, tiles, panel, c):
    """Keys `first` to `end` of v[keys, size] as [panel][keys to a multiple of c][vectors], zeros where it has no element."""
    stride, nv = a[V_AT + 2], a[NV_V]
    depth = (end + c - 1) // c * c
    for p in range(tiles):
        wide = nv if p < tiles - 1 else a[LAST_V]
        pitch = wide * c * ITEM
        target = to + p * panel
        for j in range(wide):
            at = (p * nv + j) * c
            have = min(c, a[V_SIZE] - at)
            if have == c:
                for i in range(first, end):
                    copy_bytes(target + i * pitch + j * c * ITEM, v + i * stride + at * ITEM, c * ITEM)
            else:
                for i in range(first, end):
                    fill_bytes(target + i * pitch + j * c * ITEM, c * ITEM, 0)
                    copy_bytes(target + i * pitch + j * c * ITEM, v + i * stride + at * ITEM, have * ITEM)
        fill_bytes(target + end * pitch, (depth - end) * pitch, 0)


@njit(error_model="numpy")
def _round_keys(a, to, k, first, end, tiles, panel, c):
    """Like `_pack_keys`, in bfloat16: the steps take pairs along the size."""
    stride = a[K_AT + 2]
    for p in range(first, end):
        wide, at = VECTORS if p < tiles - 1 else a[LAST_K], p * VECTORS * c
        have = min(wide * c, a[KEYS] - at)
        call7(a[TRANSPOSE], to + p * panel, wide, k + at * stride, a[SIZE], ITEM, stride, have)


@njit(error_model="numpy")
def _round_values(a, to, v, first, end, tiles, panel, c):
    """Like `_pack_values`, in bfloat16: the steps take pairs of keys, of which `first` begins a block."""
    stride, nv = a[V_AT + 2], a[NV_V]
    for p in range(tiles):
        wide, at = nv if p < tiles - 1 else a[LAST_V], p * nv * c
        have = min(wide * c, a[V_SIZE] - at)
        target = to + p * panel + first // PAIR * wide * c * ITEM
        call7(a[TRANSPOSE], target, wide, v + first * stride + at * ITEM, end - first, stride, ITEM, have)
