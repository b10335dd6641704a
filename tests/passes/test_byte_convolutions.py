"""Convolutions of dequantized bytes and what lies between them: which stay in bytes, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from passcheck import F32, build, image, refused, rewritten

from graphc.graph import Builder, Graph, Value
from graphc.passes.byte_convolutions import byte_convolutions
from graphc.passes.byte_tables import byte_tables
from graphc.passes.common_subexpressions import common_subexpressions
from graphc.passes.sign_products import sign_products
from graphc.passes.unsigned_bytes import unsigned_bytes
from graphc.pipeline import SHAPE_FREE, shape_free
from graphc.pipeline import run as run_passes


def names(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def codes(b: Builder, x: Value, scale: float = 0.02, zero: int = 100, dtype: str = "uint8") -> Value:
    """x, quantized and dequantized."""
    parameters = b.constant(scale, F32), b.constant(zero, dtype)
    return b.add("DequantizeLinear", b.add("QuantizeLinear", x, *parameters), *parameters)


def filters(b: Builder, *shape: int, scale: Any = 0.01, zero: Any = 0, dtype: str = "int8", axis: int = 0) -> Value:
    info = np.iinfo(dtype)
    data = np.random.default_rng(shape).integers(info.min, info.max, shape, dtype, endpoint=True)
    return b.add("DequantizeLinear", b.constant(data), b.constant(scale, F32), b.constant(zero, dtype), axis=axis)


def each(n: int) -> dict[str, Any]:
    return {"scale": 0.01 * 1.1 ** np.arange(n), "zero": np.arange(n) % 3}


@pytest.mark.parametrize("own", [{}, each(6), {"dtype": "uint8", "zero": 128}], ids=["one", "each", "unsigned"])
@pytest.mark.parametrize("attrs", [{}, {"pads": (1, 1, 1, 1)}, {"strides": (2, 1), "dilations": (1, 2)}], ids=str)
def test_a_convolution(own: dict[str, Any], attrs: dict[str, Any]):
    """The interpreter's results are those of floats, to their rounding (passcheck)."""

    def make(b):
        bias = b.add("DequantizeLinear", b.constant(np.arange(6, dtype=np.int32)), b.constant(0.1, F32))
        return b.add("Conv", codes(b, image(b)), filters(b, 6, 4, 3, 3, **own), bias, **attrs)

    assert "ConvInteger" in names(rewritten(byte_convolutions, build(make)))


def test_groups_without_a_bias():
    def make(b):
        return b.add("Conv", codes(b, image(b)), filters(b, 4, 1, 3, 3, **each(4)), group=4)

    after = names(rewritten(byte_convolutions, build(make)))
    assert after.count("ConvInteger") == 1 and "Add" not in after


@pytest.mark.parametrize(
    "own", [{}, {"axis": 1, **each(5)}, {"dtype": "uint8", "zero": 128}], ids=["one", "each", "unsigned"]
)
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("biased", [False, True])
def test_a_transposed_convolution_of_patches(own: dict[str, Any], size: int, biased: bool):
    def make(b):
        bias = [b.constant(np.arange(5), F32)] if biased else []
        w = filters(b, 4, 5, size, size, **own)
        return codes(
            b, b.add("ConvTranspose", codes(b, image(b)), w, *bias, strides=(size, size)), 2**-4, 90
        )  # dividing by it rounds nothing

    after = names(rewritten(byte_convolutions, build(make)))
    assert "ConvInteger" in after and "ConvTranspose" not in after
    assert after.index("QuantizeLinear", after.index("ConvInteger")) < after.index("DepthToSpace")


@pytest.mark.parametrize(
    "shape, attrs",
    [((3, 3), {"strides": (2, 2)}), ((2, 2), {"strides": (2, 2), "pads": (1, 0, 0, 0)}), ((2, 2), {}), ((2, 1), {"strides": (2, 1)}),
     ((2, 2), {"strides": (2, 2), "output_padding": (1, 0)})],
)  # fmt: skip
def test_transposed_convolutions_that_stay(shape: tuple[int, int], attrs: dict[str, Any]):
    def make(b):
        return b.add("ConvTranspose", codes(b, image(b)), filters(b, 4, 5, *shape), **attrs)

    assert "side by side" in refused(byte_convolutions, build(make))


REFUSED: dict[str, tuple[str, Callable[[Builder], Value]]] = {
    "a scale per channel of the input": (
        "not those of a whole operand",
        lambda b: b.add("Conv", _by_channel(b), filters(b, 6, 4, 3, 3)),
    ),
    "a scale per input channel of the weights": (
        "not those of a whole operand",
        lambda b: b.add("Conv", codes(b, image(b)), filters(b, 6, 4, 3, 3, axis=1, **each(4))),
    ),
    "a computed bias": (
        "its bias is no constant",
        lambda b: b.add("Conv", codes(b, image(b)), filters(b, 6, 4, 3, 3), b.input("bias", F32, (6,))),
    ),
    "a computed scale": (
        "no constants",
        lambda b: b.add(
            "Conv",
            b.add("DequantizeLinear", b.input("q", "uint8", (1, 4, 6, 6)), b.input("scale", F32, ())),
            filters(b, 6, 4, 3, 3),
        ),
    ),
    "a large mean": ("its window is large", lambda b: b.add("GlobalAveragePool", codes(b, image(b, 1, 2, 40, 40)))),
    "a mean of fewer at the border": (
        "other numbers at the border",
        lambda b: b.add("AveragePool", codes(b, image(b)), kernel_shape=(3, 3), pads=(1, 1, 1, 1)),
    ),
}


