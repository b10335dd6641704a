"""Samples as batches that a model takes, and what is said of those that it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphc.errors import InputError
from graphc.graph import Builder, Value
from graphc.quantizer.feeds import batches


def inputs(**shapes: Any) -> list[Value]:
    b = Builder()
    return [b.input(name, "int64" if name == "ids" else "float32", shape) for name, shape in shapes.items()]


def shapes(found: list[dict[str, np.ndarray]]) -> list[tuple[int, ...]]:
    return [next(iter(feed.values())).shape for feed in found]


def numbered(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize(
    ("own", "given", "wanted", "samples"),
    [
        (("n", 3), (10, 3), [(4, 3), (4, 3), (2, 3)], 10),  # an open first dim
        (("n", 3), (3,), [(1, 3)], 1),  # one sample
        (("n", "m"), (10, 5), [(4, 5), (4, 5), (2, 5)], 10),
        (("n", 3), (2, 5, 3), [(5, 3), (5, 3)], 2),  # batches as samples
        ((1, 3), (3, 3), [(1, 3)] * 3, 3),  # one that is fixed
        ((2, 3), (6, 3), [(2, 3)] * 3, 3),
        ((2, 3), (4, 2, 3), [(2, 3)] * 4, 4),
        ((1, 3), (3,), [(1, 3)], 1),
        ((), (3,), [()] * 3, 3),
        ((), (), [()], 1),
    ],
    ids=str,
)
def test_samples(own: tuple, given: tuple, wanted: list, samples: int):
    x = numbered(*given)
    found, count = batches(x, inputs(x=own), 4)
    assert shapes(found) == wanted and count == samples
    np.testing.assert_array_equal(np.concatenate([f["x"].ravel() for f in found]), x.ravel())


def test_several_inputs_go_together():
    x, ids = numbered(5, 3), np.arange(5)
    found, count = batches({"x": x, "ids": ids}, inputs(x=("n", 3), ids=("n",)), 2)
    assert count == 5 and [f["ids"].tolist() for f in found] == [[0, 1], [2, 3], [4]]
    assert [f["x"][:, 0].tolist() for f in found] == [[0, 3], [6, 9], [12]]


def test_what_is_the_same_for_all():
    """A table beside samples of a fixed batch."""
    found, count = batches({"x": numbered(3, 2), "t": numbered(4, 2)}, inputs(x=(1, 2), t=(4, 2)), 8)
    assert count == 3 and all(f["t"].shape == (4, 2) for f in found) and shapes(found) == [(1, 2)] * 3


def test_parts_are_joined_where_they_fit():
    parts = [numbered(3), numbered(3), numbered(1, 3), numbered(3, 3)]
    found, count = batches(parts, inputs(x=("n", 3)), 3)
    assert shapes(found) == [(3, 3), (3, 3)] and count == 6
    assert shapes(batches([numbered(1, 3), numbered(1, 5)], inputs(x=("n", "m")), 3)[0]) == [(1, 3), (1, 5)]


@pytest.mark.parametrize(("samples", "wanted"), [(1, [1]), (5, [4, 1]), (100, [4, 4, 2])])
def test_the_first_samples(samples: int, wanted: list[int]):
    found, count = batches(numbered(10, 3), inputs(x=("n", 3)), 4, samples)
    assert [n for n, _ in shapes(found)] == wanted and count == sum(wanted)
    assert batches([numbered(3, 3), numbered(3, 3)], inputs(x=("n", 3)), 4, 4)[1] == 4


def test_dtypes_that_hold_the_same_numbers():
    for dtype in (np.float64, np.float16, np.uint8, bool):
        found, _ = batches(np.ones((2, 3), dtype), inputs(x=("n", 3)), 4)
        assert found[0]["x"].dtype == np.float32


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"x": numbered(2, 4)}, "input 'x' is [n, 3], its data [2, 4]"),
        ({"x": numbered(2, 2, 2, 3)}, "input 'x' is [n, 3], its data [2, 2, 2, 3]"),
        ({"y": numbered(2, 3)}, "the model has no input 'y'"),
        ({"xs": numbered(2, 3)}, "did you mean 'x'?"),
        ({}, "the data has nothing for 'x'"),
        ([], "there is no data to calibrate with"),
        (numbered(0, 3), "there is no data to calibrate with"),
        ("cal.npz", "data must be arrays by the names of inputs, not str"),
        (3, "data must be arrays by the names of inputs, not int"),
        (np.full((2, 3), np.nan), "has NaN at [0, 0]"),
        ([numbered(2, 3), numbered(2, 4)], "its data of part 2 [2, 4]"),
        (np.array([[0, 0, np.inf]]), "the data of input 'x' has infinity at [0, 2]"),
        (np.array([["a", "b", "c"]]), "input 'x' is float32, its data object"),
        (np.ones((2, 3), complex), "input 'x' is float32, its data complex128"),
    ],
    ids=str,
)
def test_what_does_not_fit(data: Any, said: str):
    with pytest.raises(InputError) as caught:
        batches(data, inputs(x=("n", 3)), 4)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("own", "data", "said"),
    [
        ({"x": (2, 3)}, {"x": numbered(5, 3)}, "input 'x' is [2, 3], its data [5, 3]"),
        ({"x": ("n", 3), "y": ("n", 3)}, {"x": numbered(2, 3), "y": numbered(3, 3)}, "2 of 'x', 3 of 'y'"),
        ({"x": ("n", 3), "y": ("n", 3)}, numbered(2, 3), "the model has 2 inputs"),
        ({"ids": ("n",)}, {"ids": numbered(3)}, "input 'ids' is int64, its data float32"),
    ],
    ids=str,
)
def test_what_does_not_fit_others(own: dict, data: Any, said: str):
    with pytest.raises(InputError) as caught:
        batches(data, inputs(**own), 4)
    assert said in str(caught.value)
