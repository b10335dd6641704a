"""Numbers that follow from sizes: an int64 per thread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llvmlite import ir
from numba.cuda import types

from graphc import expr as e
from graphc.backends.cuda.codegen.device import device, function_of, register, store, word
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.threads import thread_number
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.verbs.numbers_block import (
    COUNT_UP,
    WRITE_NUMBERS,
    WRITE_POSITIONS,
    WRITE_TAPS,
    CountUp,
    WriteNumbers,
    WritePositions,
    WriteTaps,
)
from graphc.backends.llvm.emit import I64
from graphc.expr import Expr
from graphc.ops._positions import EDGES, OUTSIDE
from graphc.types import dtype_from_name

FLOAT64 = np.dtype(np.float64)


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


def _weight_of(mode: str) -> Expr:
    """Of an element at the distance that is argument 0; as `_triangle` and `_cubic` in graphc/ops/_taps.py."""
    x, a = e.absolute(e.arg(0, FLOAT64)), e.arg(1, FLOAT64)
    if mode == "nearest":
        return e.const(1.0, FLOAT64)
    if mode == "linear":
        return e.maximum(1 - x, 0)
    near = ((a + 2) * x - (a + 3)) * (x * x) + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return e.where(x <= 1, near, e.where(x < 2, far, 0))


def _quotient(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
    numerator, divisor = (q.b.sitofp(n, ir.DoubleType()) for n in a)
    return q.b.fdiv(numerator, divisor)


@makes(WriteTaps)
def write_taps(mode: str, dtype: str) -> Code:
    """As `TapRule.taps` in graphc/ops/_taps.py."""
    COUNT, OFFSETS, WEIGHTS, BY, FIRST, DIVISOR, SIZE = WRITE_TAPS["count offsets weights step first divisor size"]
    TAPS, TAP, CUBIC_A, EXCLUDE, UNIT = WRITE_TAPS["taps tap cubic_a exclude unit"]
    kind, item, put, put_offset = register(dtype), dtype_from_name(dtype).itemsize, store(dtype), store("int64")
    quotient = device(_quotient, types.float64, types.int64, types.int64)
    number = device(lambda q, a: q.b.bitcast(a[0], ir.DoubleType()), types.float64, types.int64)
    over = device(lambda q, a: q.b.fdiv(*a), types.float64, types.float64, types.float64)
    weight_of = function_of(_weight_of(mode), [FLOAT64, FLOAT64])

    def write_taps(a):
        i = thread_number(THREADS)
        if i < word(a, COUNT):
            size, divisor, exclude = word(a, SIZE), word(a, DIVISOR), word(a, EXCLUDE) != 0
            position = i * word(a, BY) + word(a, FIRST)
            first = floor_divide(position, divisor) + word(a, TAP)
            cubic_a = number(word(a, CUBIC_A))
            total = 1.0
            if exclude:
                total = 0.0
                for at in range(first, first + word(a, TAPS)):
                    if at >= 0 and at < size:
                        total += weight_of(quotient(position - at * divisor, divisor), cubic_a)
            for t in range(word(a, TAPS)):
                at, weight, entry = first + t, 0.0, i * word(a, TAPS) + t
                if not exclude or (at >= 0 and at < size):
                    weight = over(weight_of(quotient(position - at * divisor, divisor), cubic_a), total)
                put_offset(word(a, OFFSETS) + 8 * entry, min(max(at, 0), size - 1) * word(a, UNIT))
                put(word(a, WEIGHTS) + item * entry, kind(weight))

    return Code(write_taps)
