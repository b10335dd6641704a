"""Loops over rows for elementwise kernels: any broadcast operands, any strides outside the innermost dim."""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, call2, store_i64
from graphc.backends.cpu.drivers.work import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.sizes import ROW_DIMS

# argument block, then one record an operand. SCRATCH: each thread's table of addresses, STRIDE bytes apart
MICRO, OPERANDS, LENGTH, CHUNK, SCRATCH, STRIDE, DIMS = range(7)  # DIMS: ROW_DIMS outer extents, innermost first
RECORDS = DIMS + ROW_DIMS  # each: address, bytes an element along the row (0: one for the row), ROW_DIMS byte strides
RECORD = 2 + ROW_DIMS


@driver("map_rows")
def map_rows(target):
    """Calls `map_row` on pieces of at most CHUNK elements of each row; pieces are cut evenly between threads."""

    def map_rows(a, tid, nth):
        count = a[OPERANDS]
        length = a[LENGTH]
        chunk = a[CHUNK]
        pieces = (length + chunk - 1) // chunk
        rows = 1
        for d in range(ROW_DIMS):
            rows *= a[DIMS + d]
        table = a[SCRATCH] + tid * a[STRIDE]
        work = rows * pieces
        first_item, end = piece(a, work, nth, 0)
        while first_item < end:
            for k in range(first_item, end):
                row = k // pieces
                start = (k - row * pieces) * chunk
                for i in range(count):
                    r = RECORDS + i * RECORD
                    address = a[r] + start * a[r + 1]
                    rest = row
                    for d in range(ROW_DIMS):
                        extent = a[DIMS + d]
                        if extent > 1:
                            up = rest // extent
                            address += (rest - up * extent) * a[r + 2 + d]
                            rest = up
                    store_i64(table + 8 * i, address)
                call2(a[MICRO], min(chunk, length - start), table)
            first_item, end = piece(a, work, nth, end)

    return map_rows, STEP
