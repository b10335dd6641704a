"""Layer normalisation that is written out: what is found, and what must stay as it is."""

from __future__ import annotations

import numpy as np
import pytest
from passcheck import F32, build, ints, left, refused, rewritten, weights

import graphc
from graphc.graph import Builder, Value
from graphc.interpret import interpret
from graphc.passes.fuse_layer_norm import fuse_layer_norm


def written_out(b: Builder, x: Value, axes=(-1,), epsilon: float = 1e-3, second_axes=None) -> Value:
    mean = b.add("ReduceMean", x, ints(b, *axes), keepdims=True)
    centered = b.add("Sub", x, mean, name="centered")
    square = b.add("Mul", centered, centered)
    variance = b.add("ReduceMean", square, ints(b, *(second_axes or axes)), keepdims=True)
    return b.add("Div", centered, b.add("Sqrt", b.add("Add", variance, b.constant(epsilon, F32))), name="standardized")


def of(make, *shape: int):
    return build(lambda b: make(b, b.input("x", F32, shape or (2, 3, 8))))


def test_standardized():
    after = rewritten(fuse_layer_norm, of(written_out))
    assert [n.op.name for n in after.nodes] == ["LayerNormalization"]
    assert after.nodes[0].attrs["epsilon"] == pytest.approx(1e-3) and after.nodes[0].attrs["axis"] == -1


def test_scale_and_bias():
    def make(b, x):
        return b.add("Add", b.add("Mul", written_out(b, x), weights(b, 8)), weights(b, 8, seed=1))

    assert left(fuse_layer_norm, of(make)) == ["LayerNormalization"]


def test_scale_after_bias_stays():
    def make(b, x):
        return b.add("Mul", b.add("Add", written_out(b, x), weights(b, 8)), weights(b, 8, seed=1))

    assert left(fuse_layer_norm, of(make)) == ["LayerNormalization", "Mul"]


def test_several_last_axes():
    def make(b, x):
        return b.add("Mul", written_out(b, x, (1, 2)), weights(b, 3, 8))

    assert left(fuse_layer_norm, of(make)) == ["LayerNormalization"]


def test_a_scale_for_another_axis_stays():
    def make(b, x):
        return b.add("Mul", written_out(b, x), weights(b, 3, 1))

    assert left(fuse_layer_norm, of(make)) == ["LayerNormalization", "Mul"]


def test_a_result_in_between_stays():
    def make(b, x):
        y = written_out(b, x)
        return y, b.add("Mul", y, weights(b, 8))

    assert left(fuse_layer_norm, of(make)) == ["LayerNormalization", "Mul"]


@pytest.mark.parametrize("axes, second", [((1,), None), ((-1,), (1, 2)), ((0, 2), None)], ids=str)
def test_other_axes(axes, second):
    assert "same last axes" in refused(fuse_layer_norm, of(lambda b, x: written_out(b, x, axes, second_axes=second)))


def test_the_square_of_something_else():
    def make(b, x):
        mean = b.add("ReduceMean", x, ints(b, -1), keepdims=True)
        centered = b.add("Sub", x, mean)
        variance = b.add("ReduceMean", b.add("Mul", x, x), ints(b, -1), keepdims=True)
        return b.add("Div", centered, b.add("Sqrt", b.add("Add", variance, b.constant(1e-3, F32))))

    assert refused(fuse_layer_norm, of(make)) == ""


def test_float64():
    def make(b):
        x = b.input("x", np.float64, (2, 8))
        mean = b.add("ReduceMean", x, ints(b, -1), keepdims=True)
        centered = b.add("Sub", x, mean)
        variance = b.add("ReduceMean", b.add("Mul", centered, centered), ints(b, -1), keepdims=True)
        return b.add("Div", centered, b.add("Sqrt", b.add("Add", variance, b.constant(1e-3, np.float64))))

    assert "not float32" in refused(fuse_layer_norm, build(make))


def test_one_kernel():
    graph = of(lambda b, x: b.add("Add", b.add("Mul", written_out(b, x), weights(b, 50)), weights(b, 50)), 4, 50)
    model = graphc.compile(graph, threads=1)
    assert [s.ops for s in model.plan().steps] == [("LayerNormalization",)]
    feeds = {"x": np.random.default_rng(0).standard_normal((4, 50)).astype(np.float32)}
    np.testing.assert_allclose(model.run(feeds)["y0"], interpret(graph, feeds)["y0"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("operator", ["Add", "Mul"])
def test_a_bias_that_is_left_out(operator: str):
    def make(b: Builder, x: Value) -> Value:
        y = b.add("LayerNormalization", x, weights(b, 8), None, axis=-1)
        return b.add(operator, y, weights(b, 8))

    (node,) = rewritten(fuse_layer_norm, of(make, 3, 8)).nodes
    assert node.op.name == "LayerNormalization" and len(node.operands) == (3 if operator == "Add" else 2)
