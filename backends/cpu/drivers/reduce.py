"""Loops around kernels made of passes, and other kernels that take (m, n, table)."""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, call3, store_i64
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.sizes import PASS_DIMS

MICRO, RECORD_COUNT, SCRATCH, STRIDE, M, M_CHUNK, N, N_CHUNK, DIMS = range(
    9
)  # DIMS: PASS_DIMS outer extents, innermost first
RECORDS = DIMS + PASS_DIMS
# each: address, step (passed on), bytes a chunk of m, bytes a chunk of n, PASS_DIMS byte strides
RECORD = 4 + PASS_DIMS


@driver("passes")
def passes(target):
    """Calls the micro-kernel on each chunk of m by n of each row; chunks are cut evenly between threads.

    The table of the micro-kernel holds an address and a step for each record.
    """

    def passes(a, tid, nth):
        records = a[RECORD_COUNT]
        chunks_m = max(1, (a[M] + a[M_CHUNK] - 1) // a[M_CHUNK])
        chunks_n = max(1, (a[N] + a[N_CHUNK] - 1) // a[N_CHUNK])
        work = chunks_m * chunks_n
        for d in range(PASS_DIMS):
            work *= a[DIMS + d]
        table = a[SCRATCH] + tid * a[STRIDE]
        for i in range(records):
            store_i64(table + 16 * i + 8, a[RECORDS + i * RECORD + 1])
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            row = k // (chunks_m * chunks_n)
            chunk = k - row * (chunks_m * chunks_n)
            im = chunk // chunks_n
            jn = chunk - im * chunks_n
            for i in range(records):
                r = RECORDS + i * RECORD
                address = a[r] + im * a[r + 2] + jn * a[r + 3]
                rest = row
                for d in range(PASS_DIMS):
                    extent = a[DIMS + d]
                    if extent > 1:
                        up = rest // extent
                        address += (rest - up * extent) * a[r + 4 + d]
                        rest = up
                store_i64(table + 16 * i, address)
            call3(a[MICRO], min(a[M_CHUNK], a[M] - im * a[M_CHUNK]), min(a[N_CHUNK], a[N] - jn * a[N_CHUNK]), table)

    return passes, STEP
