"""Sizes that stand for many against plain ints: answers for the example, and for every other size for which the guards hold."""

from __future__ import annotations

import copy
import math
import operator
import pickle
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from graphc.backends.cpu.executor.program_block import TOO_SMALL
from graphc.backends.cpu.runtime.bound import Guards
from graphc.backends.cpu.runtime.process import runtime_of
from graphc.backends.cpu.target import detect
from graphc.dims import Sym
from graphc.lower.binding import Writer, compiled
from graphc.sizes import (
    LEAST,
    LOOKED_UP,
    Guard,
    Size,
    Trace,
    array_of,
    choose,
    example,
    for_speed,
    has_sizes,
    hint_of,
    is_size,
    is_size_array,
    largest,
    most_of,
    need,
    number_of,
    pinned,
    smallest,
    where,
    whole,
)

NAMES = ("n", "h", "w")


def traced(hints: Sequence[int]) -> tuple[Trace, list[Size]]:
    trace = Trace()
    sizes = [trace.size(name, hint) for name, hint in zip(NAMES, hints)]
    trace.begin()
    return trace, sizes


def holds(guard: Guard, at: dict[str, int]) -> bool:
    n = number_of(guard.expr, at)
    return {"==": n == 0, "<": n < 0, "<=": n <= 0}[guard.relation] == guard.outcome


def binding(trace: Trace, at: Sequence[int]) -> dict[str, int]:
    """All names' numbers, those of definitions too."""
    known = dict(zip(NAMES, at))
    for name, definition in trace.definitions.items():
        known[name] = definition.value(known)
    return known


# --- random programs --------------------------------------------------------------------------------------------------
def _rounded_up(a: Any, b: Any) -> Any:
    return -(-a // b) * b


def _tiles(n: int) -> int:
    return 2 if n < 6 else 3 if n < 17 else 8


ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv, "%": operator.mod,
    "up": _rounded_up, "smallest": smallest, "largest": largest, "min": min, "max": max,
    "where": lambda a, b: where(a - b, a, b), "choose": lambda a, b: choose(_tiles, a) + b,
    "abs": lambda a, b: abs(a - b), "power": lambda a, b: a**2 + b,
}  # fmt: skip
QUESTIONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "bool": lambda a, b: bool(a), "fits": lambda a, b: 2 * a <= b and bool(b % 2 == 0),
}  # fmt: skip

leaves = st.one_of(st.integers(-3, 12), st.sampled_from(NAMES))
trees = st.recursive(leaves, lambda part: st.tuples(st.sampled_from(sorted(ARITHMETIC)), part, part), max_leaves=7)
questions = st.lists(st.tuples(st.sampled_from(sorted(QUESTIONS)), trees, trees), min_size=1, max_size=4)
numbers = st.tuples(*(st.integers(LEAST, 40) for _ in NAMES))


def evaluated(tree: Any, leaf: Callable[[str], Any]) -> Any:
    if isinstance(tree, tuple):
        return ARITHMETIC[tree[0]](evaluated(tree[1], leaf), evaluated(tree[2], leaf))
    return leaf(tree) if isinstance(tree, str) else tree


def asked(program: Sequence[tuple[str, Any, Any]], at: Sequence[Any]) -> tuple[list[bool], list[Any]]:
    """The answers of a program of questions, which decide what it computes, and its values."""
    leaf = dict(zip(NAMES, at)).__getitem__
    answers, values = [], []
    for question, first, second in program:
        a, b = evaluated(first, leaf), evaluated(second, leaf)
        answer = QUESTIONS[question](a, b)
        assert type(answer) is bool
        answers.append(answer)
        values.append(a if answer else b + a)
    return answers, values


EXECUTOR = runtime_of(detect(None)).executor(1)
BITS = 62  # of what is computed in int64


class Bound:
    """A trace's guards and some values, as the program of a plan has them."""

    def __init__(self, trace: Trace, values: Sequence[Any]) -> None:
        writer = Writer(trace, trace.names)
        self._at = [writer.of(v) for v in values]
        writer.end_of_bound()
        self.program = writer.program
        self._guards = Guards(self.program, EXECUTOR)

    def values(self, sizes: Sequence[int]) -> list[int] | None:
        """None where a guard does not hold. Python and native code agree. Raises OverflowError."""
        registers = self.program.run(sizes)
        assert compiled(self.program)(*sizes) == registers
        held = registers is not None
        assert self.program.holds(sizes) == held == self._guards.hold(sizes) == (self.program.broken(sizes) is None)
        if registers is None:
            return None
        if any(abs(r) >= 1 << BITS for r in registers):
            raise OverflowError
        native = self.program.registers.copy()
        native[: len(sizes)] = sizes
        assert EXECUTOR.bind(self._guards._address, native.ctypes.data, 0) == TOO_SMALL  # an arena: there is none
        assert native.tolist() == registers
        return [registers[i] for i in self._at]


