"""Quantized networks: between two convolutions there are bytes alone, and results are those of ONNX Runtime without optimisations, up
to one step of the last quantisation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from targets import require

import graphc

ort = pytest.importorskip("onnxruntime")

TARGETS = ("cpu", "cpu:avx2", "cpu:portable")
Nodes = list[onnx.NodeProto]


class Net:
    """A QDQ graph that is written from the input on. kind: of activations."""

    def __init__(self, kind: str, shape: tuple[int, ...], seed: int = 0, weights: str = "int8") -> None:
        self.kind, self.shape, self.weights = kind, shape, weights
        self.rng = np.random.default_rng(seed)
        self.nodes: Nodes = []
        self.constants: list[onnx.TensorProto] = []
        self.count = 0

    def constant(self, data: np.ndarray) -> str:
        self.count += 1
        self.constants.append(numpy_helper.from_array(np.asarray(data), f"c{self.count}"))
        return f"c{self.count}"

    def add(self, op: str, *inputs: str, **attrs: object) -> str:
        self.count += 1
        self.nodes.append(helper.make_node(op, list(inputs), [f"v{self.count}"], **attrs))
        return f"v{self.count}"

    def quantized(self, x: str, scale: float = 0.05, zero: int = 100) -> str:
        """x as bytes, and dequantized."""
        at = zero if self.kind == "uint8" else zero - 128
        parameters = self.constant(np.float32(scale)), self.constant(np.asarray(at, self.kind))
        return self.add("DequantizeLinear", self.add("QuantizeLinear", x, *parameters), *parameters)

    def conv(self, x: str, channels: int, filters: int, kernel: int = 3, group: int = 1, **attrs: object) -> str:
        info = np.iinfo(self.weights)
        shape = (filters, channels // group, kernel, kernel)
        w = self.rng.integers(max(info.min, info.max - 255), info.max, shape, endpoint=True).astype(self.weights)
        scale = (0.02 / np.sqrt(np.prod(shape[1:])) * self.rng.uniform(0.5, 1.5, filters)).astype(np.float32)
        zero = np.full(filters, 0 if self.weights == "int8" else 128, self.weights)
        b = self.rng.integers(-200, 200, filters).astype(np.int32)
        weights = self.add("DequantizeLinear", *map(self.constant, (w, scale, zero)), axis=0)
        bias = self.add("DequantizeLinear", *map(self.constant, (b, 0.05 * scale)), axis=0)
        pads = [kernel // 2] * 4
        return self.add(
            "Conv", x, weights, bias, **{"pads": pads, "group": group, "kernel_shape": [kernel] * 2, **attrs}
        )

    def model(self, y: str) -> onnx.ModelProto:
        given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)]
        made = [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, "net", given, made, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def check(target: str, model: onnx.ModelProto, shape: tuple[int, ...], step: float, threads: int = 1) -> list:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    x = np.random.default_rng(9).uniform(-3, 3, shape).astype(np.float32)
    want = ort.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})[0]
    compiled = graphc.compile(model, target=target, threads=threads)
    got = next(iter(compiled.run({"x": x}).values()))
    assert np.ptp(want) > 20 * step  # it says something
    error = np.abs(got - want)
    assert error.max() <= 1.01 * step
    assert (error > 0.01 * step).mean() < 0.02  # halves that rounding of scales moves
    return compiled.plan().steps


def residual(n: Net) -> str:
    x = n.quantized("x")
    a = n.quantized(n.add("Relu", n.conv(x, 8, 24)), 0.03, 0 if n.kind == "uint8" else 128)
    b = n.quantized(n.conv(a, 24, 24, kernel=1), 0.06, 120)
    c = n.quantized(n.conv(b, 24, 24, group=24), 0.04, 90)
    return n.quantized(n.add("Relu", n.add("Add", c, a)), 0.05, 3)


def concatenated(n: Net) -> str:
    x = n.add("MaxPool", n.quantized("x"), kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 1, 0])
    parts = [n.quantized(n.conv(x, 8, f, k), 0.02131 + 0.00071 * f, 100 + f) for f, k in ((16, 1), (20, 3))]
    return n.quantized(n.conv(n.quantized(n.add("Concat", *parts, axis=1), 0.03), 36, 11, strides=[2, 2]))


def pooled(n: Net) -> str:
    x = n.quantized(n.conv(n.quantized("x"), 8, 40), 0.0407)
    x = n.quantized(n.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]), 0.0311)
    x = n.quantized(n.add("GlobalAveragePool", x), 0.0103)
    return n.quantized(n.add("Flatten", n.conv(x, 40, 30, 1)), 0.01)


def clipped(n: Net) -> str:
    x = n.quantized(n.conv(n.quantized("x"), 8, 12, 5, strides=[2, 1]), 0.05)
    six = [n.constant(np.float32(v)) for v in (0, 6)]
    y = n.quantized(n.add("Clip", n.conv(x, 12, 17), *six), 0.023, 0)
    return n.quantized(n.add("Mul", y, n.add("Sigmoid", n.conv(y, 17, 17, 1))), 0.02, 20)


NETS: dict[str, Callable[[Net], str]] = {f.__name__: f for f in (residual, concatenated, pooled, clipped)}


@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("target", TARGETS)
def test_nets(target: str, name: str, kind: str):
    require(target)
    for shape, weights, threads in (((1, 8, 13, 11), "int8", 1), ((3, 8, 12, 9), "uint8", 2)):
        n = Net(kind, shape, len(name), weights)
        y = NETS[name](n)
        steps = check(target, n.model(y), shape, scale_of(n, y), threads)
        assert not any(s.host for s in steps)
        floats = [s for s in steps if s.ops == ("Conv",) or "Conv" in s.ops]
        assert not floats and any("ConvBytes" in s.ops for s in steps)


def scale_of(n: Net, y: str) -> float:
    """Of the last quantisation."""
    made = next(node for node in n.nodes if y in node.output)
    if made.op_type != "DequantizeLinear":
        return scale_of(n, made.input[0])
    return float(next(numpy_helper.to_array(c) for c in n.constants if c.name == made.input[1]))


def test_nothing_between_is_made_of_floats():
    """A residual block: five steps, of which none but the first reads or writes floats but for the result."""
    n = Net("uint8", (1, 8, 12, 12))
    y = residual(n)
    model = n.model(y)
    steps = graphc.compile(model, target="cpu").plan().steps
    convs = [s for s in steps if s.algorithm.startswith("bytes")]
    assert len(convs) == 3 and "Add" in convs[-1].ops and "Relu" in convs[-1].ops
    assert len(steps) - len(convs) <= 4, steps  # the input's quantisation, borders, the result's channels first


def test_open_sizes():
    n = Net("uint8", ("n", 8, "h", "w"), 3)
    model = n.model(concatenated(n))
    compiled = graphc.compile(model)
    for shape in ((1, 8, 13, 11), (2, 8, 20, 17), (1, 8, 33, 9), (5, 8, 13, 30)):
        x = np.random.default_rng(1).uniform(-3, 3, shape).astype(np.float32)
        want = graphc.compile(model, cache=False).run({"x": x})
        for a, b in zip(compiled.run({"x": x}).values(), want.values()):
            np.testing.assert_array_equal(a, b)


def test_a_dynamic_zero_point():
    """As quantize_dynamic writes a convolution: the input's scale and zero point follow from it."""
    n = Net("uint8", (2, 8, 9, 9))
    w = n.constant(n.rng.integers(-128, 128, (10, 8, 3, 3)).astype(np.int8))
    n.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]))
    total = n.add("ConvInteger", "q", w, "z", pads=[1, 1, 1, 1])
    y = n.add("Mul", n.add("Cast", total, to=TensorProto.FLOAT), "s")
    steps = check("cpu", n.model(y), (2, 8, 9, 9), 0.001)
    assert any("ConvBytes" in s.ops for s in steps) and not any(s.host for s in steps)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("op", ["Add", "Max"])
@pytest.mark.parametrize("between", [False, True], ids=["behind the sums", "behind a rounding"])
@pytest.mark.parametrize("shape", [(1, 12, 8, 13), (12, 8, 13), (12, 1, 13), (12, 1, 1), (1, 8, 13)], ids=str)
def test_operands_that_are_broadcast(shape: tuple[int, ...], between: bool, op: str, batch: int):
    """Into images whose channels are innermost, while theirs are not; two kernels read the result."""
    net = Net("uint8", (batch, 4, 8, 13))
    x = net.conv(net.quantized("x"), 4, 12, 1)
    x = net.quantized(x) if between else x
    x = net.add(op, x, net.constant(net.rng.standard_normal(shape).astype(np.float32)))
    x = net.add(
        "Sub", net.add("Mul", x, net.constant(np.float32(0.5))), net.add("GlobalMaxPool", net.add("Sigmoid", x))
    )
    y = net.add("Transpose", x, perm=[1, 0, 2, 3])
    check("cpu", net.model(y), net.shape, 2 * 0.05)
