"""What sizes decide: numbers of blocks and kernels' fields as values, tables that steps write, bound programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from many_sizes import for_many
from one_verb import run

import graphc
from graphc.backends.cuda.codegen.widths import power_that_divides
from graphc.backends.cuda.conv.conv_block import ENTRY
from graphc.backends.cuda.conv.taps import write_table
from graphc.backends.cuda.conv.window import Axis, table_of
from graphc.backends.cuda.lower.sizes import either, require_near
from graphc.backends.cuda.runtime.bound import KEPT, Bindings
from graphc.backends.cuda.verbs.numbers import write_taps
from graphc.backends.cuda.verbs.passes import column_width
from graphc.graph import Builder, Graph
from graphc.lower.binder import possible
from graphc.lower.binding import Writer
from graphc.ops._taps import AxisScale, tap_rule
from graphc.sizes import LEAST, MOST, Trace, is_size

F32 = np.float32
NUMBERS = st.integers(LEAST, 5000)


def as_value(function: Callable[..., Any], hints: Sequence[int], numbers: Sequence[int]) -> tuple[Any, int, int]:
    """function of sizes; what that value is for other numbers; how many guards came of it."""
    trace = Trace()
    trace.begin()
    try:
        value = function(*(trace.size(f"n{i}", hint) for i, hint in enumerate(hints)))
    finally:
        trace.close()
    writer = Writer(trace, trace.names)
    register = writer.of(value)
    registers = writer.program.run(numbers)
    assert registers is not None
    return value, registers[register], len(trace.guards)


# --- numbers ----------------------------------------------------------------------------------------------------------
@given(NUMBERS, NUMBERS, st.integers(1, 40), st.integers(1, 40), st.sampled_from([8, 16]))
def test_the_power_that_divides(hint: int, n: int, factor: int, offset: int, most: int):
    def widest(size: Any) -> Any:
        return power_that_divides(most, factor * size, offset * size * size + 4 * size, 16)

    value, found, guards = as_value(widest, [hint], [n])
    assert found == widest(n) and guards == 0
    for number in (factor * n, offset * n * n + 4 * n, 16, most):
        assert number % found == 0
    assert (
        most % (2 * found) or (factor * n) % (2 * found) or (offset * n * n + 4 * n) % (2 * found) or 16 % (2 * found)
    )
    assert not is_size(value) or found in possible(value), "a kernel's field may be it"


@given(NUMBERS, NUMBERS)
def test_one_of_two_numbers(hint: int, n: int):
    value, found, guards = as_value(lambda size: either(size - 300, 512, 128), [hint], [n])
    assert found == (512 if n > 300 else 128) and guards == 0 and tuple(possible(value)) == (128, 512)


@given(*[st.tuples(st.integers(LEAST, 1 << 20), st.integers(LEAST, 1 << 20), NUMBERS)] * 2)
@settings(max_examples=200)
def test_columns_of_a_block(hints: tuple[int, ...], numbers: tuple[int, ...]):
    for i in range(2):
        _, found, guards = as_value(lambda *sizes, i=i: column_width(*sizes)[i], hints, numbers)
        assert found == column_width(*numbers)[i] and guards == 0


@pytest.mark.parametrize(
    "columns, length, neighbours", [(1, 1, 1), (7, 100, 1), (100_000, 9, 4), (64, 4000, 64), (1, 16, 300)]
)
def test_threads_share_a_column_only_where_it_is_worth_it(columns: int, length: int, neighbours: int):
    shift, width = column_width(columns, length, neighbours)
    shared = 128 // width
    assert width == 1 << shift and 1 <= shared <= 128 // min(neighbours, 8)
    assert shared == 1 or (columns * shared // 2 < 1 << 15 and length >= 4 * shared)


def test_what_was_chosen_for_speed_serves_what_is_near():
    for hint, least, most in ((10, 2, 1 << 17), (100_000, 2, 400_000), (1_000_000, 250_000, 4_000_000)):
        trace = Trace()
        trace.begin()
        require_near(trace.size("n", hint))
        trace.close()
        (program,) = [Writer(trace, trace.names).program]
        assert [program.holds([n]) for n in (least, most)] == [True, True]
        assert not program.holds([most + 1]) and (least == 2 or not program.holds([least - 1]))
    require_near(MOST)  # a number is near itself


# --- tables -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "mode, attrs",
    [
        ("nearest", {}),
        ("linear", {}),
        ("cubic", {}),
        ("cubic", {"exclude_outside": True}),
    ],
)
@pytest.mark.parametrize("size, out", [(5, 12), (12, 5), (1, 4), (300, 299)])
def test_taps(mode: str, attrs: dict[str, Any], dtype: str, size: int, out: int):
    rule = tap_rule(AxisScale(size, out, Fraction(out, size)), mode=mode, **attrs)
    indices, weights = rule.taps()

    def emit(lo: Any, offsets: Any, to: Any) -> None:
        write_taps(lo, rule, 12, offsets, to, np.dtype(dtype))

    got = run(emit, [], [np.zeros(indices.shape, np.int64), np.zeros(indices.shape, dtype)])
    np.testing.assert_array_equal(got[0], indices * 12)
    np.testing.assert_allclose(
        got[1], weights, rtol=0, atol=16 * np.finfo(dtype).eps
    )  # polynomials whose terms are near 1


@pytest.mark.parametrize("dilation, begin", [(1, 0), (3, 2)])
@pytest.mark.parametrize("kernel", [(1, 3, 3), (2, 1, 5), (1, 1, 1), (0, 2, 2)])
def test_tables_of_windows(kernel: tuple[int, ...], dilation: int, begin: int):
    axes = [Axis(9, 7, 1, 0, tuple(begin + dilation * i for i in range(k)), tuple(range(k))) for k in kernel]
    strides, channels, whole = (4000, 400, 200, 36, 4), 5, 16
    want = table_of(axes, channels, strides, whole)
    (got,) = run(
        lambda lo, y: write_table(lo, axes, channels, strides, y, len(want)), [], [np.zeros(want.shape, np.int64)]
    )
    assert want.shape[1] == ENTRY
    np.testing.assert_array_equal(got, want)


# --- programs ---------------------------------------------------------------------------------------------------------
def network() -> Graph:
    """Kernels whose blocks and fields depend on sizes, and none that is chosen for the example."""
    b = Builder("sizes")
    x = b.input("x", F32, ("n", "k"))
    y = b.add("Softmax", b.add("Relu", x), axis=1)
    y = b.add("Concat", y, b.add("CumSum", x, b.constant(np.int64(0))), axis=0)
    best = b.add("TopK", y, b.constant([2], np.int64), axis=0, outputs=2)[0]
    return b.build({"y": b.add("Neg", y), "best": best, "sum": b.add("ReduceSum", y, b.constant([0], np.int64))})


SHAPES = [(2, 3), (9, 40), (3, 2000), (31, 70), (32, 5)]  # at most 64 of an axis are sorted


def test_a_bound_program_is_that_of_its_sizes_alone():
    """Kernels, grids, words, shapes; where buffers lie may differ."""
    model = graphc.compile(network(), target="cuda:emulate")
    many = for_many(model, [np.zeros((7, 30), F32)])
    for shape in SHAPES:
        x = np.zeros(shape, F32)
        assert many.holds([x]), many.refusal([x])
        got, want = (
            Bindings(e._plan).of([x]) for e in (many, graphc.compile(network(), target="cuda:emulate")._executable([x]))
        )
        kernels = [[p._plan.kernels[k].spec for k in b.launches[:, 0]] for p, b in ((many, got), (alone(x), want))]
        assert kernels[0] == kernels[1]
        np.testing.assert_array_equal(got.launches[:, 1:], want.launches[:, 1:])
        addresses = {int(at) for b in (got, want) for slots in (b.constants, b.arena, b.externs) for at in slots.at}
        words = [i for i in range(len(want.words)) if i not in addresses]
        np.testing.assert_array_equal(got.words[words], want.words[words])
        assert got.shapes == want.shapes and got.results == want.results and got.nbytes >= 1
        for a, b in zip((got.constants, got.externs), (want.constants, want.externs)):
            np.testing.assert_array_equal(np.stack(a), np.stack(b))


def alone(x: np.ndarray) -> Any:
    return graphc.compile(network(), target="cuda:emulate")._executable([x])


def test_buffers_that_live_at_once_are_apart_for_all_sizes():
    model = graphc.compile(network(), target="cuda:emulate")
    many = for_many(model, [np.zeros((7, 30), F32)])
    for shape in SHAPES:
        plan = many.plan_for([np.zeros(shape, F32)])
        nbytes = Bindings(many._plan).of([np.zeros(shape, F32)]).nbytes
        assert all(i.offset + i.nbytes <= nbytes for i in plan.memory.intervals)
        for i, j in combinations(plan.memory.intervals, 2):
            apart = i.offset + i.nbytes <= j.offset or j.offset + j.nbytes <= i.offset
            assert apart or i.last < j.first or j.last < i.first, (shape, i, j)


def test_the_last_sizes_are_kept():
    model = graphc.compile(network(), target="cuda:emulate")
    bindings = Bindings(for_many(model, [np.zeros((7, 30), F32)])._plan)
    xs = [np.zeros((8, n), F32) for n in range(2, 2 + 2 * KEPT)]
    found = [bindings.of([x]) for x in xs]
    assert [bindings.of([x]) is b for x, b in zip(xs[-KEPT:], found[-KEPT:])] == [True] * KEPT
    assert len(bindings._bound) == len(bindings._registers) == KEPT
    assert bindings.of([xs[0]]) is not found[0]


def test_a_plan_for_its_shapes_alone_is_bound_as_it_is():
    x = np.zeros((4, 6), F32)
    plan = alone(x)._plan
    found = Bindings(plan).of([x])
    assert found.words is plan.assembled.words and found.nbytes == plan.assembled.arena
    np.testing.assert_array_equal(found.launches[:, 2], found.words[plan.assembled.blocks[:, 1]])
