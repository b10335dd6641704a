"""Reading and writing at positions that come from data."""

from __future__ import annotations

import numpy as np
import pytest
from one_verb import INFO, run, storage
from suite import axes, check, compiled, host_reasons, randoms, results, use, uses_of

from graphc.errors import InputError
from graphc.lower.checks import NotFinite
from graphc.lower.verbs import Lookup
from graphc.types import dtype_from_name

TARGET = "cuda:emulate"
READING = ["Gather", "GatherElements", "GatherND", "ReverseSequence"]
WRITING = ["MaxUnpool", "ScatterElements", "ScatterND"]
NUMPY = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


@pytest.fixture(params=["", "memory"])
def checked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_CHECK", request.param)


@pytest.mark.parametrize("name", [*READING, *WRITING])
def test_every_case(name: str, checked: None):
    for one in uses_of(name):
        assert not host_reasons(check(one, TARGET), one), one


# --- reading ----------------------------------------------------------------------------------------------------------
def test_what_a_constant_condition_takes(checked: None):
    for axis in (None, 0, -1):
        check(use("Compress", randoms(3, 2), np.array([False, True]), constants=[1], axis=axis), TARGET)
    check(use("Compress", randoms(3, 2), np.array([[False, True]] * 3), constants=[1]), TARGET)


