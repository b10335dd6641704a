"""Operators whose results' sizes follow from data: kernels and references agree element by element, checked runs too.

Tests of every backend that has such kernels: its own module imports them, and has a fixture `where`, a target and its threads.
"""

from __future__ import annotations

import numpy as np
import pytest
from suite import compiled, host_reasons, results, use

import graphc
from graphc.backends.reference import run as reference
from graphc.errors import InputError
from graphc.graph import Builder
from graphc.testing import Use

F32 = np.float32
INF, NAN = np.inf, np.nan
Where = tuple[str, int]


def check(one: Use, where: Where) -> None:
    model = compiled(one, *where)
    for got, want in zip(results(model, one), one.run(), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want, err_msg=str(one))
    assert not host_reasons(model, one)


def mask(*shape: int, share: float = 0.5, dtype: str = "bool") -> np.ndarray:
    rng = np.random.default_rng(int(np.prod(shape)))
    return np.where(rng.random(shape) < share, rng.integers(1, 5, shape), 0).astype(dtype)


# --- NonZero ----------------------------------------------------------------------------------------------------------
SHAPES = [(), (0,), (1,), (3, 0, 2), (7,), (16,), (17,), (63, 1), (4095,), (4096,), (4097,), (3, 5, 911), (2, 3, 4, 5), (9000, 2)]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nonzero_of_any_shape(shape: tuple[int, ...], where: Where):
    for share in (0.0, 0.02, 0.5, 1.0):
        check(use("NonZero", mask(*shape, share=share, dtype="float32")), where)


@pytest.mark.sample(4)
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int32", "int64", "uint64", "float16", "float64"])
def test_nonzero_of_any_dtype(dtype: str, where: Where):
    check(use("NonZero", mask(5, 129, dtype=dtype)), where)


def test_nan_is_not_zero_and_minus_zero_is(where: Where):
    check(use("NonZero", np.array([0.0, -0.0, NAN, INF, -INF, 1e-45, 1], F32)), where)


# --- Compress ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape, axis, n", [
    ((5, 6), None, 30), ((5, 6), None, 7), ((5, 6), 0, 5), ((5, 6), 0, 2), ((5, 6), 1, 6), ((3, 4, 5), -1, 5), ((3, 4, 5), -2, 4),
    ((5000, 3), 0, 5000), ((0, 3), 1, 3), ((3, 0), 1, 0),
])  # fmt: skip
def test_compress(shape: tuple[int, ...], axis: int | None, n: int, where: Where):
    for dtype in ("float32", "int8", "float64", "uint16"):
        for share in (0.0, 0.4, 1.0):
            x = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
            check(use("Compress", x, mask(n, share=share), axis=axis), where)


def test_a_condition_may_be_longer_where_it_is_false(where: Where):
    x = np.arange(6, dtype=F32).reshape(3, 2)
    one = use("Compress", x, np.array([True, False, True, False, False]), axis=0)
    check(one, where)
    model = compiled(one, *where)
    for condition in (np.array([True, False, True, False, True]), np.ones(5, bool)):
        with pytest.raises(InputError, match="condition [34] at") as caught:
            model.run({"x0": x, "x1": condition})
        with pytest.raises(InputError) as wanted:
            use("Compress", x, condition, axis=0).run()
        assert caught.value.message == wanted.value.message and caught.value.hint == wanted.value.hint
    np.testing.assert_array_equal(model.run({"x0": x, "x1": one.inputs[1]})["y0"], x[[0, 2]])


# --- Unique -----------------------------------------------------------------------------------------------------------
@pytest.mark.sample(4)
@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int32", "int64", "uint64", "float16", "float32", "float64"]
)
def test_unique(dtype: str, where: Where):
    for n in (0, 1, 2, 300, 5000):
        x = np.random.default_rng(n).integers(0 if dtype[0] in "ub" else -40, 40, n).astype(dtype)
        if n > 2:
            first = {"f": (NAN, -0.0, NAN), "i": (-128, 127, -128)}
            x[:3] = np.array(first[dtype[0]], dtype) if dtype[0] in first else np.array(-1).astype(dtype)
        for is_sorted in (True, False):
            for outputs in (1, 2, 3, 4):
                check(use("Unique", x, n_outputs=outputs, sorted=is_sorted), where)


def test_unique_of_a_tensor_and_along_its_only_axis(where: Where):
    x = mask(7, 9, dtype="int64")
    check(use("Unique", x, n_outputs=4), where)
    check(use("Unique", x[0], n_outputs=4, axis=0), where)
    check(use("Unique", np.float32(3), n_outputs=4), where)


# --- NonMaxSuppression ------------------------------------------------------------------------------------------------
def boxes(batch: int, n: int, extent: float, center: bool = False) -> np.ndarray:
    rng = np.random.default_rng(n)
    middle, size = rng.random((batch, n, 2)), rng.random((batch, n, 2)) * extent
    return np.concatenate([middle, size] if center else [middle - size / 2, middle + size / 2], -1).astype(F32)


def suppression(boxes: np.ndarray, scores: np.ndarray, *scalars: float | None, constants=(), **attrs) -> Use:
    """scalars: limit, IoU, threshold of scores."""
    dtypes = (np.int64, F32, F32)
    given = (None if s is None else np.array([s], d) for s, d in zip(scalars, dtypes))
    return use("NonMaxSuppression", boxes, scores.astype(F32), *given, constants=constants, **attrs)


