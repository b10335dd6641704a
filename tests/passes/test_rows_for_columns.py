"""Windows over images one pixel wide: the same values from images one pixel high, without a copy between two of them."""

from __future__ import annotations

import numpy as np
import pytest
from passcheck import build, image, left, rewritten, weights

import graphc
from graphc.passes.rows_for_columns import rows_for_columns

COLUMN = (2, 4, 13, 1)


@pytest.mark.parametrize(
    ("w", "attrs"),
    [
        ((6, 4, 3, 1), {}),
        ((6, 4, 3, 1), {"pads": (2, 0, 1, 0), "strides": (2, 1), "dilations": (2, 1)}),
        ((6, 4, 5, 3), {"pads": (2, 1, 2, 1)}),
        ((4, 1, 3, 1), {"group": 4, "auto_pad": "SAME_UPPER", "strides": (3, 1)}),
        ((6, 4, 13, 1), {}),
    ],
)
def test_convolutions(w: tuple[int, ...], attrs: dict):
    graph = build(lambda b: b.add("Conv", image(b, *COLUMN), weights(b, *w), weights(b, w[0]), **attrs))
    assert left(rows_for_columns, graph) == ["Reshape", "Conv", "Reshape"]


@pytest.mark.parametrize("attrs", [{}, {"strides": (2, 1), "output_padding": (1, 0)}, {"pads": (1, 0, 0, 0)}])
def test_transposed_convolutions(attrs: dict):
    graph = build(lambda b: b.add("ConvTranspose", image(b, *COLUMN), weights(b, 4, 5, 3, 1), **attrs))
    assert left(rows_for_columns, graph) == ["Reshape", "ConvTranspose", "Reshape"]


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
def test_pools(op: str):
    attrs = {"kernel_shape": (3, 1), "strides": (2, 1), "pads": (1, 0, 1, 0)}
    assert left(rows_for_columns, build(lambda b: b.add(op, image(b, *COLUMN), **attrs))) == ["Reshape", op, "Reshape"]


def test_volumes():
    graph = build(lambda b: b.add("Conv", image(b, 1, 3, 5, 7, 1), weights(b, 2, 3, 3, 3, 1), pads=(1, 1, 0, 1, 0, 0)))
    assert left(rows_for_columns, graph) == ["Reshape", "Conv", "Reshape"]


def test_chains_stay_rows():
    def make(b):
        x = image(b, *COLUMN)
        a = b.add("Relu", b.add("Conv", x, weights(b, 4, 4, 3, 1), pads=(1, 0, 1, 0)))
        c = b.add("Conv", b.add("Mul", a, weights(b, 4, 1, 1)), weights(b, 4, 4, 3, 1), pads=(1, 0, 1, 0))
        joined = b.add("Concat", b.add("Add", a, c), c, axis=1)
        return b.add("GlobalAveragePool", b.add("MaxPool", joined, kernel_shape=(2, 1)))

    ops = left(rows_for_columns, build(make))
    assert ops.count("Reshape") == 1 and ops[-1] == "GlobalAveragePool"


@pytest.mark.parametrize(
    "make",
    [
        lambda b: b.add("Conv", image(b, 2, 4, 13, 2), weights(b, 6, 4, 3, 1)),
        lambda b: b.add("Conv", image(b, 2, 4, 1, 13), weights(b, 6, 4, 1, 3)),
        lambda b: b.add("Conv", image(b, *COLUMN), weights(b, 6, 4, 3, 1), pads=(0, 1, 0, 1)),  # three columns wide
        lambda b: b.add("Conv", image(b, *COLUMN), image(b, 6, 4, 3, 1, name="w")),
        lambda b: b.add("Conv", image(b, "n", 4, "t", 1), weights(b, 6, 4, 3, 1)),
        lambda b: b.add("Relu", image(b, *COLUMN)),
    ],
)
def test_what_stays(make):
    graph = build(make)
    assert rows_for_columns(graph) is graph


def test_operands_that_differ_from_pixel_to_pixel():
    def make(b):
        y = b.add("Conv", image(b, *COLUMN), weights(b, 6, 4, 3, 1))
        return b.add("Add", y, image(b, 6, 11, 1, name="z")), b.add("Mul", y, image(b, 11, 3, name="v"))

    ops = [n.op.name for n in rewritten(rows_for_columns, build(make)).nodes]
    assert ops == ["Reshape", "Conv", "Reshape", "Add", "Mul"]


def test_a_model_of_open_length():
    graph = build(lambda b: b.add("Conv", image(b, "n", 4, "t", 1), weights(b, 6, 4, 3, 1), pads=(1, 0, 1, 0)))
    model, reference = graphc.compile(graph), graphc.compile(graph, target="reference")
    for n, t in ((1, 9), (2, 33), (1, 1)):
        x = np.random.default_rng(t).standard_normal((n, 4, t, 1)).astype(np.float32)
        np.testing.assert_allclose(model(x), reference(x), atol=1e-5)