@given(questions, numbers, st.lists(numbers, min_size=8, max_size=8))
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_true_for_the_example_is_true_for_all_sizes_for_which_the_guards_hold(program, hints, others):
    """Answers and values equal those of plain ints: for the example, and for each other binding that the guards let through;
    sizes close to the example are let through most often."""
    trace, sizes = traced(hints)
    try:
        answers, values = asked(program, sizes)
    except ZeroDivisionError:
        assume(False)
    trace.close()
    bound = Bound(trace, values)
    at = binding(trace, hints)
    assert all(holds(g, at) for g in trace.guards)
    assert asked(program, hints) == (answers, bound.values(hints)) == (answers, [number(v, at) for v in values])
    near = [tuple(max(LEAST, n + k) for n in hints) for k in (-2, -1, 1, 2, 8, 16)]
    for other in (*others, *near):
        try:
            found = bound.values(other)
            at = binding(trace, other)
        except (OverflowError, ZeroDivisionError):
            continue  # no number of a plan is as large; no guard that holds divides by 0
        assert (found is not None) == all(holds(g, at) for g in trace.guards)
        if found is not None:
            assert asked(program, other) == (answers, found) == (answers, [number(v, at) for v in values])
            for v in values:
                least, most = trace.bounds(v.expr) if is_size(v) else (v, v)
                assert least <= number(v, at) <= most


def number(value: Any, at: dict[str, int]) -> int:
    return number_of(value.expr, at) if is_size(value) else value


