"""What the machine can do at most, measured: the two sides of the roofline (Williams, Waterman, Patterson 2009)."""

from __future__ import annotations

import time
from functools import lru_cache

import numpy as np

from graphc.backends.cpu.executor.peak_micro import LINES, operand_bytes, products
from graphc.backends.cpu.executor.program_block import PeakProduct, PeakRead
from graphc.backends.cpu.runtime.process import runtime_of
from graphc.backends.cpu.runtime.threads import Executor
from graphc.backends.cpu.stages import LINE
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import DOTS, FMA, PAIRS, Dot
from graphc.lower.aligned import aligned_empty
from graphc.report import Roofline

PRODUCTS = 1 << 26  # that a thread sums in a measurement: a millisecond, which others seldom interrupt
MEMORY = 1 << 28  # bytes a thread reads that no cache holds
READ = 1 << 26  # bytes a measurement reads at least
REPEATS = 5


@lru_cache
def roofline(target: Target, threads: int, cache: bool = True) -> Roofline:
    """Arithmetic by inner step, and bandwidths, that `threads` threads reach together; the best of a few runs.

    Takes a fraction of a second, once a process.
    """
    runtime = runtime_of(target)
    executor, tools = runtime.executor(threads, cache), runtime.toolchain(cache)
    read = tools.address(PeakRead())
    sums = np.zeros(threads * target.vl, np.float32)

    def peak(dot: Dot) -> float:
        """Operations per second, of operands that are zeros: how long they take is the same for all numbers."""
        operands, each = np.zeros(2 * operand_bytes(target, dot), np.uint8), products(target, dot)
        rounds = PRODUCTS // each
        kernel = tools.address(PeakProduct(dot.name))
        seconds = _seconds(executor, kernel, [rounds, operands.ctypes.data, sums.ctypes.data])
        return threads * rounds * each * 2 / seconds

    sizes = sorted({target.l1 // 2, target.l2 // 2, target.l3 // 8, MEMORY})  # other threads have their part of level 3
    data = aligned_empty(threads * MEMORY)
    data.fill(0)  # untouched pages are all one page of zeros
    rates = []
    for size in sizes:
        groups, times = size // (LINES * 4 * target.vl), max(1, READ // size)
        seconds = _seconds(executor, read, [groups, data.ctypes.data, times, sums.ctypes.data])
        rates.append((threads * size, threads * size * times / seconds))
    return Roofline({dot.types: peak(dot) for dot in DOTS.values() if multiplies_alone(dot, target)}, tuple(rates))


def multiplies_alone(dot: Dot, target: Target) -> bool:
    """Has it a way of its own to multiply? Weights that are decoded are multiplied as float32 are."""
    if dot is PAIRS:
        return target.dots_bfloat16
    return dot is FMA or dot.a is not FMA.a


def _seconds(executor: Executor, kernel: int, numbers: list[int]) -> float:
    """Shortest time of a step on the threads that run models. kernel: its address."""
    words = np.array([0] * LINE + numbers, np.int64)  # a line for the threads' turns
    step = np.array([kernel, words[LINE:].ctypes.data, 1], np.int64)
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        executor.run(step.ctypes.data, 1)
        times.append(time.perf_counter() - start)
    return min(times)
