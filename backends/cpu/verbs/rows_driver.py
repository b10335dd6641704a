"""Loops over rows for elementwise kernels: any broadcast operands, any strides outside the innermost dim."""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, call2, store_i64
from graphc.backends.cpu.executor.work_njit import offset_of, piece, product_of
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.sizes import ROW_DIMS
from graphc.backends.cpu.verbs.rows_block import MAP_ROWS, MapRows

MICRO, OPERANDS, LENGTH, CHUNK, SCRATCH, STRIDE, DIMS = MAP_ROWS["micro operands length chunk scratch stride dims"]
RECORDS, RECORD = MAP_ROWS.size, MAP_ROWS.record_size
REF, ALONG, STRIDES = MAP_ROWS.in_record("ref along strides")


@driver(MapRows)
def map_rows(target):
    """Calls `map_row` on pieces of at most CHUNK elements of each row; pieces are cut evenly between threads."""

    def map_rows(a, tid, nth):
        count = a[OPERANDS]
        length = a[LENGTH]
        chunk = a[CHUNK]
        pieces = (length + chunk - 1) // chunk
        table = a[SCRATCH] + tid * a[STRIDE]
        work = product_of(a, DIMS, ROW_DIMS) * pieces
        first_item, end = piece(a, work, nth, 0)
        while first_item < end:
            for k in range(first_item, end):
                row = k // pieces
                start = (k - row * pieces) * chunk
                for i in range(count):
                    r = RECORDS + i * RECORD
                    outer = offset_of(a, row, DIMS, r + STRIDES, ROW_DIMS)
                    store_i64(table + 8 * i, a[r + REF] + start * a[r + ALONG] + outer)
                call2(a[MICRO], min(chunk, length - start), table)
            first_item, end = piece(a, work, nth, end)

    return map_rows, STEP
