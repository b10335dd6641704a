"""Dropout with the ratio and the training mode as constants, as inputs, and computed from data."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc.errors import InputError
from graphc.graph import Builder
from graphc.passes.fold_constants import fold_constants
from graphc.passes.log import Log

SHAPE = (100, 200)
WHERE = ("constant", "input", "computed")


def dropout(mode_in: str, ratio_in: str, mode: bool, ratio: float, dtype: str = "float32", **attrs):
    """The model, and what it is fed with."""
    b = Builder("dropout")
    feeds = {"x": np.full(SHAPE, 3, dtype)}
    x = b.input("x", dtype, SHAPE)

    def operand(name: str, value, kind: str, where: str):
        if where == "constant":
            return b.constant(value, kind)
        feeds[name] = np.array(value, kind) if where == "input" else np.full((2, 2), value, kind)
        given = b.input(name, kind, feeds[name].shape)
        if where == "input":
            return given
        return b.add(
            "Reshape", b.add("Slice", given, *(b.constant([v] * 2, "int64") for v in (0, 1))), b.constant([1], "int64")
        )

    r, t = operand("r", ratio, dtype, ratio_in), operand("t", mode, "bool", mode_in)
    return b.build(b.add("Dropout", x, r, t, outputs=2, **attrs)), feeds


@pytest.mark.parametrize("mode_in", WHERE)
@pytest.mark.parametrize("ratio_in", WHERE)
@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_a_part_is_dropped_in_training_mode_and_nothing_else(mode_in: str, ratio_in: str, target: str):
    for mode, ratio in ((True, 0.25), (True, 0.0), (False, 0.25)):
        g, feeds = dropout(mode_in, ratio_in, mode, ratio)
        model = graphc.compile(g, target=target)
        y, mask = model.run(feeds).values()
        dropped = ratio if mode else 0.0
        assert abs((~mask).mean() - dropped) < 0.02, "five standard deviations of 20,000 draws are 0.015"
        np.testing.assert_allclose(y, np.where(mask, 3 / (1 - dropped), 0), rtol=1e-6)
        again = list(model.run(feeds).values())[1]
        assert np.array_equal(mask, again) == (dropped == 0), "each run draws anew"


def test_one_model_in_both_modes():
    g, feeds = dropout("input", "input", True, 0.5)
    model = graphc.compile(g)
    for mode, ratio, dropped in ((True, 0.5, 0.5), (False, 0.5, 0.0), (True, 0.75, 0.75), (True, 0.5, 0.5)):
        feeds |= {"t": np.array(mode), "r": np.array(ratio, "float32")}
        y, _ = model.run(feeds).values()
        assert abs((y == 0).mean() - dropped) < 0.02


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_seed_repeats_itself_on_every_target(dtype: str):
    g, feeds = dropout("constant", "constant", True, 0.25, dtype, seed=5)
    results = [list(graphc.compile(g, target=t).run(feeds).values()) for t in ("cpu", "cpu", "reference")]
    for y, mask in results:
        np.testing.assert_array_equal(mask, results[0][1])
        np.testing.assert_allclose(y, results[0][0], rtol=1e-3 if dtype == "float16" else 1e-6)
        assert y.dtype == dtype and y.max() == np.array(4, dtype) and 0.2 < (y == 0).mean() < 0.3


def test_the_ratio_is_a_half_unless_given():
    b = Builder("dropout")
    g = b.build((b.add("Dropout", b.input("x", "float32", SHAPE), None, b.constant(True)),))
    y = graphc.compile(g)(np.ones(SHAPE, "float32"))
    assert set(np.unique(y)) == {0, 2} and abs((y == 0).mean() - 0.5) < 0.02


def test_what_is_drawn_is_not_folded_or_shared():
    constant, log = Builder("constant"), Log()
    ones, training = constant.constant(np.ones(SHAPE), "float32"), constant.constant(True)
    g = constant.build((constant.add("Dropout", ones, None, training),))
    assert fold_constants(g, log) is g and "random" in log.refused()[0].reason
    b = Builder("dropout")
    x, training = b.input("x", "float32", SHAPE), b.constant(True)
    g = b.build(tuple(b.add("Dropout", x, None, training) for _ in range(2)))
    first, second = graphc.compile(g).run({"x": np.ones(SHAPE, "float32")}).values()
    assert (first != second).any()


@pytest.mark.parametrize("ratio", [1.0, -0.5, np.nan])
def test_a_ratio_beyond_its_range_is_refused(ratio: float):
    with pytest.raises(InputError, match="ratio is"):
        dropout("constant", "constant", True, ratio)
    dropout("constant", "constant", False, ratio)


def test_a_ratio_of_an_open_number_of_elements():
    """One by the time it runs."""
    b = Builder("dropout")
    x, ratio = b.input("x", "float32", SHAPE), b.input("r", "float32", ("k",))
    model = graphc.compile(b.build(b.add("Dropout", x, ratio, b.constant(True, "bool"), outputs=2)))
    y, _ = model.run({"x": np.ones(SHAPE, "float32"), "r": np.float32([0.5])}).values()
    assert abs((y == 0).mean() - 0.5) < 0.02
