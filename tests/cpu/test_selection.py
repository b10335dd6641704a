"""Operators whose results' sizes follow from data, on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
from selections import *  # noqa: F403  (its tests)
from selections import boxes, mask, suppression
from suite import compiled, host_reasons, results, use
from targets import require

from graphc.bounded import bounded
from graphc.interpret import run_node
from graphc.segmented import heads
from graphc.testing import Use

TARGETS = [("cpu", 1, False), ("cpu", 2, False), ("cpu", 2, True), ("cpu:avx2", 1, False), ("cpu:portable", 1, True)]


@pytest.fixture(params=TARGETS, ids=str)
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    target, threads, is_checked = request.param
    require(target)
    if is_checked:
        monkeypatch.setenv("GRAPHC_CHECK", "memory")
    return target, threads


def test_other_dtypes_run_on_the_host():
    one = suppression(boxes(1, 9, 0.4), np.random.default_rng(0).random((1, 1, 9)), 6, 0.4, 0.2).with_floats("float64")
    model = compiled(one)
    np.testing.assert_array_equal(results(model, one)[0], one.run()[0])
    assert host_reasons(model, one) == {"its 'boxes' is float64, not float32"}


# --- the bounded form -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("one", [
    use("NonZero", mask(3, 4)), use("Compress", mask(3, 4, dtype="int64"), mask(3), axis=0),
    use("Compress", mask(3, 4, dtype="int64"), mask(3, 4)),
    use("Unique", mask(3, 4, dtype="int64"), n_outputs=4),
    use("Unique", np.arange(6).reshape(3, 2), axis=0), use("Unique", np.arange(12.0).reshape(3, 4), axis=0, n_outputs=2),
    suppression(boxes(1, 20, 0.4), np.linspace(0, 1, 40).reshape(1, 2, 20), 3, 0.4, 0.2, constants=(2,)),
], ids=lambda one: one.op.name)  # fmt: skip
def test_the_bounded_form_gives_the_results_at_the_head_of_its_buffers(one: Use):
    node = one.graph().nodes[0]
    form = bounded(node)
    made = run_node(form.static, one.arrays)
    assert all(v.type.is_static for v in form.static.outputs)
    for got, want in zip(heads(form.axes, made), one.run(), strict=True):
        np.testing.assert_array_equal(got, want)
    assert bounded(form.static) is None


# --- distinct rows ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_distinct_rows(axis: int, is_sorted: bool, where: tuple[str, int]):
    rng = np.random.default_rng(4)
    for shape, dtype in (((9, 4, 2), "float32"), ((30, 3, 1), "int8"), ((1, 5, 3), "float64"), ((70, 2, 2), "uint64")):
        x = rng.integers(0, 2, shape).astype(dtype)
        one = use("Unique", x, axis=axis, sorted=is_sorted, n_outputs=4)
        model = compiled(one, *where)
        assert not host_reasons(model, one)
        for got, want in zip(results(model, one), one.run(), strict=True):
            np.testing.assert_array_equal(got, want)


def test_rows_that_hold_nan_differ_and_zeros_do_not():
    x = np.array([[1, np.nan], [1, np.nan], [0.0, 2], [-0.0, 2]], np.float32)
    one = use("Unique", x, axis=0, n_outputs=4)
    rows, first, inverse, counts = results(compiled(one), one)
    np.testing.assert_array_equal(rows, x[[2, 0, 1]])
    assert first.tolist() == [2, 0, 1] and inverse.tolist() == [1, 2, 0, 0] and counts.tolist() == [2, 1, 1]
