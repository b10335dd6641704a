"""Attention of few rows of queries, whose keys and values are read where they lie: a token and the cache before it."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.attention.attention_block import (
    ANY_ATTENTION,
    ATTENTION_ROWS,
    BLOCKS,
    KEY_DOTS,
    ROWS_BLOCK_BYTES,
    VALUE_SUMS,
    AttentionRows,
)
from graphc.backends.cpu.attention.attention_njit import (
    MICRO_KEYS,
    ROW_BYTES,
    fill_row,
    keys_of,
    range_of,
    start_softmax,
)
from graphc.backends.cpu.codegen.intrinsics import STEP, call2, call4, copy_bytes, fill_bytes, store_i64
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.tile.dot import FMA

ITEM = FMA.item
SOFTMAX, Q, K, V, MASK, Y, SCRATCH, SCRATCH_STRIDE = ANY_ATTENTION["softmax q k v mask y scratch scratch_stride"]
BATCH, HEADS, GROUP, QUERIES, SIZE, V_SIZE = ANY_ATTENTION["batch heads group queries size v_size"]
Q_AT, K_AT, V_AT, Y_AT, MASK_AT = ANY_ATTENTION["q_strides k_strides v_strides y_strides mask_strides"]
DOTS, SUMS, SUMS_LAST, ROWS, NV = ATTENTION_ROWS["dots sums sums_last rows nv"]
SIZE_LANES, LAST_LANES, KV_ITEM = ATTENTION_ROWS["size_lanes last_lanes kv_item"]
DOTS_KEYS, DOTS_ROW, DOTS_BLOCKS, DOTS_LANES = KEY_DOTS["keys k_row blocks lanes"]
SUMS_KEYS, SUMS_ROW, SUMS_ROWS, SUMS_LANES = VALUE_SUMS["keys v_row rows lanes"]


@driver(AttentionRows)
def attention_rows(target):
    """y = softmax(q k^T · scale + mask) v for each batch and head of keys, tile by tile of ROWS rows of queries.

    A row is a query of one of the GROUP heads that share the keys. Rows that there are not repeat the last one. A tile's
    queries are packed as [size / vl][row][vl], its scores lie as [keys / vl][row][vl].
    """
    c = target.vl
    vector = target.vector

    def attention_rows(a, tid, nth):
        n, group, size = a[ROWS], a[GROUP], a[SIZE]
        first = a[SCRATCH] + tid * a[SCRATCH_STRIDE]
        second, third = first + ROWS_BLOCK_BYTES, first + 2 * ROWS_BLOCK_BYTES
        table = first + BLOCKS * ROWS_BLOCK_BYTES
        queries = table + n * ROW_BYTES
        scores = queries + (size + c - 1) // c * n * vector
        store_i64(first + 8 * DOTS_ROW, a[K_AT + 2])
        store_i64(first + 8 * DOTS_BLOCKS, size // c)
        store_i64(first + 8 * DOTS_LANES, a[SIZE_LANES])
        store_i64(second + 8 * SUMS_ROW, a[V_AT + 2])
        store_i64(second + 8 * SUMS_ROWS, table)
        store_i64(second + 8 * SUMS_LANES, a[LAST_LANES])
        start_softmax(a, third, table)
        rows = a[QUERIES] * group
        tiles, kv_heads = (rows + n - 1) // n, a[HEADS] // group
        columns = ((a[V_SIZE] + c - 1) // c + a[NV] - 1) // a[NV]
        work = a[BATCH] * kv_heads * tiles
        begin, end = piece(a, work, nth, 0)
        while begin < end:
            for item in range(begin, end):
                rest = item // tiles
                row = (item - rest * tiles) * n
                batch = rest // kv_heads
                kv_head = rest - batch * kv_heads
                keys = keys_of(a, batch)
                start, stop = range_of(a, keys, row // group, (min(row + n, rows) - 1) // group)
                for r in range(n):
                    at = min(row + r, rows - 1)
                    query = at // group
                    head = kv_head * group + at - query * group
                    q = a[Q] + batch * a[Q_AT] + head * a[Q_AT + 1] + query * a[Q_AT + 2]
                    y = a[Y] + batch * a[Y_AT] + head * a[Y_AT + 1] + query * a[Y_AT + 2]
                    mask = a[MASK] + batch * a[MASK_AT] + head * a[MASK_AT + 1] + query * a[MASK_AT + 2]
                    fill_row(a, table + r * ROW_BYTES, keys, query, start, mask + start * a[MASK_AT + 3], y)
                    _pack_query(queries + r * vector, q, size, n * vector, c)
                for block in (first + 8 * DOTS_KEYS, second + 8 * SUMS_KEYS, third + 8 * MICRO_KEYS):
                    store_i64(block, stop - start)
                k = a[K] + batch * a[K_AT] + kv_head * a[K_AT + 1] + start * a[K_AT + 2]
                v = a[V] + batch * a[V_AT] + kv_head * a[V_AT + 1] + start * a[V_AT + 2]
                call4(a[DOTS], first, queries, k, scores)
                call2(a[SOFTMAX], third, scores)
                for p in range(columns):
                    micro = a[SUMS_LAST] if p == columns - 1 else a[SUMS]
                    column = p * a[NV] * c
                    call4(micro, second, scores, v + column * a[KV_ITEM], column * ITEM)
            begin, end = piece(a, work, nth, end)

    return attention_rows, STEP


@njit(error_model="numpy")
def _pack_query(to, q, size, pitch, c):
    """A row's vectors, one per `pitch` bytes, filled up with zeros."""
    whole = size // c
    for i in range(whole):
        copy_bytes(to + i * pitch, q + i * c * ITEM, c * ITEM)
    if whole * c < size:
        tail = to + whole * pitch
        fill_bytes(tail, c * ITEM, 0)
        copy_bytes(tail, q + whole * c * ITEM, (size - whole * c) * ITEM)
