"""Loops over rows for elementwise kernels: any broadcast operands, any strides outside the innermost dim."""

from __future__ import annotations

from graphc.backends.cpu.blocks.rows import MAP_ROWS
from graphc.backends.cpu.codegen.intrinsics import STEP, call2, store_i64
from graphc.backends.cpu.drivers.work import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.sizes import ROW_DIMS

MICRO, OPERANDS, LENGTH, CHUNK, SCRATCH, STRIDE, DIMS = MAP_ROWS["micro operands length chunk scratch stride dims"]
RECORDS, RECORD = MAP_ROWS.size, MAP_ROWS.record_size
REF, ALONG, STRIDES = MAP_ROWS.in_record("ref along strides")


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
                    address = a[r + REF] + start * a[r + ALONG]
                    rest = row
                    for d in range(ROW_DIMS):
                        extent = a[DIMS + d]
                        if extent > 1:
                            up = rest // extent
                            address += (rest - up * extent) * a[r + STRIDES + d]
                            rest = up
                    store_i64(table + 8 * i, address)
                call2(a[MICRO], min(chunk, length - start), table)
            first_item, end = piece(a, work, nth, end)

    return map_rows, STEP
