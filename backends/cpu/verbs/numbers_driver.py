"""Numbers that follow from sizes."""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, store_i64
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.verbs.numbers_block import COUNT_UP, WRITE_NUMBERS, CountUp, WriteNumbers


@driver(WriteNumbers)
def write_numbers(target):
    Y, COUNT = WRITE_NUMBERS["y count"]
    VALUES = WRITE_NUMBERS.size

    def write_numbers(a, tid, nth):
        for i in range(a[COUNT] * tid // nth, a[COUNT] * (tid + 1) // nth):
            store_i64(a[Y] + 8 * i, a[VALUES + i])

    return write_numbers, STEP


@driver(CountUp)
def count_up(target):
    Y, START, BY, COUNT = COUNT_UP["y start step count"]

    def count_up(a, tid, nth):
        for i in range(a[COUNT] * tid // nth, a[COUNT] * (tid + 1) // nth):
            store_i64(a[Y] + 8 * i, a[START] + i * a[BY])

    return count_up, STEP