@pytest.mark.parametrize("dtype, width", [("uint8", 3), ("float16", 5), ("float16", 6), ("float32", 3), ("float64", 1)])
def test_blocks_of_any_size(dtype: str, width: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CHECK", "memory")
    x = randoms(7, 4, width).astype(dtype)
    index = np.random.default_rng(0).integers(-4, 4, (5, 9)).astype(np.int32)
    check(use("Gather", x, index, axis=1), TARGET)
    check(use("GatherND", x, np.stack([index, index], -1)), TARGET)
    check(use("GatherElements", x, np.resize(index, (7, 3, width)), axis=1), TARGET)
    check(use("ReverseSequence", x, axes(4, 0, 1, 3, 2, 4, 4), batch_axis=0, time_axis=1), TARGET)


def test_loops_and_axes_to_the_limit():
    """Six loops that do not merge, over eight axes; the data advances along two of them."""
    rng, dims = np.random.default_rng(0), [2, 3, 2, 2, 3, 2]
    x = rng.integers(0, 1000, (2, 3, *[2] * 8)).astype(np.int32)
    index = rng.integers(-2, 2, (*dims, 8))
    spread = np.full((*(d + 1 for d in dims), 8), 99)
    spread[tuple(map(slice, dims))] = index

    def emit(lo, a, i, y):
        own, axes_of = x.strides[:2], list(zip(x.shape, x.strides))[2:]
        lookup = Lookup(storage(i), dims, spread.strides[:-1], [*own, 0, 0, 0, 0], axes_of)
        lo.gather(lookup, a, y, 4, NotFinite("op", "node", None, "test"), INFO)

    (got,) = run(emit, [x, spread], [np.zeros(dims, np.int32)])
    first, second = (n.reshape(*n.shape, 1, 1, 1, 1) for n in np.ogrid[:2, :3])
    np.testing.assert_array_equal(got, x[(first, second, *np.moveaxis(index, -1, 0))])


# --- writing ----------------------------------------------------------------------------------------------------------
def scattered(x, index, updates, reduction: str):
    """In order, each step rounded."""
    y = x.copy()
    for i, u in zip(index, updates):
        y[i] = u if reduction == "none" else NUMPY[reduction](y[i], u)
    return y


@pytest.mark.sample(10)
@pytest.mark.parametrize("reduction", ["none", *NUMPY])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8", "uint64"])
def test_updates_of_one_place_are_in_order(dtype: str, reduction: str):
    """A few updates of each place, and nearly all of them of a single one."""
    kind, rng = dtype_from_name(dtype), np.random.default_rng(5)
    whole = kind.kind in "iu"
    for high in (120, 2):
        shape = (120, 3) if high == 120 else (2, 1)
        x = rng.integers(0, 100, shape).astype(kind) if whole else rng.uniform(0.5, 2, shape).astype(kind)
        index = rng.integers(0, high, 300)
        new = (300, *shape[1:])
        updates = rng.integers(-100 if kind.kind == "i" else 0, 100, new) if whole else rng.uniform(0.9, 1.1, new)
        updates = updates.astype(kind)
        case = use("ScatterND", x, index[:, None], updates, reduction=reduction)
        (y,) = results(compiled(case, TARGET), case)
        with np.errstate(all="ignore"):
            want = scattered(x, index, updates, reduction)
        np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("reduction", ["none", *NUMPY])
def test_no_race(reduction: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CHECK", "memory")
    rng = np.random.default_rng(1)
    for dtype in ("float32", "int32"):
        x = rng.integers(0, 100, (5, 40)).astype(dtype)
        index = rng.integers(-5, 5, (7, 40))
        updates = rng.integers(0, 100, index.shape).astype(dtype)
        check(use("ScatterElements", x, index, updates, reduction=reduction), TARGET)
        check(use("ScatterND", x, index[:, :1], updates, reduction=reduction), TARGET)


def test_not_a_number_and_zeros_with_signs():
    x = np.array([1, 0.0, -0.0, np.nan, 2], np.float32)
    index = axes(0, 1, 2, 3, 4, 4)[:, None]
    updates = np.array([np.nan, -0.0, 0.0, 5, np.inf, -np.inf], np.float32)
    for reduction in NUMPY:
        case = use("ScatterND", x, index, updates, reduction=reduction)
        (y,) = results(compiled(case, TARGET), case)
        with np.errstate(all="ignore"):
            want = scattered(x, index[:, 0], updates, reduction)
        np.testing.assert_array_equal(y, want)


def test_nothing_to_write(checked: None):
    x = randoms(3, 4)
    check(use("ScatterND", x, np.zeros((0, 1), np.int64), np.zeros((0, 4), np.float32)), TARGET)
    check(use("ScatterElements", x, np.zeros((0, 4), np.int64), x[:0], reduction="add"), TARGET)
    check(use("ScatterND", x[:, :0], np.zeros((2, 1), np.int64), x[:2, :0]), TARGET)


# --- positions out of range -------------------------------------------------------------------------------------------
def error_of(case) -> str:
    with pytest.raises(InputError) as error:
        results(compiled(case, TARGET), case)
    return error.value.message


def test_the_first_position_out_of_range_is_the_one_reported(checked: None):
    rng = np.random.default_rng(7)
    for dtype in (np.int32, np.int64):
        index = rng.integers(-3, 3, 700).astype(dtype)
        bad = np.sort(rng.choice(700, 200, replace=False))
        index[bad] = rng.integers(3, 90, 200)
        index[bad[0]] = -4
        expected = f"index -4 at [{bad[0]}] is out of range for axis 0"
        x = randoms(3, 2)
        assert error_of(use("Gather", x, index)) == expected
        assert error_of(use("ScatterND", x, index[:, None], randoms(700, 2))) == expected.replace("]", ", 0]")
        assert error_of(use("ScatterElements", x[:, 0], index, randoms(700), reduction="add")) == expected
    lengths = rng.integers(0, 4, 300)
    lengths[[40, 41, 299]] = 9, -1, 4
    message = "sequence length 9 at [40] is out of range for axis 0"
    assert error_of(use("ReverseSequence", randoms(3, 300, 2), lengths)) == message


def test_the_first_one_need_not_be_looked_at_first():
    """Positions with even numbers, then those with odd ones."""
    index = np.zeros(700, np.int64)
    index[[600, 3, 5]] = 7, 8, 9

    def emit(lo, a, i, y):
        lookup = Lookup(storage(i), [2, 350], [8, 16], [0, 0], [(6, 4)])
        lo.gather(lookup, a, y, 4, lambda number, value: InputError(f"{value} at {number}"), INFO)

    with pytest.raises(InputError, match="^8 at 3$"):
        run(emit, [np.zeros(6, np.float32), index], [np.zeros(700, np.float32)])


def test_of_the_positions_of_one_place_the_first_is_reported(checked: None):
    index = np.array([[0, 1], [2, 9], [7, 9]])
    assert error_of(use("GatherND", randoms(3, 4), index)) == "index 9 at [1, 1] is out of range for axis 1"


def test_other_places_are_read_and_written_all_the_same():
    """What is out of range is zeros where it would be read, and is not written."""
    x, index = np.arange(1, 7, dtype=np.float32), axes(4, 6, 1, -7)
    for case, want in (
        (use("Gather", x, index), [5, 0, 2, 0]),
        (use("ScatterND", x, index[:, None], -x[:4]), [1, -3, 3, 4, -1, 6]),
        (use("ScatterElements", x, index, x[:4], reduction="add"), [1, 5, 3, 4, 6, 6]),
    ):
        model, y = compiled(case, TARGET), np.full(len(want), 9, np.float32)
        with pytest.raises(InputError):
            model.run(dict(zip([s.name for s in model.inputs], case.inputs)), out={model.outputs[0].name: y})
        np.testing.assert_array_equal(y, want)


def test_positions_where_nothing_is(checked: None):
    empty = np.zeros((3, 0, 0), np.float32)
    assert error_of(use("Gather", empty, np.array(0), axis=-1)) == "index 0 at [] is out of range for axis 2"
    assert error_of(use("ScatterND", empty[0], axes(2)[None], np.zeros((1, 0), np.float32))).startswith(
        "index 2 at [0, 0]"
    )
    lengths = axes(0, 7)
    assert error_of(use("ReverseSequence", np.zeros((0, 2, 3), np.float32), lengths)).startswith(
        "sequence length 7 at [1]"
    )
