"""Loops around kernels made of passes, and other kernels that take (m, n, table)."""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, call3, store_i64
from graphc.backends.cpu.executor.work_njit import offset_of, product_of
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.verbs.passes_block import PASSES, RunPasses
from graphc.lower.limits import PASS_DIMS

MICRO, OPERANDS, SCRATCH, STRIDE = PASSES["micro operands scratch stride"]
M, M_CHUNK, N, N_CHUNK, DIMS = PASSES["m m_chunk n n_chunk dims"]
RECORDS, RECORD = PASSES.size, PASSES.record_size
REF, STEP_BYTES, M_BYTES, N_BYTES, STRIDES = PASSES.in_record("ref step m_bytes n_bytes strides")


@driver(RunPasses)
def passes(target):
    """Calls the micro-kernel on each chunk of m by n of each row; chunks are cut evenly between threads.

    The table of the micro-kernel holds an address and a step for each record.
    """

    def passes(a, tid, nth):
        records = a[OPERANDS]
        chunks_m = max(1, (a[M] + a[M_CHUNK] - 1) // a[M_CHUNK])
        chunks_n = max(1, (a[N] + a[N_CHUNK] - 1) // a[N_CHUNK])
        work = chunks_m * chunks_n * product_of(a, DIMS, PASS_DIMS)
        table = a[SCRATCH] + tid * a[STRIDE]
        for i in range(records):
            store_i64(table + 16 * i + 8, a[RECORDS + i * RECORD + STEP_BYTES])
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            row = k // (chunks_m * chunks_n)
            chunk = k - row * (chunks_m * chunks_n)
            im = chunk // chunks_n
            jn = chunk - im * chunks_n
            for i in range(records):
                r = RECORDS + i * RECORD
                address = a[r + REF] + im * a[r + M_BYTES] + jn * a[r + N_BYTES]
                store_i64(table + 16 * i, address + offset_of(a, row, DIMS, r + STRIDES, PASS_DIMS))
            call3(a[MICRO], min(a[M_CHUNK], a[M] - im * a[M_CHUNK]), min(a[N_CHUNK], a[N] - jn * a[N_CHUNK]), table)

    return passes, STEP
