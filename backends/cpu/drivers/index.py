"""Reading and writing at positions that come from data. A position out of range is reported, and nothing is touched.

The blocks of the work are numbered over up to INDEX_DIMS loops; along each, the address of the positions and an offset of
the data advance by byte strides. A block's place in the data is that offset plus, for each of the K axes that it is
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
    load_i32,
    load_i64,
    load_u8,
    load_u16,
    load_u32,
    store_i64,
    store_u8,
    store_u16,
    store_u32,
)
from graphc.backends.cpu.kernel import driver
from graphc.lower.limits import INDEX_AXES, INDEX_DIMS

# INDICES: address of the positions, WIDE: are they int64 (else int32), NEGATIVE: may they count from the end
INDICES, WIDE, NEGATIVE, K, COUNT, DIMS = range(6)  # DIMS: INDEX_DIMS extents, innermost first
INDEX_STRIDES = DIMS + INDEX_DIMS
DATA_STRIDES = INDEX_STRIDES + INDEX_DIMS
AXES = DATA_STRIDES + INDEX_DIMS  # INDEX_AXES pairs: size, byte stride
REST = AXES + 2 * INDEX_AXES  # what each driver adds, then the words of the reports


@njit(error_model="numpy")
def _checked(a, index, wide, size, negative, report):
    """The position at address `index` in [0, size), or -1 where it is out of range."""
    value = load_i64(index) if wide else load_i32(index)
    position = value + size if value < 0 and negative else value
    if position < 0 or position >= size:
        if load_i64(report) == 0:
            store_i64(report, (index - a[INDICES]) // (8 if wide else 4) + 1)
            store_i64(report + 8, value)
        return -1
    return position


@njit(error_model="numpy")
def _more_axes(a, index, wide, negative, report):
    """Offset that the positions of the second and later axes stand for, or -1."""
    offset = 0
    for axis in range(1, a[K]):
        index += 8 if wide else 4
        position = _checked(a, index, wide, a[AXES + 2 * axis], negative, report)
        if position < 0:
            return -1
        offset += position * a[AXES + 2 * axis + 1]
    return offset


@njit(error_model="numpy")
def _lookup(a, index, wide, size, stride, negative, single, report):
    """Offset that the K positions at address `index` stand for, or -1 where one of them is out of range."""
    position = _checked(a, index, wide, size, negative, report)
    if single or position < 0:
        return position * stride
    offset = _more_axes(a, index, wide, negative, report)
    return position * stride + offset if offset >= 0 else -1


@njit(error_model="numpy")
def _row_start(a, row, strides):
    """Offset of the innermost loop number `row`."""
    offset = 0
    for d in range(1, INDEX_DIMS):
        extent = a[DIMS + d]
        if extent > 1:
            up = row // extent
            offset += (row - up * extent) * a[strides + d]
            row = up
    return offset


@njit(error_model="numpy")
def _copy_block(to, source, nbytes):
    if nbytes == 4:
        store_u32(to, load_u32(source))
    elif nbytes == 8:
        store_i64(to, load_i64(source))
    elif nbytes == 1:
        store_u8(to, load_u8(source))
    elif nbytes == 2:
        store_u16(to, load_u16(source))
    else:
        copy_bytes(to, source, nbytes)


G_X, G_Y, G_BLOCK, G_REPORTS = range(REST, REST + 4)


@driver("gather")
def gather(target):
    """Y[block number] = X[its place], blocks of G_BLOCK bytes; zeros where a position is out of range."""

    def gather(a, tid, nth):
        report = block_address(a) + 8 * (G_REPORTS + 2 * tid)
        block, n = a[G_BLOCK], a[DIMS]
        wide, negative, single, size, stride = a[WIDE], a[NEGATIVE], a[K] == 1, a[AXES], a[AXES + 1]
        next_index, next_x = a[INDEX_STRIDES], a[DATA_STRIDES]
        u, last = a[COUNT] * tid // nth, a[COUNT] * (tid + 1) // nth
        while u < last:
            row = u // n
            j = u - row * n
            run = min(n - j, last - u)
            index = a[INDICES] + _row_start(a, row, INDEX_STRIDES) + j * a[INDEX_STRIDES]
            x = a[G_X] + _row_start(a, row, DATA_STRIDES) + j * a[DATA_STRIDES]
            y = a[G_Y] + u * block
            for _ in range(run):
                offset = _lookup(a, index, wide, size, stride, negative, single, report)
                if offset >= 0:
                    _copy_block(y, x + offset, block)
                else:
                    fill_bytes(y, block, 0)
                index += next_index
                x += next_x
                y += block
            u += run

    return gather, STEP


S_X, S_Y, S_UPDATES, S_TOTAL, S_BLOCK, S_ITEM, S_MICRO, S_SCRATCH, S_STRIDE, S_REPORTS = range(REST, REST + 10)


@driver("scatter")
def scatter(target):
    """Y = X (zeros where S_X is 0), then for each block in order: Y[its place] = f(Y[its place], updates[block number]).

    Every thread looks at all positions and writes those in its own part of Y, so that the order is kept. S_TOTAL and
    S_BLOCK count elements; f is a `map_row` kernel.
    """

    def scatter(a, tid, nth):
        report = block_address(a) + 8 * (S_REPORTS + 2 * tid)
        table = a[S_SCRATCH] + tid * a[S_STRIDE]
        n, elements = a[DIMS], a[S_BLOCK]
        block = elements * a[S_ITEM]
        blocks = a[S_TOTAL] // elements
        low, high = blocks * tid // nth * block, blocks * (tid + 1) // nth * block
        if a[S_X] == 0:
            fill_bytes(a[S_Y] + low, high - low, 0)
        else:
            copy_bytes(a[S_Y] + low, a[S_X] + low, high - low)
        wide, negative, single, size, stride = a[WIDE], a[NEGATIVE], a[K] == 1, a[AXES], a[AXES + 1]
        next_index, next_place, micro, y, updates = a[INDEX_STRIDES], a[DATA_STRIDES], a[S_MICRO], a[S_Y], a[S_UPDATES]
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


R_X, R_Y, R_LENGTHS, R_WIDE, R_BATCH, R_TIME, R_BLOCK, R_BATCH_STRIDE, R_TIME_STRIDE, R_REPORTS = range(10)


@driver("reverse_sequence")
def reverse_sequence(target):
    """For each batch entry, the first `length` steps in reverse and the others as they are; blocks of R_BLOCK bytes."""

    def reverse_sequence(a, tid, nth):
        report = block_address(a) + 8 * (R_REPORTS + 2 * tid)
        steps = a[R_TIME]
        for batch in range(a[R_BATCH] * tid // nth, a[R_BATCH] * (tid + 1) // nth):
            length = load_i64(a[R_LENGTHS] + 8 * batch) if a[R_WIDE] else load_i32(a[R_LENGTHS] + 4 * batch)
            if length < 0 or length > steps:
                if load_i64(report) == 0:
                    store_i64(report, batch + 1)
                    store_i64(report + 8, length)
                length = 0
            x, y = a[R_X] + batch * a[R_BATCH_STRIDE], a[R_Y] + batch * a[R_BATCH_STRIDE]
            for t in range(steps):
                source = length - 1 - t if t < length else t
                _copy_block(y + t * a[R_TIME_STRIDE], x + source * a[R_TIME_STRIDE], a[R_BLOCK])

    return reverse_sequence, STEP
