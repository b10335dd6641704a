"""A program of a C library: any number of threads may run it at once, each run in a workspace of its own.

A workspace is one piece of memory: the rows of the steps, the table with this workspace's addresses, the arena. Those that no run uses
wait in slots, from which a run takes one by swapping it with nothing; so there is no lock. What finds no slot is freed.
"""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import as_block, atomic_swap, call3, i64, load_i64, store_i64
from graphc.backends.cpu.executor.entry_driver import result1, result2
from graphc.backends.cpu.executor.program_block import DONE, LIBRARY, NO_MEMORY, OUT_OF_RANGE, PROGRAM_STEP, RunLibrary
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.sizes import CACHE_LINE

ALLOCATE, RELEASE, SLOTS, SLOT_COUNT = LIBRARY["allocate release slots slot_count"]
TEMPLATE, WORD_COUNT, ARENA_BYTES = LIBRARY["words word_count arena_bytes"]
DRIVERS, STEPS, STEP_COUNT = LIBRARY["drivers steps step_count"]
KERNELS, KERNEL_WORDS, KERNEL_COUNT = LIBRARY["kernels kernel_words kernel_count"]
CONSTANTS, CONSTANT_COUNT, SEGMENTS = LIBRARY["constants constant_count segments"]
PLACES, PLACE_COUNT, ENDS, END_COUNT = LIBRARY["places place_count ends end_count"]
REPORTS, REPORT_COUNT = LIBRARY["reports report_count"]
DRIVER, BLOCK = PROGRAM_STEP["driver block"]
ROW = PROGRAM_STEP.size


@njit(error_model="numpy")
def _lines(nbytes):
    return (nbytes + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE


@njit(error_model="numpy")
def _made(r):
    """A new workspace, or 0."""
    head, body = _lines(8 * ROW * r[STEP_COUNT]), _lines(8 * r[WORD_COUNT])
    workspace = result2(r[ALLOCATE], CACHE_LINE, head + body + _lines(r[ARENA_BYTES]))
    if workspace == 0:
        return 0
    table, arena = workspace + head, workspace + head + body
    words, template = as_block(table), as_block(r[TEMPLATE])
    for i in range(r[WORD_COUNT]):
        words[i] = template[i]
    rows, at = as_block(r[KERNELS]), as_block(r[KERNEL_WORDS])
    for i in range(r[KERNEL_COUNT]):
        words[at[i]] = rows[i]
    rows, segments = as_block(r[CONSTANTS]), as_block(r[SEGMENTS])
    for i in range(r[CONSTANT_COUNT]):
        words[rows[3 * i]] = segments[rows[3 * i + 1]] + rows[3 * i + 2]
    rows = as_block(r[PLACES])
    for i in range(r[PLACE_COUNT]):
        words[rows[2 * i]] = arena + rows[2 * i + 1]
    steps, drivers, blocks = as_block(workspace), as_block(r[DRIVERS]), as_block(r[STEPS])
    for i in range(r[STEP_COUNT]):
        steps[ROW * i + DRIVER] = drivers[i]
        steps[ROW * i + BLOCK] = table + 8 * blocks[i]
    return workspace


@njit(error_model="numpy")
def _taken(r):
    for i in range(r[SLOT_COUNT]):
        workspace = atomic_swap(r[SLOTS] + 8 * i, 0)
        if workspace != 0:
            return workspace
    return _made(r)


@njit(error_model="numpy")
def _give_back(r, workspace):
    for i in range(r[SLOT_COUNT]):
        workspace = atomic_swap(r[SLOTS] + 8 * i, workspace)  # what was there looks for another slot
        if workspace == 0:
            return
    result1(r[RELEASE], workspace)


@driver(RunLibrary)
def run_library(target):
    """(record, arguments): inputs, then results, by their addresses. Returns DONE, NO_MEMORY, or OUT_OF_RANGE after a report."""

    def run_library(record, arguments):
        r, given = as_block(record), as_block(arguments)
        workspace = _taken(r)
        if workspace == 0:
            return NO_MEMORY
        table = workspace + _lines(8 * ROW * r[STEP_COUNT])
        rows = as_block(r[ENDS])
        for i in range(r[END_COUNT]):
            store_i64(table + 8 * rows[3 * i], given[rows[3 * i + 1]] + rows[3 * i + 2])
        steps = as_block(workspace)
        for i in range(r[STEP_COUNT]):
            call3(steps[ROW * i + DRIVER], steps[ROW * i + BLOCK], 0, 1)
        result, rows = DONE, as_block(r[REPORTS])
        for i in range(r[REPORT_COUNT]):
            if load_i64(table + 8 * rows[i]) != 0:
                store_i64(table + 8 * rows[i], 0)
                result = OUT_OF_RANGE
        _give_back(r, workspace)
        return result

    return run_library, i64(i64, i64)
