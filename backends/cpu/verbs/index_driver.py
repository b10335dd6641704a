"""Reading and writing at positions that come from data. A position out of range is reported, and nothing is touched.

The blocks of the work are numbered over up to INDEX_DIMS loops; along each, the address of the positions and an offset of
the data advance by byte strides. A block's place in the data is that offset plus, for each of the AXIS_COUNT axes that it is
looked up in, the position times the axis' stride.
"""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import (
    STEP,
    block_address,
    call2,
    copy_bytes,
    fill_bytes,
    load_i64,
    store_i64,
)
from graphc.backends.cpu.executor.work_njit import offset_of
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.verbs.index_block import (
    GATHER,
    LOOKUP,
    REVERSE_SEQUENCE,
    SCATTER,
    Gather,
    ReverseSequence,
    Scatter,
)
from graphc.backends.cpu.verbs.items_njit import INT32_BYTES, INT64_BYTES, copy_block, load_integer
from graphc.lower.limits import INDEX_DIMS

INDICES, WIDE, NEGATIVE, AXIS_COUNT, COUNT = LOOKUP["indices wide negative axis_count count"]
DIMS, INDEX_STRIDES, DATA_STRIDES, AXES = LOOKUP["dims index_strides data_strides axes"]
REPORT = (
    2  # words of a thread's report, which follow each block: 1 + number of a position out of range, and the position
)


