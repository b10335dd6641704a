"""Positions of what is not zero, as coordinates, and what lies at such positions."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import (
    STEP,
    as_block,
    block_address,
    call4,
    load_i64,
    store_i64,
)
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.selection.positions_block import (
    CHUNK,
    COUNT_CHUNKS,
    FIND_CHUNKS,
    TAKE,
    CountChunks,
    FindChunks,
    Take,
)
from graphc.backends.cpu.verbs.items_njit import INT64_BYTES, copy_block

REPORT = 2  # words of a thread's report, which follow the block: 1 + number of a position, and the position


@driver(CountChunks)
def count_chunks(target):
    """COUNTS[chunk] = how many of its elements are not zero."""
    X, N, ITEM, COUNTS, MICRO = COUNT_CHUNKS["x n item counts micro"]

    def count_chunks(a, tid, nth):
        n = a[N]
        chunks = (n + CHUNK - 1) // CHUNK
        first, end = piece(a, chunks, nth, 0)
        while first < end:
            for k in range(first, end):
                start = k * CHUNK
                call4(a[MICRO], min(CHUNK, n - start), a[X] + start * a[ITEM], 0, a[COUNTS] + INT64_BYTES * k)
            first, end = piece(a, chunks, nth, end)

    return count_chunks, STEP


@njit(error_model="numpy")
def _sum(numbers, first, end):
    total = 0
    for i in range(first, end):
        total += numbers[i]
    return total


@njit(error_model="numpy")
def _to_coordinates(a, sizes, rank, found, total, first, end):
    """Positions number first … end, which lie in the last row of [rank, total], as coordinates in tensor of `sizes`."""
    inner = a[sizes + rank - 1]
    last = (rank - 1) * total
    low = high = 0  # the positions of the innermost row that the one before was in
    for i in range(first, end):
        position = found[last + i]
        if position >= high:
            row = position // inner
            low = row * inner
            high = low + inner
            for d in range(rank - 2, 0, -1):
                up = row // a[sizes + d]
                found[d * total + i] = row - up * a[sizes + d]
                row = up
            found[i] = row
        else:
            for d in range(rank - 1):
                found[d * total + i] = found[d * total + i - 1]
        found[last + i] = position - low


@driver(FindChunks)
def find_chunks(target):
    """FOUND[rank, total] = coordinates of the elements that are not zero; `total` of them."""
    X, N, ITEM, COUNTS, MICRO, FOUND, TOTAL, RANK = FIND_CHUNKS["x n item counts micro found total rank"]
    SIZES = FIND_CHUNKS.size

    def find_chunks(a, tid, nth):
        n, rank = a[N], a[RANK]
        chunks = (n + CHUNK - 1) // CHUNK
        counts, found = as_block(a[COUNTS]), as_block(a[FOUND])
        total = _sum(counts, 0, chunks)
        if tid == 0:
            store_i64(a[TOTAL], total)
        if rank == 0:
            return
        last = a[FOUND] + INT64_BYTES * (rank - 1) * total
        first, end = piece(a, chunks, nth, 0)
        while first < end:
            at = _sum(counts, 0, first)
            for k in range(first, end):
                if counts[k]:
                    start = k * CHUNK
                    x = a[X] + start * a[ITEM]
                    call4(a[MICRO], min(CHUNK, n - start), x, start, last + INT64_BYTES * at)
                    if rank > 1:
                        _to_coordinates(a, SIZES, rank, found, total, at, at + counts[k])
                    at += counts[k]
            first, end = piece(a, chunks, nth, end)

    return find_chunks, STEP


@driver(Take)
def take(target):
    """Y[outer, i] = X[outer, POSITIONS[i]], blocks of BLOCK bytes; positions ascend. One out of range is reported."""
    X, Y, POSITIONS, COUNT, OUTER, SIZE, BLOCK = TAKE["x y positions count outer size block"]
    REPORTS = TAKE.size

    def take(a, tid, nth):
        positions, count, size, block = as_block(a[POSITIONS]), load_i64(a[COUNT]), a[SIZE], a[BLOCK]
        if count and positions[count - 1] >= size:
            report = block_address(a) + INT64_BYTES * (REPORTS + REPORT * tid)
            i = 0
            while positions[i] < size:
                i += 1
            store_i64(report, i + 1)
            store_i64(report + INT64_BYTES, positions[i])
            return
        unit, last = a[OUTER] * count * tid // nth, a[OUTER] * count * (tid + 1) // nth
        while unit < last:
            outer = unit // count
            i = unit - outer * count
            run = min(count - i, last - unit)
            x, y = a[X] + outer * size * block, a[Y] + unit * block
            for k in range(run):
                copy_block(y + k * block, x + positions[i + k] * block, block)
            unit += run

    return take, STEP
