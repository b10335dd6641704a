"""Numbers that follow from sizes: an int64 per thread."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir
from numba.cuda import types

from graphc.backends.cuda.codegen.device import device, store, word
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.threads import thread_number
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.verbs.numbers_block import (
    COUNT_UP,
    WRITE_NUMBERS,
    WRITE_POSITIONS,
    CountUp,
    WriteNumbers,
    WritePositions,
)
from graphc.backends.llvm.emit import I64
from graphc.ops._positions import EDGES, OUTSIDE


def _floor(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
    b, (x, by) = q.b, a
    quotient = b.sdiv(x, by)
    below = b.icmp_signed("<", b.sub(x, b.mul(quotient, by)), ir.Constant(I64, 0))
    return b.sub(quotient, b.zext(below, I64))


floor_divide = device(_floor, types.int64, types.int64, types.int64)  # floor_divide(x, by), by > 0


@makes(WriteNumbers)
def write_numbers() -> Code:
    COUNT, Y = WRITE_NUMBERS["count y"]
    VALUES, put = WRITE_NUMBERS.size, store("int64")

    def write_numbers(a):
        i = thread_number(THREADS)
        if i < word(a, COUNT):
            put(word(a, Y) + 8 * i, word(a, VALUES + i))

    return Code(write_numbers)


@makes(CountUp)
def count_up() -> Code:
    COUNT, Y, START, BY = COUNT_UP["count y start step"]
    put = store("int64")

    def count_up(a):
        i = thread_number(THREADS)
        if i < word(a, COUNT):
            put(word(a, Y) + 8 * i, word(a, START) + i * word(a, BY))

    return Code(count_up)


@makes(WritePositions)
def write_positions() -> Code:
    """As `Reads.indices` in graphc/ops/_positions.py."""
    COUNT, Y, BY, FIRST, DIVISOR, SIZE, EDGE = WRITE_POSITIONS["count y step first divisor size edge"]
    LOW, STRIDE = WRITE_POSITIONS["low stride"]
    FILL, CLAMP, REFLECT, _ = (EDGES.index(e) for e in ("fill", "clamp", "reflect", "wrap"))
    put = store("int64")

    def write_positions(a):
        i = thread_number(THREADS)
        if i < word(a, COUNT):
            size, edge = word(a, SIZE), word(a, EDGE)
            at = floor_divide(i * word(a, BY) + word(a, FIRST), word(a, DIVISOR))
            outside = at < 0 or at >= size
            if edge == CLAMP:
                at = min(max(at, 0), size - 1)
            elif outside and edge == REFLECT:
                period = max(2 * (size - 1), 1)
                at -= floor_divide(at, period) * period
                at = min(at, 2 * (size - 1) - at)
            elif outside and edge != FILL:
                at -= floor_divide(at, size) * size
            put(word(a, Y) + 8 * i, OUTSIDE if edge == FILL and outside else (at + word(a, LOW)) * word(a, STRIDE))

    return Code(write_positions)
