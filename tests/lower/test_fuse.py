"""What must fuse, and what must not: a value used elsewhere, a result of the graph, operands a kernel can't read."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc.graph import Builder, Value


def _conv(b: Builder, x, channels: int = 16, **attrs):
    rng = np.random.default_rng(0)
    weights = (rng.standard_normal((channels, x.shape[1], 1, 1)) / np.sqrt(x.shape[1])).astype(np.float32)
    return b.add("Conv", x, b.constant(weights), **attrs)


def _steps(graph) -> list[str]:
    """Operators of each step of the compiled plan, reorders aside; the result is checked against the reference."""
    model = graphc.compile(graph, threads=1)
    rng = np.random.default_rng(1)
    feeds = {s.name: rng.standard_normal(s.shape).astype(s.dtype) for s in model.inputs}
    want = graphc.compile(graph, target="reference").run(feeds)
    for name, got in model.run(feeds).items():
        np.testing.assert_allclose(got, want[name], rtol=1e-4, atol=1e-5)
    return ["+".join(s.ops) for s in model.plan().steps if s.ops[0] not in ("Reorder", "Halo", "Copy", "Pack")]


@pytest.fixture
def b() -> Builder:
    return Builder("fusion")


@pytest.fixture
def x(b: Builder):
    return b.input("x", "float32", (1, 16, 6, 6))


def test_a_chain_of_activations_joins_the_convolution(b, x):
    y = b.add("Sigmoid", b.add("Relu", _conv(b, x)))
    assert _steps(b.build({"y": y})) == ["Conv+Relu+Sigmoid"]


def test_a_residual_joins_the_later_convolution(b, x):
    left = _conv(b, x)
    right = _conv(b, left)
    assert _steps(b.build({"y": b.add("Relu", b.add("Add", left, right))})) == ["Conv", "Conv+Add+Relu"]


def test_a_value_read_twice_inside_the_group_is_fused(b, x):
    c = _conv(b, x)
    assert _steps(b.build({"y": b.add("Mul", c, b.add("Sigmoid", c))})) == ["Conv+Sigmoid+Mul"]


def test_a_gelu_written_out_is_one_epilogue(b):
    x = b.input("x", "float32", (5, 32))
    w = b.constant(np.random.default_rng(0).standard_normal((32, 24)).astype(np.float32))
    h = b.add("MatMul", x, w)

    def number(v: float) -> Value:
        return b.constant(v, "float32")

    erf = b.add("Erf", b.add("Div", h, number(np.sqrt(2))))
    y = b.add("Mul", b.add("Mul", h, b.add("Add", erf, number(1.0))), number(0.5))
    assert len(_steps(b.build({"y": y}))) == 1


def test_a_value_read_outside_is_not_fused_away(b, x):
    c = _conv(b, x)
    y, z = b.add("Relu", c), b.add("Transpose", c, perm=(0, 2, 3, 1))
    assert _steps(b.build({"y": y, "z": z}))[0] == "Conv"


def test_a_result_of_the_graph_is_not_fused_away(b, x):
    c = _conv(b, x)
    steps = _steps(b.build({"c": c, "y": b.add("Relu", c)}))
    assert "Conv" in steps and "Relu" in steps


def test_a_branch_through_another_kernel_ends_the_group(b, x):
    c = _conv(b, x)
    scale = b.add("Sigmoid", b.add("GlobalAveragePool", c))
    steps = _steps(b.build({"y": b.add("Mul", c, scale)}))
    assert steps[0] == "Conv" and steps[-1].endswith("Mul")


def test_an_operand_that_varies_along_a_row_is_not_read_by_the_convolution(b, x):
    columns = b.constant(np.arange(6, dtype=np.float32))
    assert _steps(b.build({"y": b.add("Mul", _conv(b, x), columns)}))[0] == "Conv"


def test_a_cast_ends_the_epilogue(b, x):
    y = b.add("Cast", _conv(b, x), to=np.dtype("int32"))
    model = graphc.compile(b.build({"y": y}), threads=1)
    assert [s.ops for s in model.plan().steps if "Conv" in s.ops] == [("Conv",)]


def test_elementwise_nodes_become_one_kernel(b, x):
    y = b.add("Exp", b.add("Neg", b.add("Abs", x)))
    assert _steps(b.build({"y": y})) == ["Abs+Neg+Exp"]


def test_elementwise_nodes_that_share_a_value_become_one_kernel(b, x):
    t = b.add("Exp", x)
    assert _steps(b.build({"y": b.add("Div", t, b.add("Add", t, b.constant(1.0, "float32")))})) == ["Exp+Add+Div"]


def test_the_notes_say_why_not(b, x):
    c = _conv(b, x)
    model = graphc.compile(b.build({"y": b.add("Relu", c), "z": b.add("Neg", c)}), threads=1)
    refused = [n for n in model.plan().notes if not n.applied]
    assert refused and all(n.reason for n in refused)