def _by_channel(b: Builder) -> Value:
    zeros = b.constant(np.zeros(4, np.uint8))
    q = b.add("QuantizeLinear", image(b), b.constant(np.float32([1, 2, 3, 4])), zeros, axis=1)
    return b.add("DequantizeLinear", q, b.constant(np.float32([1, 2, 3, 4])), zeros, axis=1)


@pytest.mark.parametrize("case", REFUSED)
def test_what_stays(case: str):
    reason, make = REFUSED[case]
    assert reason in str(refused(byte_convolutions, build(make)))


# --- what lies between ------------------------------------------------------------------------------------------------
def test_moves_and_pools_are_of_bytes():
    def make(b):
        x = b.add("MaxPool", codes(b, image(b)), kernel_shape=(2, 2))
        return b.add("Transpose", x, perm=(0, 2, 3, 1))

    graph = rewritten(byte_convolutions, build(make))
    assert names(graph) == ["QuantizeLinear", "MaxPool", "Transpose", "DequantizeLinear"]


def test_the_same_scale_again_is_nothing():
    def make(b, scale=0.02, zero=100):
        x = codes(b, b.add("MaxPool", codes(b, image(b)), kernel_shape=(2, 2)), scale, zero)
        return b.add("Relu", x)

    assert names(rewritten(byte_convolutions, build(make))).count("QuantizeLinear") == 1
    for other in ({"scale": 0.03}, {"zero": 99}):
        graph = rewritten(byte_convolutions, build(lambda b, other=other: make(b, **other)))
        assert names(graph).count("QuantizeLinear") == 2


def test_parts_of_bytes():
    def make(b, scale=0.02):
        parts = b.add("Split", codes(b, image(b)), b.constant([1, 3], np.int64), axis=1, outputs=2)
        return [codes(b, parts[0], scale), b.add("Relu", parts[1])]

    graph = run_passes(build(make), (byte_convolutions, common_subexpressions))
    splits = [n.outputs[0].dtype.name for n in graph.nodes if n.op.name == "Split"]
    assert splits == ["float32", "uint8"] and names(graph).count("QuantizeLinear") == 1
    rewritten(byte_convolutions, build(make))
    both = build(lambda b: [codes(b, v) for v in b.add("Split", codes(b, image(b)), axis=1, num_outputs=2, outputs=2)])
    assert names(run_passes(both, (byte_convolutions, common_subexpressions))).count("Split") == 1
    other = rewritten(byte_convolutions, build(lambda b: make(b, 0.03)))
    assert names(other).count("QuantizeLinear") == 2


def test_a_concatenation_of_bytes():
    def make(b):
        parts = [codes(b, image(b, name=f"x{i}"), 0.02 + 0.0037 * i) for i in range(2)]
        return codes(b, b.add("Concat", *parts, axis=1))

    graph = rewritten(byte_convolutions, build(make))
    joined = next(n for n in graph.nodes if n.op.name == "Concat")
    assert joined.output.dtype == np.uint8 and names(graph).count("QuantizeLinear") == 3


def test_scales_are_divided_beforehand():
    """Nothing is divided behind a convolution, unless others read its floats too."""

    def make(b, twice=False):
        y = b.add("Relu", b.add("Conv", codes(b, image(b)), filters(b, 6, 4, 1, 1)))
        q = codes(b, y, 0.031)
        return (q, y) if twice else q

    def last_scale(graph: Graph) -> float:
        return [n for n in graph.nodes if n.op.name == "QuantizeLinear"][-1].inputs[1].data.item()

    assert last_scale(rewritten(byte_convolutions, build(make))) == 1
    kept = rewritten(byte_convolutions, build(lambda b: make(b, twice=True)))
    assert last_scale(kept) == pytest.approx(0.031)


# --- signed bytes -----------------------------------------------------------------------------------------------------
def test_signed_bytes_are_unsigned_between():
    def make(b):
        x = codes(b, image(b), zero=-28, dtype="int8")
        return b.add("Conv", x, filters(b, 6, 4, 1, 1))

    graph = rewritten(unsigned_bytes, build(make))
    assert "BitCast" not in names(graph)
    assert [n.output.dtype.name for n in graph.nodes if n.op.name == "QuantizeLinear"] == ["uint8"]


def test_signed_bytes_that_are_results():
    def make(b):
        q = b.add("QuantizeLinear", image(b), b.constant(0.01, F32), b.constant(-128, "int8"))
        return q, b.add("DequantizeLinear", q, b.constant(0.01, F32), b.constant(-128, "int8"))

    graph = rewritten(unsigned_bytes, build(make))
    assert [v.dtype.name for v in graph.outputs] == ["int8", "float32"]


def test_backends_without_the_kernel_keep_floats():
    assert {*SHAPE_FREE} - {*shape_free({"Conv"})} == {
        byte_convolutions,
        unsigned_bytes,
        byte_tables,
        sign_products,
    }
    assert shape_free({"ConvBytes", "ByteTable", "SignProduct"}) == SHAPE_FREE
    graph = build(lambda b: b.add("Conv", codes(b, image(b)), filters(b, 6, 4, 1, 1)))
    assert "Conv" in names(run_passes(graph, shape_free(())))
    assert "ConvInteger" in names(run_passes(graph, shape_free({"ConvBytes"})))
