"""Along an ordered axis: extremes, running sums and products, the k largest."""

from __future__ import annotations

import numpy as np
import pytest
from suite import axes, check, compiled, host_reasons, randoms, results, use, uses_of

from graphc.backends.cuda.verbs.ordered import MANY, TILES
from graphc.dtypes import is_float

TARGET = "cuda:emulate"
NAMES = ["ArgMax", "ArgMin", "CumProd", "CumSum", "TopK"]
LENGTHS = (1, 31, 32, 33, 127, 128, 129, 1000, 5000)
SPECIAL = ["float16", "bfloat16", "float32", "float64", "int8", "uint8", "int64", "uint64"]


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races, and accesses out of bounds, are errors."""
    monkeypatch.setenv("GRAPHC_CHECK", "memory")


def special(dtype: str, *shape: int) -> np.ndarray:
    """Numbers with ties and the ends of their range; floats with infinities, zeros of both signs and NaN."""
    kind, rng = np.dtype(dtype), np.random.default_rng(7)
    if is_float(kind):
        return rng.choice([-np.inf, -2, -1, -0.0, 0.0, 1, 2, 3, np.inf, np.nan], shape).astype(kind)
    info = np.iinfo(kind)
    return rng.choice(np.array([info.min, info.min + 1, 0, 1, 2, info.max - 1, info.max], kind), shape)


@pytest.mark.parametrize("name", NAMES)
def test_every_case(name: str, checked: None):
    for one in uses_of(name):
        assert not host_reasons(check(one, TARGET), one), one


# --- extremes -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("last", [0, 1])
def test_extremes_of_all_lengths(last: int, checked: None):
    for length in LENGTHS:
        for shape, axis in (
            ((3, length), 1),
            ((2, length, 5), 1),
            ((length, 130 if length < 200 else 3), 0),
            ((length,), 0),
        ):
            x = np.random.default_rng(length).integers(-9, 9, shape).astype(np.float32)
            check(use("ArgMax", x, axis=axis, select_last_index=last), TARGET)


@pytest.mark.parametrize("dtype", SPECIAL)
def test_extremes_of_special_values(dtype: str):
    """NaN beats everything; of equals, zeros of both signs among them, the first or the last."""
    for name in ("ArgMax", "ArgMin"):
        for x, axis in ((special(dtype, 40, 90), 1), (special(dtype, 2, 40, 30)[:, :, ::-1].copy(), 1)):
            if is_float(x.dtype):
                x[: len(x) // 2] = np.where(np.isnan(x[: len(x) // 2]), 0, x[: len(x) // 2])
            check(use(name, x, axis=axis, select_last_index=dtype[0] in "bu"), TARGET)


# --- scans --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_scans_of_all_lengths(exclusive: int, reverse: int, checked: None):
    for length in LENGTHS:
        for shape, axis in (((3, length), 1), ((2, length, 5), 1)):
            x = randoms(*shape, seed=length)
            check(use("CumSum", x, np.array(axis), constants=[1], exclusive=exclusive, reverse=reverse), TARGET)


def test_scans_of_many_axes():
    for shape, axis in (((MANY, 40), 1), ((40, MANY + 3), 0)):
        for exclusive in (0, 1):
            one = use("CumSum", randoms(*shape), np.array(axis), constants=[1], exclusive=exclusive, reverse=exclusive)
            check(one, TARGET)


@pytest.mark.parametrize(
    "name, dtypes", [("CumSum", ("float16", "int32", "uint64")), ("CumProd", ("float64", "int64"))]
)
def test_scans_wrap_around_and_keep_what_is_no_number(name: str, dtypes: tuple[str, ...]):
    for dtype in dtypes:
        x = special(dtype, 3, 300)
        if is_float(x.dtype):
            x = np.where(np.isfinite(x), x, np.array(1, x.dtype))
            x[0, 200], x[1, 250] = np.nan, np.inf
        one = use(name, x, np.array(1), constants=[1])
        with np.errstate(all="ignore"):
            (got,), want = results(compiled(one, TARGET), one), one.run()[0]
        np.testing.assert_array_equal(got, want)


# --- the k largest --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("largest", [0, 1])
def test_k_of_all_lengths(largest: int, checked: None):
    """With ties, from one to all."""
    for length in (*LENGTHS[:-1], TILES[0], TILES[0] + 1, TILES[1], TILES[1] + 1):
        x = np.random.default_rng(length).integers(-50, 50, (2, length)).astype(np.float32)
        for k in {1, -(-length // 2), length}:
            check(use("TopK", x, axes(k), constants=[1], n_outputs=2, axis=1, largest=largest), TARGET)
    check(use("TopK", randoms(3, 70, 4), axes(9), constants=[1], n_outputs=2, axis=1, largest=largest), TARGET)


@pytest.mark.parametrize("k", [1, 300, 2049, 5000])
def test_k_of_axes_of_several_tiles(k: int, checked: None):
    x = np.random.default_rng(k).integers(-900, 900, (2, 5000)).astype(np.float32)
    check(use("TopK", x, axes(k), constants=[1], n_outputs=2, axis=1), TARGET)


def test_k_of_columns_of_several_tiles():
    x = np.random.default_rng(0).integers(-900, 900, (2, 9000, 3))
    check(use("TopK", x, axes(40), constants=[1], n_outputs=2, axis=1, largest=0), TARGET)


@pytest.mark.parametrize("dtype", SPECIAL)
def test_k_of_special_values(dtype: str):
    """NaN is the largest; of equals, zeros of both signs among them, the first."""
    x = special(dtype, 6, 90)
    for largest in (0, 1):
        check(use("TopK", x, axes(90), constants=[1], n_outputs=2, axis=1, largest=largest), TARGET)


def test_values_keep_their_bits():
    """A value is the element itself: zeros keep their signs."""
    x = np.array([0.0, -0.0, 1.0, -0.0, 0.0], np.float32)
    one = use("TopK", x, axes(5), constants=[1], n_outputs=2, axis=0)
    values, places = results(compiled(one, TARGET), one)
    assert places.tolist() == [2, 0, 1, 3, 4]
    assert np.signbit(values).tolist() == [False, False, True, True, False]
