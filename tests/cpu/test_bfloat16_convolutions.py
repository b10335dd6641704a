"""precision='bf16': convolutions of operands rounded to bfloat16 with sums in float32, beside sums in float64 of the same operands; and
networks beside the interpreter on the same rounded graph."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import graphc
from graphc.backends.cpu.native import host_reason
from graphc.backends.cpu.target import detect
from graphc.errors import InputError, UnsupportedError
from graphc.graph import Builder, Graph
from graphc.interpret import interpret
from graphc.ops.window import conv
from graphc.passes.bfloat16_convolutions import Bfloat16Convolutions

HAS = detect().dots_bfloat16
without_pairs = pytest.mark.skipif(not HAS, reason="this CPU has no AVX512_BF16")
BF16 = ml_dtypes.bfloat16
STEP = 2.0**-8  # of bfloat16, over a number


def rounded(a: np.ndarray) -> np.ndarray:
    return a.astype(BF16).astype(np.float64)


def names(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def compiled(graph: Graph, threads: int = 1, **options: Any) -> graphc.model.Model:
    return graphc.compile(graph, threads=threads, cache=False, precision="bf16", **options)


CASES: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((1, 8, 5, 7), (16, 8, 1, 1), {}),
    ((2, 3, 13, 13), (5, 3, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((1, 3, 31, 29), (40, 3, 7, 7), {"pads": (3, 2, 1, 3), "strides": (2, 2)}),
    ((2, 6, 7, 13), (4, 3, 3, 2), {"group": 2, "strides": (2, 1), "pads": (0, 1, 1, 0)}),
    ((1, 24, 9, 9), (48, 3, 3, 3), {"group": 8, "pads": (1, 1, 1, 1)}),
    ((1, 9, 7, 7), (9, 1, 3, 3), {"group": 9, "auto_pad": "SAME_UPPER", "strides": (2, 2)}),
    ((2, 40, 6, 9), (40, 1, 3, 3), {"group": 40, "pads": (1, 1, 1, 1)}),
    ((1, 33, 9, 9), (17, 33, 1, 1), {"strides": (2, 2)}),
    ((1, 5, 1, 1), (3, 5, 1, 1), {}),
    ((1, 65, 6, 5), (130, 65, 1, 1), {}),
    ((1, 4, 17), (6, 4, 3), {"dilations": (2,)}),
    ((1, 16, 12, 12), (20, 16, 3, 3), {"dilations": (2, 3), "pads": (2, 3, 2, 3)}),
)


@without_pairs
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "x_shape, w_shape, attrs", CASES, ids=lambda v: "x".join(map(str, v)) if isinstance(v, tuple) else ""
)
def test_a_convolution(x_shape, w_shape, attrs, threads: int):
    """float32 sums of K products, whose own rounding 2^-24 each addition repeats: K times that of what the sum of magnitudes is."""
    rng, attrs = np.random.default_rng(w_shape), {"group": 1} | attrs
    x, w = rng.standard_normal(x_shape).astype(np.float32), rng.standard_normal(w_shape).astype(np.float32)
    bias = rng.standard_normal(w_shape[0]).astype(np.float32)
    b = Builder("conv")
    y = b.add("Conv", b.input("x", "float32", x_shape), b.constant(w), b.constant(bias), **attrs)
    model = compiled(b.build({"sums": y, "relu": b.add("Relu", y)}), threads)
    assert any("bfloat16" in s.algorithm for s in model.plan().steps)
    row = bias.astype(np.float64).reshape(-1, *[1] * (len(w_shape) - 2))
    want = conv(rounded(x), rounded(w), None, **attrs) + row
    sizes = conv(np.abs(rounded(x)), np.abs(rounded(w)), None, **attrs) + np.abs(row)
    got = model.run({"x": x})
    bound = (np.prod(w_shape[1:]) + 2) * 2.0**-24 * sizes
    assert got["sums"].dtype == np.float32
    assert (np.abs(got["sums"] - want) <= bound).all()
    np.testing.assert_array_equal(got["relu"], np.maximum(got["sums"], 0))


@without_pairs
def test_what_is_no_number():
    """Of an odd number of channels the last step has a zero beside it, which no infinity meets."""
    x = np.random.default_rng(0).standard_normal((1, 3, 6, 6)).astype(np.float32)
    x[0, 2, 1, 1], x[0, 0, 4, 4] = np.nan, np.inf
    w = np.abs(np.random.default_rng(1).standard_normal((4, 3, 1, 1))).astype(np.float32)
    b = Builder("conv")
    y = b.add("Conv", b.input("x", "float32", x.shape), b.constant(w))
    got = compiled(b.build({"y": y})).run({"x": x})["y"]
    assert np.isnan(got[0, :, 1, 1]).all() and np.isposinf(got[0, :, 4, 4]).all()
    assert np.isfinite(np.delete(got.reshape(4, 36), [7, 28], 1)).all()


# --- networks ---------------------------------------------------------------------------------------------------------
def weights(*shape: int) -> np.ndarray:
    fan = np.prod(shape[1:])
    return (np.random.default_rng(shape).standard_normal(shape) / np.sqrt(fan)).astype(np.float32)


def residual(b: Builder, x):
    y = b.add("Relu", b.add("Conv", x, b.constant(weights(24, 3, 3, 3)), pads=(1, 1, 1, 1)))
    z = b.add("Conv", y, b.constant(weights(24, 24, 1, 1)), b.constant(weights(24, 1)[:, 0]))
    return b.add("Conv", b.add("Relu", b.add("Add", z, y)), b.constant(weights(10, 24, 1, 1)))


def dense_block(b: Builder, x):
    y = b.add("Conv", x, b.constant(weights(16, 3, 3, 3)), pads=(1, 1, 1, 1))
    z = b.add("Conv", b.add("Relu", y), b.constant(weights(5, 16, 3, 3)), pads=(1, 1, 1, 1))
    whole = b.add("Concat", y, z, axis=1)
    scaled = b.add("Relu", b.add("Mul", whole, b.constant(weights(21, 1, 1))))
    return b.add(
        "AveragePool", b.add("Conv", scaled, b.constant(weights(8, 21, 1, 1))), kernel_shape=(2, 2), strides=(2, 2)
    )


def squeeze_excite(b: Builder, x):
    y = b.add("Conv", b.add("MaxPool", x, kernel_shape=(2, 2), strides=(1, 1)), b.constant(weights(20, 3, 3, 3)))
    s = b.add("Conv", b.add("GlobalAveragePool", y), b.constant(weights(20, 20, 1, 1)))
    return b.add("Conv", b.add("Mul", y, b.add("Sigmoid", s)), b.constant(weights(6, 20, 1, 1)))


def with_a_constant(b: Builder, x):
    y = b.add("Conv", x, b.constant(weights(7, 3, 1, 1)))
    whole = b.add("Concat", y, b.constant(weights(2, 2, 12, 14)), axis=1)
    shuffled = b.add(
        "Conv", b.add("MaxPool", whole, kernel_shape=(3, 3), pads=(1, 1, 1, 1)), b.constant(weights(6, 9, 1, 1))
    )
    return b.add("Add", shuffled, b.add("Sigmoid", shuffled))


def in_float32_between(b: Builder, x):
    """A convolution that stays float32, in blocks of channels, between two in bfloat16."""
    y = b.add("Relu", b.add("Conv", x, b.constant(weights(32, 3, 1, 1))))
    y = b.add("Relu", b.add("Conv", y, b.constant(weights(32, 32, 3, 3)), pads=(1, 1, 1, 1), exact=True))
    return b.add("Conv", y, b.constant(weights(9, 32, 1, 1)))


def dilated_pool(b: Builder, x):
    """A MaxPool of bfloat16 has no kernel then: it is in float32."""
    y = b.add("MaxPool", b.add("Conv", x, b.constant(weights(16, 3, 1, 1))), kernel_shape=(2, 2), dilations=(2, 2))
    return b.add("Conv", y, b.constant(weights(5, 16, 1, 1)))


NETWORKS = (residual, dense_block, squeeze_excite, with_a_constant, in_float32_between, dilated_pool)


def network(make, shape: tuple[Any, ...] = (2, 3, 12, 14)) -> Graph:
    b = Builder(make.__name__)
    return b.build({"y": make(b, b.input("x", "float32", shape))})


def in_bfloat16(graph: Graph) -> Graph:
    return Bfloat16Convolutions(lambda node: host_reason(node, detect()) is None)(graph)


@without_pairs
@pytest.mark.parametrize("make", NETWORKS)
def test_a_network(make):
    """As the interpreter on the rounded graph. A sum that lies halfway between two bfloat16 becomes either: a step of the values
    behind it, which the layers after it average."""
    graph = network(make)
    x = np.random.default_rng(3).standard_normal((2, 3, 12, 14)).astype(np.float32)
    rewritten = in_bfloat16(graph)
    assert "ConvPairs" in names(rewritten)
    assert names(rewritten).count("Conv") == (make is in_float32_between)
    want, exact = (interpret(g, {"x": x})["y"] for g in (rewritten, graph))
    got = compiled(graph).run({"x": x})["y"]
    scale = np.abs(want).max()
    assert np.abs(got - want).max() <= STEP * scale
    assert np.sqrt(np.mean((got - want) ** 2)) <= STEP / 16 * scale
    assert STEP / 64 * scale <= np.abs(got - exact).max() <= 8 * STEP * scale, "it is not in bfloat16"


@without_pairs
@pytest.mark.parametrize("make", NETWORKS)
def test_means_and_maxima_have_kernels(make):
    assert not any(s.host for s in compiled(network(make)).plan().steps)


@without_pairs
def test_channels_that_do_not_fill_a_block(monkeypatch):
    """Of 33 channels side by side, blocks of 16 are not copied whole: they would take what is behind the pixel, or the image."""
    monkeypatch.setenv("GRAPHC_CHECK", "memory")
    b = Builder("gate")
    y = b.add("MaxPool", b.input("x", "float32", (1, 33, 4)), kernel_shape=(1,))
    s = b.add("Relu", b.add("Conv", b.add("GlobalAveragePool", y), b.constant(weights(16, 33, 1))))
    s = b.add("Sigmoid", b.add("Conv", s, b.constant(weights(33, 16, 1))))
    y = b.add("Mul", y, s)
    graph = b.build({"y": b.add("Sub", y, b.add("ReduceMean", y, b.constant([2], np.int64)))})
    x = np.random.default_rng(6).standard_normal((1, 33, 4)).astype(np.float32)
    want = interpret(graph, {"x": x})["y"]
    np.testing.assert_allclose(compiled(graph).run({"x": x})["y"], want, atol=4 * STEP * np.abs(want).max(), rtol=0)


@without_pairs
@pytest.mark.parametrize("make", [residual, squeeze_excite])
def test_one_plan_for_many_sizes(make):
    graph = network(make, ("n", 3, "h", "w"))
    model = compiled(graph)
    for n, h, w in ((1, 12, 14), (2, 21, 9), (3, 8, 33)):
        x = np.random.default_rng(h).standard_normal((n, 3, h, w)).astype(np.float32)
        want = compiled(network(make, (n, 3, h, w))).run({"x": x})["y"]
        got = model.run({"x": x})["y"]
        np.testing.assert_allclose(got, want, atol=2 * STEP * np.abs(want).max(), rtol=0)


@without_pairs
def test_an_input_is_rounded_for_convolutions_alone():
    x = np.float32([257, 258, 1e-3, 3]).reshape(1, 4, 1, 1)  # bfloat16 has no 257
    b = Builder("index")
    v = b.input("x", "float32", x.shape)
    y = b.add("Conv", b.add("Reshape", v, b.constant([1, 4, 1, 1], np.int64)), b.constant(weights(3, 4, 1, 1)))
    z = b.add("Conv", v, b.constant(weights(3, 4, 1, 1)))
    got = compiled(b.build({"x": v, "whole": b.add("Cast", v, to="int64"), "y": y, "z": z})).run({"x": x})
    np.testing.assert_array_equal(got["x"], x)
    np.testing.assert_array_equal(got["whole"].ravel(), [257, 258, 0, 3])
    np.testing.assert_array_equal(got["y"], got["z"])


@without_pairs
def test_a_maximum_keeps_what_is_no_number():
    x = np.random.default_rng(5).standard_normal((1, 37, 8, 8)).astype(BF16)
    x[0, 3, 2, 2], x[0, 36, 0, 0], x[0, 5, 7, 7] = np.nan, -np.inf, np.inf
    b = Builder("pool")
    y = b.add("MaxPool", b.input("x", BF16, x.shape), kernel_shape=(3, 2), strides=(2, 1), pads=(1, 0, 1, 0))
    graph = b.build({"y": y})
    want, got = interpret(graph, {"x": x})["y"], graphc.compile(graph, threads=1, cache=False).run({"x": x})["y"]
    np.testing.assert_array_equal(got.astype(np.float32), want.astype(np.float32))


# --- what is asked for ------------------------------------------------------------------------------------------------
def test_the_default_is_float32():
    graph = network(residual)
    x = np.random.default_rng(3).standard_normal((2, 3, 12, 14)).astype(np.float32)
    plain, named = (graphc.compile(graph, threads=1, cache=False, **o) for o in ({}, {"precision": "float32"}))
    np.testing.assert_array_equal(plain.run({"x": x})["y"], named.run({"x": x})["y"])
    assert not any("bfloat16" in s.algorithm for s in plain.plan().steps)


def test_other_precisions_are_refused():
    with pytest.raises(InputError, match="precision must be 'float32', 'bf16', 'bf16-weights', not 'half'"):
        graphc.compile(network(residual), precision="half")
    with pytest.raises(UnsupportedError, match="needs AVX-512 with BF16") as caught:
        graphc.compile(network(residual), precision="bf16", target="cpu:portable")
    assert "cpu:portable" in str(caught.value)
