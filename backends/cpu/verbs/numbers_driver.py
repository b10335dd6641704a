"""Numbers that follow from sizes."""

from __future__ import annotations

from numba import float32, float64, njit

from graphc.backends.cpu.codegen.intrinsics import STEP, store_i32, store_i64, typed_memory
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.verbs.numbers_block import (
    COUNT_UP,
    CUBIC,
    LINEAR,
    WRITE_NUMBERS,
    WRITE_POSITIONS,
    WRITE_TAPS,
    CountUp,
    WriteNumbers,
    WritePositions,
    WriteTaps,
)
from graphc.ops._positions import EDGES, OUTSIDE

load_f64, store_f64 = typed_memory(float64)
_, store_f32 = typed_memory(float32)


@driver(WriteNumbers)
def write_numbers(target):
    Y, COUNT = WRITE_NUMBERS["y count"]
    (VALUE,) = WRITE_NUMBERS.in_record("value")
    VALUES, RECORD = WRITE_NUMBERS.size + VALUE, WRITE_NUMBERS.record_size

    def write_numbers(a, tid, nth):
        for i in range(a[COUNT] * tid // nth, a[COUNT] * (tid + 1) // nth):
            store_i64(a[Y] + 8 * i, a[VALUES + RECORD * i])

    return write_numbers, STEP


@driver(CountUp)
def count_up(target):
    Y, START, BY, COUNT = COUNT_UP["y start step count"]

    def count_up(a, tid, nth):
        for i in range(a[COUNT] * tid // nth, a[COUNT] * (tid + 1) // nth):
            store_i64(a[Y] + 8 * i, a[START] + i * a[BY])

    return count_up, STEP


@driver(WritePositions)
def write_positions(target):
    """As `Reads.indices` in graphc/ops/_positions.py."""
    Y, COUNT, BY, FIRST, DIVISOR, SIZE = WRITE_POSITIONS["y count step first divisor size"]
    EDGE, LOW, STRIDE = WRITE_POSITIONS["edge low stride"]
    FILL, CLAMP, REFLECT, WRAP = map(EDGES.index, ("fill", "clamp", "reflect", "wrap"))

    def write_positions(a, tid, nth):
        size, edge = a[SIZE], a[EDGE]
        for i in range(a[COUNT] * tid // nth, a[COUNT] * (tid + 1) // nth):
            at = (i * a[BY] + a[FIRST]) // a[DIVISOR]
            inside = 0 <= at < size
            if edge == CLAMP:
                at = min(max(at, 0), size - 1)
            elif edge == REFLECT and not inside:
                period = max(2 * (size - 1), 1)
                at %= period
                at = min(at, 2 * (size - 1) - at)
            elif edge == WRAP and not inside:
                at %= size
            store_i64(a[Y] + 8 * i, OUTSIDE if edge == FILL and not inside else (at + a[LOW]) * a[STRIDE])

    return write_positions, STEP


@njit(error_model="numpy")
def _weight(mode, x, a):
    """As `_triangle` and `_cubic` in graphc/ops/_taps.py."""
    x = abs(x)
    if mode == LINEAR:
        return max(1.0 - x, 0.0)
    if mode != CUBIC:
        return 1.0
    if x <= 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * (x * x) + 1.0
    return ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a if x < 2.0 else 0.0


@driver(WriteTaps)
def write_taps(target):
    """As `TapRule.taps` in graphc/ops/_taps.py."""
    COUNT, BY, FIRST, DIVISOR, SIZE, TAPS, TAP = WRITE_TAPS["count step first divisor size taps tap"]
    MODE, CUBIC_A, EXCLUDE, INNER, UNIT, OFFSETS, WEIGHTS = WRITE_TAPS[
        "mode cubic_a exclude inner unit offsets weights"
    ]
    NEXT, NEXT_TAP, NARROW_OFFSETS, NARROW_WEIGHTS = WRITE_TAPS["next next_tap narrow_offsets narrow_weights"]

    def write_taps(a, tid, nth):
        size, divisor, inner = a[SIZE], a[DIVISOR], a[INNER]
        exclude, cubic_a = a[EXCLUDE] != 0, load_f64(a[CUBIC_A])
        for i in range(a[COUNT] * tid // nth, a[COUNT] * (tid + 1) // nth):
            position = i * a[BY] + a[FIRST]
            first = position // divisor + a[TAP]
            total = 0.0
            for t in range(a[TAPS]):
                if not exclude or 0 <= first + t < size:
                    total += _weight(a[MODE], float64(position - (first + t) * divisor) / float64(divisor), cubic_a)
            for t in range(a[TAPS]):
                weight = 0.0
                if not exclude or 0 <= first + t < size:
                    weight = _weight(a[MODE], float64(position - (first + t) * divisor) / float64(divisor), cubic_a)
                if exclude:
                    weight /= total
                place = min(max(first + t, 0), size - 1) * inner
                for j in range(inner):
                    entry = i * a[NEXT] + t * a[NEXT_TAP] + j
                    offset = (place + j) * a[UNIT]
                    if a[NARROW_OFFSETS] != 0:
                        store_i32(a[OFFSETS] + 4 * entry, offset)
                    else:
                        store_i64(a[OFFSETS] + 8 * entry, offset)
                    if a[NARROW_WEIGHTS] != 0:
                        store_f32(a[WEIGHTS] + 4 * entry, float32(weight))
                    else:
                        store_f64(a[WEIGHTS] + 8 * entry, weight)

    return write_taps, STEP