@njit(error_model="numpy")
def _checked(a, index, wide, size, negative, report):
    """The position at address `index` in [0, size), or -1 where it is out of range."""
    value = load_integer(index, 0, wide)
    position = value + size if value < 0 and negative else value
    if position < 0 or position >= size:
        if load_i64(report) == 0:
            store_i64(report, (index - a[INDICES]) // (INT64_BYTES if wide else INT32_BYTES) + 1)
            store_i64(report + 8, value)
        return -1
    return position


@njit(error_model="numpy")
def _more_axes(a, index, wide, negative, report):
    """Offset that the positions of the second and later axes stand for, or -1."""
    offset = 0
    for axis in range(1, a[AXIS_COUNT]):
        index += INT64_BYTES if wide else INT32_BYTES
        position = _checked(a, index, wide, a[AXES + 2 * axis], negative, report)
        if position < 0:
            return -1
        offset += position * a[AXES + 2 * axis + 1]
    return offset


@njit(error_model="numpy")
def _lookup(a, index, wide, size, stride, negative, single, report):
    """Offset that the AXIS_COUNT positions at address `index` stand for, or -1 where one of them is out of range."""
    position = _checked(a, index, wide, size, negative, report)
    if single or position < 0:
        return position * stride
    offset = _more_axes(a, index, wide, negative, report)
    return position * stride + offset if offset >= 0 else -1


@njit(error_model="numpy")
def _row_start(a, row, strides):
    """Offset of the innermost loop number `row`."""
    return offset_of(a, row, DIMS + 1, strides + 1, INDEX_DIMS - 1)


@driver(Gather)
def gather(target):
    """Y[block number] = X[its place], blocks of BLOCK bytes; zeros where a position is out of range."""
    X, Y, BLOCK = GATHER["x y block"]
    REPORTS = GATHER.size

    def gather(a, tid, nth):
        report = block_address(a) + 8 * (REPORTS + REPORT * tid)
        block, n = a[BLOCK], a[DIMS]
        wide, negative, single, size, stride = a[WIDE], a[NEGATIVE], a[AXIS_COUNT] == 1, a[AXES], a[AXES + 1]
        next_index, next_x = a[INDEX_STRIDES], a[DATA_STRIDES]
        u, last = a[COUNT] * tid // nth, a[COUNT] * (tid + 1) // nth
        while u < last:
            row = u // n
            j = u - row * n
            run = min(n - j, last - u)
            index = a[INDICES] + _row_start(a, row, INDEX_STRIDES) + j * a[INDEX_STRIDES]
            x = a[X] + _row_start(a, row, DATA_STRIDES) + j * a[DATA_STRIDES]
            y = a[Y] + u * block
            for _ in range(run):
                offset = _lookup(a, index, wide, size, stride, negative, single, report)
                if offset >= 0:
                    copy_block(y, x + offset, block)
                else:
                    fill_bytes(y, block, 0)
                index += next_index
                x += next_x
                y += block
            u += run

    return gather, STEP


@driver(Scatter)
def scatter(target):
    """Y = X (zeros where X is 0), then for each block in order: Y[its place] = f(Y[its place], updates[block number]).

    Every thread looks at all positions and writes those in its own part of Y, so that the order is kept. TOTAL and
    BLOCK count elements; f is a `map_row` kernel.
    """
    X, Y, UPDATES, TOTAL, BLOCK, ITEM = SCATTER["x y updates total block item"]
    MICRO, SCRATCH, STRIDE = SCATTER["micro scratch stride"]
    REPORTS = SCATTER.size

    def scatter(a, tid, nth):
        report = block_address(a) + 8 * (REPORTS + REPORT * tid)
        table = a[SCRATCH] + tid * a[STRIDE]
        n, elements = a[DIMS], a[BLOCK]
        block = elements * a[ITEM]
        blocks = a[TOTAL] // elements
        low, high = blocks * tid // nth * block, blocks * (tid + 1) // nth * block
        if a[X] == 0:
            fill_bytes(a[Y] + low, high - low, 0)
        else:
            copy_bytes(a[Y] + low, a[X] + low, high - low)
        wide, negative, single, size, stride = a[WIDE], a[NEGATIVE], a[AXIS_COUNT] == 1, a[AXES], a[AXES + 1]
        next_index, next_place, micro, y, updates = a[INDEX_STRIDES], a[DATA_STRIDES], a[MICRO], a[Y], a[UPDATES]
        u = 0
        while u < a[COUNT]:
            row = u // n
            index = a[INDICES] + _row_start(a, row, INDEX_STRIDES)
            start = _row_start(a, row, DATA_STRIDES)
            for j in range(n):
                offset = _lookup(a, index + j * next_index, wide, size, stride, negative, single, report)
                place = offset + start + j * next_place
                if offset >= 0 and low <= place < high:
                    store_i64(table, y + place)
                    store_i64(table + 8, y + place)
                    store_i64(table + 16, updates + (u + j) * block)
                    call2(micro, elements, table)
            u += n

    return scatter, STEP


@driver(ReverseSequence)
def reverse_sequence(target):
    """For each batch entry, the first `length` steps in reverse and the others as they are; blocks of BLOCK bytes."""
    X, Y, LENGTHS, WIDE, BATCH, TIME, BLOCK = REVERSE_SEQUENCE["x y lengths wide batch time block"]
    BATCH_STRIDE, TIME_STRIDE = REVERSE_SEQUENCE["batch_stride time_stride"]
    REPORTS = REVERSE_SEQUENCE.size

    def reverse_sequence(a, tid, nth):
        report = block_address(a) + 8 * (REPORTS + REPORT * tid)
        steps = a[TIME]
        for batch in range(a[BATCH] * tid // nth, a[BATCH] * (tid + 1) // nth):
            length = load_integer(a[LENGTHS], batch, a[WIDE])
            if length < 0 or length > steps:
                if load_i64(report) == 0:
                    store_i64(report, batch + 1)
                    store_i64(report + 8, length)
                length = 0
            x, y = a[X] + batch * a[BATCH_STRIDE], a[Y] + batch * a[BATCH_STRIDE]
            for t in range(steps):
                source = length - 1 - t if t < length else t
                copy_block(y + t * a[TIME_STRIDE], x + source * a[TIME_STRIDE], a[BLOCK])

    return reverse_sequence, STEP