SCALARS = [
    (3, 0.5, 0.3), (1000, 0.5, None), (1000, 0.4, 0.0), (0, 0.5, 0.5), (5, None, None), (None, 0.5, 0.1), (10, 1.0, 0.2),
    (10, 0.0, 0.9), (7, 0.4, 2.0), (-3, 0.5, 0.1), (10, -0.5, 0.1), (10, NAN, 0.0), (10, 0.5, NAN), (10, 0.5, -INF),
]  # fmt: skip


@pytest.mark.parametrize("scalars", SCALARS, ids=str)
@pytest.mark.parametrize("center", [False, True])
def test_suppression(scalars, center: bool, where: Where):
    """Numbers of boxes around those of vectors, of the heap's share, and none."""
    rng = np.random.default_rng(0)
    for batch, classes, n in ((1, 1, 0), (1, 2, 1), (2, 3, 17), (1, 1, 64), (1, 2, 200), (1, 1, 700)):
        one = suppression(
            boxes(batch, n, 0.4, center), rng.random((batch, classes, n)), *scalars, center_point_box=center
        )
        check(one, where)


@pytest.mark.parametrize("extent", [0.0, 0.01, 3.0])
def test_boxes_that_are_points_or_apart_or_all_over_each_other(extent: float, where: Where):
    scores = np.random.default_rng(0).random((1, 2, 500))
    check(suppression(boxes(1, 500, extent), scores, 500, 0.5, 0.0), where)


def test_of_equal_scores_the_first_box_wins(where: Where):
    scores = np.round(np.random.default_rng(0).random((2, 3, 400)) * 4) / 4
    for threshold in (0.25, None):
        check(suppression(boxes(2, 400, 0.3), scores, 400, 0.3, threshold), where)
    check(suppression(boxes(1, 400, 0.3), np.ones((1, 1, 400)), 400, 0.3, 0.0), where)


def test_numbers_that_are_none(where: Where):
    """NaN scores come last; boxes with NaN, infinite or exchanged corners are what the reference makes of them."""
    scores, b = np.random.default_rng(0).normal(size=(1, 2, 40)), boxes(1, 40, 0.8)
    scores[0, :, [1, 5, 9]], scores[0, 0, 2], scores[0, 1, 3], scores[0, :, [4, 6]] = NAN, INF, -INF, -0.0
    scores[0, :, 7] = 0.0
    b[0, 8, 0], b[0, 10, 1], b[0, 11], b[0, 12, 2], b[0, 13, 1] = NAN, NAN, NAN, INF, -INF
    b[0, 14], b[0, 15], b[0, 16] = b[0, 14, [2, 3, 0, 1]], b[0, 15, [0, 3, 2, 1]], b[0, 16, [0, 1, 0, 3]]
    b[0, 17:20] = [-INF, -INF, INF, INF]
    b[0, 20:23] = [-3e38, -3e38, 3e38, 3e38]
    for center in (False, True):
        for scalars in ((40, 0.3, None), (40, 0.0, -1.0), (40, 0.9, 0.0)):
            check(suppression(b, scores, *scalars, center_point_box=center), where)


@pytest.mark.parametrize("constants", [(), (2,), (2, 3, 4), (0, 3)])
def test_operands_that_are_known(constants: tuple[int, ...], where: Where):
    one = suppression(boxes(1, 90, 0.4), np.random.default_rng(0).random((1, 4, 90)), 6, 0.4, 0.2, constants=constants)
    check(one, where)


def test_the_limit_may_change_from_run_to_run(where: Where):
    one = suppression(boxes(1, 90, 0.4), np.random.default_rng(0).random((1, 4, 90)), 6, 0.4, 0.2)
    model = compiled(one, *where)
    for limit in (6, 1, 90, 2**40, 0):
        feeds = dict(zip([s.name for s in model.inputs], [*one.inputs[:2], np.array([limit]), *one.inputs[3:]]))
        want = suppression(*one.arrays[:2], limit, 0.4, 0.2).run()[0]
        np.testing.assert_array_equal(model.run(feeds)["y0"], want)


# --- graphs -----------------------------------------------------------------------------------------------------------
def test_several_in_one_graph_with_work_between_them(where: Where):
    b = Builder("several")
    x, c = b.input("x", F32, (40, 6)), b.input("c", "bool", (40,))
    rows = b.add("Compress", b.add("Relu", x), c, axis=0)
    found = b.add("NonZero", b.add("Greater", rows, b.constant(1, F32)))
    values = b.add("Unique", b.add("Round", b.add("Abs", x)))
    graph = b.build({"found": found, "rows": b.add("Exp", rows), "values": b.add("Neg", values)})
    model, rng = graphc.compile(graph, target=where[0], threads=where[1]), np.random.default_rng(0)
    for share in (0.5, 0.0, 0.1, 1.0):
        feeds = {"x": rng.normal(size=(40, 6)).astype(F32), "c": rng.random(40) < share}
        want = reference(graph, feeds)
        for name, a in model.run(feeds).items():
            np.testing.assert_allclose(a, want[name], rtol=1e-6)