@pytest.mark.parametrize("c", [2, 3, 16])
@pytest.mark.parametrize("k", [1, -1, 2, -3])
def test_questions_about_quotients_are_asked_of_what_is_divided(c: int, k: int):
    relations = {"==": operator.eq, "<": operator.lt, "<=": operator.le}
    for hint in (2, 3, 5, 15, 16, 17, 33):
        for add in (0, 1, c - 1):
            for n in (-40, -6, -5, -1, 0, 1, 3, 4, 6, 9):
                for name, relation in relations.items():
                    trace, (size,) = traced((hint,))
                    expr = ((size + add) // c) * k + n
                    answer = trace.ask(name, expr.expr)
                    assert answer == relation(((hint + add) // c) * k + n, 0)
                    assert all("//" not in str(g) for g in trace.guards)
                    for m in range(LEAST, 60):
                        if all(holds(g, {"n": m}) for g in trace.guards):
                            assert relation(((m + add) // c) * k + n, 0) == answer
                    trace.close()


# --- guards -----------------------------------------------------------------------------------------------------------
def test_what_follows_from_ranges_makes_no_guard():
    trace, (n, h, _) = traced((8, 30, 5))
    assert n >= LEAST and n != 0 and n * h > 3 and n + 1 != 2 and 2 * n != 2 * h + 1 and bool(n)
    assert n == n and n - n == 0 and (n * h) // h == n and n - 1 < n
    assert not trace.guards
    assert h >= 20 and h > 10 and h + 5 >= 25
    assert list(map(str, trace.guards)) == ["h ≥ 20"]  # the rest follows
    assert trace.bounds(h.expr)[0] == 20
    assert n == 8 and n < 9 and n * 2 == 16
    assert list(map(str, trace.guards)) == ["h ≥ 20", "n = 8"]
    trace.close()


@pytest.mark.parametrize(
    "wants_a_number",
    [
        int, float, range, math.sqrt, np.arange, np.zeros, hex, round,
        lambda n: [0] * n, lambda n: "abcdefghijklm"[n], lambda n: n / 2, lambda n: n**0.5, lambda n: 2**n,
        lambda n: np.arange(20)[n], lambda n: np.prod([n, 2]), lambda n: np.clip(n, 0, 5), lambda n: n == 8.0,
        lambda n: n in range(3, 1000), lambda n: np.full(3, n, np.int32),
    ],
)  # fmt: skip
def test_where_a_number_is_wanted_the_size_is_only_that(wants_a_number):
    trace, (n,) = traced((8,))
    found, want = wants_a_number(n), wants_a_number(8)
    if not is_size(found):  # round leaves it as it is
        np.testing.assert_array_equal(found, want)
        assert trace.guards
    for other in range(LEAST, 50):
        if all(holds(g, {"n": other}) for g in trace.guards):
            np.testing.assert_array_equal(
                number(found, {"n": other}) if is_size(found) else found, wants_a_number(other)
            )
    trace.close()


def test_a_question_after_the_plan_is_made_is_a_mistake():
    trace, (n, h, _) = traced((8, 30, 5))
    assert n < 10
    trace.close()
    assert n < 10 and n > 0 and h == h  # known
    with pytest.raises(AssertionError, match="when nothing is planned: is n ≥ 6"):
        _ = n < 6
    with pytest.raises(AssertionError, match="when nothing is planned"):
        range(h)


def test_going_on_from_another_example_leaves_no_trace():
    trace, (n, h, _) = traced((8, 30, 5))
    assert n < 10
    twice = where(n - 5, 2 * n, n)
    trace.close()
    known, guards, ranges = trace.known, dict(trace.guards), dict(trace.ranges)
    with trace.going_on(known, {"n": 4, "h": 7, "w": 5}):
        assert (n.hint, h.hint, twice.hint) == (4, 7, 4)
        assert h < 8 and n < 10
        assert [str(g) for g in trace.guards] == ["n < 10", "h < 8"]
        more = trace.known
    assert (trace.guards, {k: trace.ranges[k] for k in ranges}) == (guards, ranges)
    with trace.going_on(more, {}):
        assert [str(g) for g in trace.guards] == ["n < 10", "h < 8"] and h < 8
    with pytest.raises(AssertionError, match="when nothing is planned"):
        _ = h < 8


def test_sizes_of_two_traces_do_not_meet():
    (first, (n,)), (second, (m,)) = traced((8,)), traced((8,))
    assert n != m and hash(n) != hash(m) and len({n: 0, m: 1}) == 2
    assert not first.guards and not second.guards
    with pytest.raises(ValueError, match="'n' is there already"):
        first.size("n", 3)
    for trace in (first, second):
        trace.close()


# --- values -----------------------------------------------------------------------------------------------------------
def test_decisions_as_values_ask_nothing():
    trace, (n, h, w) = traced((8, 30, 5))
    made = {
        "choose": (choose(_tiles, n), lambda n, h, w: _tiles(n)),
        "choose far": (choose(_tiles, n * h), lambda n, h, w: _tiles(n * h)),
        "where": (where(n - w, h, 3), lambda n, h, w: h if n > w else 3),
        "where again": (where(h - n * w, n, where(w - 3, h, w)), lambda n, h, w: n if h > n * w else h if w > 3 else w),
        "smallest": (smallest(n, h, 6 * w, 25), lambda n, h, w: min(n, h, 6 * w, 25)),
        "largest": (largest(n - h, 0, w - 7), lambda n, h, w: max(n - h, 0, w - 7)),
        "rounded up": (-(-n // 4) * 4, lambda n, h, w: -(-n // 4) * 4),
        "rest": (-h % w, lambda n, h, w: -h % w),
    }
    assert not trace.guards and all(is_size(v) for v, _ in made.values())
    assert trace.values_of(made["choose"][0]) == (2, 3, 8) and trace.values_of(made["where"][0]) is None
    assert (smallest(n, n + 1, 9), largest(n, 1, n - 1), smallest(3, 4)) == (smallest(n, 9), n, 3)
    assert (choose(lambda n: 7, n), choose(_tiles, 3), where(n, 1, 2), where(1 - n, 1, 2), where(0, 1, 2)) == (
        7,
        2,
        1,
        2,
        2,
    )
    trace.close()
    bound = Bound(trace, [v for v, _ in made.values()])
    for sizes in [(8, 30, 5), (2, 2, 2), (LOOKED_UP, 3, 9), (LOOKED_UP + 1, 2, 40), (10_000, 70_000, 3), (7, 7, 7)]:
        assert bound.values(sizes) == [plain(*sizes) for _, plain in made.values()]


def test_the_rank_of_a_choice():
    trace, (n,) = traced((8,))
    tiles = choose(_tiles, n)
    rank = trace.rank(tiles, (2, 3, 8))
    trace.close()
    bound = Bound(trace, [rank])
    assert [bound.values([n]) for n in (2, 5, 6, 16, 17, 9999)] == [[0], [0], [1], [1], [2], [2]]


def test_the_largest_number_that_a_size_can_be():
    trace, (n, h, _) = traced((8, 30, 5))
    assert h < 100
    assert (most_of(h), most_of(2 * h - 1), most_of(5)) == (99, 197, 5) and len(trace.guards) == 1
    assert most_of(n) == 8 and [str(g) for g in trace.guards][1:] == ["n = 8"]  # no number is the largest
    trace.close()


def test_decisions_for_speed_see_the_example():
    @for_speed
    def tile(shape: tuple[int, ...], width: int) -> int:
        assert type(shape[0]) is int
        return min(shape[0], width)

    trace, (n, h, _) = traced((8, 30, 5))
    assert tile((n, h), h) == 8 and not trace.guards
    need(n >= 8)
    assert [str(g) for g in trace.guards] == ["n ≥ 8"]
    with pytest.raises(AssertionError, match="does not fit"):
        need(n >= 9)
    assert example([n, (h, 3), {"a": n}, "b"]) == [8, (30, 3), {"a": 8}, "b"]
    assert (hint_of(n), hint_of(4), whole(n) is n, whole(np.int64(4))) == (8, 4, True, 4)
    trace.close()


def test_what_is_kept_by_numbers_pins_them():
    trace, (n, h, _) = traced((8, 30, 5))
    assert pinned((n, ("a", 3))) == (8, ("a", 3)) and type(pinned(n)) is int
    assert [str(g) for g in trace.guards] == ["n = 8"]
    for keep in (pickle.dumps, lambda size: pickle.dumps([size])):
        with pytest.raises(TypeError, match="it can't be kept"):
            keep(h)
    assert copy.copy(h) is h and copy.deepcopy([h])[0] is h
    trace.close()


# --- as ints, and in arrays -------------------------------------------------------------------------------------------
def test_a_size_is_an_int_to_code_that_looks():
    trace, (n, h, _) = traced((8, 30, 5))
    assert isinstance(n, int) and not isinstance(n, Sym) and type(n) is Size and not isinstance(n, (float, str))
    assert (str(n), repr(n + h), f"{n:>5}", str(2 * n - 1)) == ("n", "h + n", "n", "2*n - 1")
    assert {n: 1}[n + h - h] == 1 and hash(n) == hash(n + 0)
    assert has_sizes([1, n]) and not has_sizes([1, 2])
    assert (np.int64(3) + n, n * np.int32(2), np.int64(7) % n) == (n + 3, 2 * n, 7 % n)
    assert (
        divmod(n, 3) == (n // 3, n % 3)
        and +n is n
        and 0 - (0 - n) == n
        and n**2 == n * n
        and math.prod([n, h]) == n * h
    )
    assert not trace.guards
    with pytest.raises(ZeroDivisionError):
        _ = n // (h - h)
    trace.close()


def test_arrays_of_sizes():
    trace, (n, h, _) = traced((8, 30, 5))
    a = array_of([n, 3, np.int64(4)])
    assert is_size_array(a) and a.dtype == object and list(a) == [n, 3, 4]
    assert list(a + 1) == [n + 1, 4, 5] and list(a * n)[1] == 3 * n and list(h - a)[0] == h - n
    assert array_of(n).shape == () and array_of(n)[()] is n
    assert array_of([3, 4], np.int32).dtype == np.int32 and not is_size_array(array_of([3, 4]))
    assert array_of(a[1:]).dtype == np.int64  # no sizes are left
    assert list(np.concatenate([a, [h]]))[::3] == [n, h] and is_size_array(a.reshape(3, 1)[:1])
    assert not trace.guards
    np.testing.assert_array_equal(np.arange(4) + n, np.arange(8, 12))  # numbers: only this one
    assert [str(g) for g in trace.guards] == ["n = 8"]
    trace.close()


@pytest.mark.parametrize("seed", range(60))
def test_guards_that_are_summed_up_say_the_same(seed: int):
    """Of an expression the tightest bounds are tested, and nothing that follows from the others'."""
    rng = random.Random(seed)
    trace = Trace()
    trace.begin()
    pool = [trace.size("a", rng.randint(2, 40)), trace.size("b", rng.randint(2, 40))]
    for _ in range(6):
        x, y, k = rng.choice(pool), rng.choice(pool), rng.randint(1, 9)
        made = rng.choice([x + y, x - y, x * k, x // k, x % k, smallest(x, y), x * y])
        if is_size(made):
            pool.append(made)
        z = rng.choice(pool)
        compare, other = rng.choice(
            [(operator.eq, y), (operator.lt, y), (operator.le, k), (operator.eq, k), (operator.gt, 3 * k)]
        )
        compare(z, other)
    program = Writer(trace, trace.names).program
    for _ in range(100):
        sizes = {name: rng.randint(2, 60) for name in trace.names}
        known = dict(sizes)
        for name, definition in trace.definitions.items():
            known[name] = definition.value(known)
        values = [(g, number_of(g.expr, known)) for g in trace.guards]
        answers = {"==": int.__eq__, "<": int.__lt__, "<=": int.__le__}
        want = all(answers[g.relation](value, 0) == g.outcome for g, value in values)
        assert program.holds([sizes[n] for n in trace.names]) == want, sizes
