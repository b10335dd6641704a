"""Functions of one byte: which become tables, that these say what the graph says, and how kernels look bytes up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from passcheck import F32, build
from targets import require

import graphc
from graphc.graph import Builder, Graph, Value
from graphc.interpret import interpret
from graphc.passes.byte_tables import byte_tables
from graphc.verify import verify

Body = Callable[[Builder, Value], Value]


def number(b: Builder, x: float) -> Value:
    return b.constant(x, F32)


def silu(b: Builder, x: Value) -> Value:
    return b.add("Mul", x, b.add("Sigmoid", x))


def gelu(b: Builder, x: Value) -> Value:
    """As exporters write it out."""
    erf = b.add("Erf", b.add("Div", x, number(b, np.sqrt(2))))
    return b.add("Mul", b.add("Mul", x, b.add("Add", erf, number(b, 1))), number(b, 0.5))


def hard_swish(b: Builder, x: Value) -> Value:
    gate = b.add("Div", b.add("Clip", b.add("Add", x, number(b, 3)), number(b, 0), number(b, 6)), number(b, 6))
    return b.add("Mul", x, gate)


def undefined(b: Builder, x: Value) -> Value:
    """NaN for half of the bytes, infinite for one."""
    return b.add("Add", b.add("Log", x), b.add("Sqrt", x))


BODIES: dict[str, Body] = {
    **{op: lambda b, x, op=op: b.add(op, x) for op in ("Gelu", "Tanh", "Sigmoid", "HardSwish", "Mish", "Sin", "Exp")},
    **{f.__name__: f for f in (silu, gelu, hard_swish, undefined)},
}


def dequantized(b: Builder, x: Value, scale: float = 0.04, zero: int = 100) -> Value:
    at = zero if x.dtype == np.uint8 else zero - 128
    return b.add("DequantizeLinear", x, number(b, scale), b.constant(at, x.dtype))


def quantized(b: Builder, y: Value, kind: str = "uint8", scale: float = 0.021, zero: int = 5) -> Value:
    return b.add("QuantizeLinear", y, number(b, scale), b.constant(zero if kind == "uint8" else zero - 128, kind))


def ops(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def every_byte(kind: str) -> np.ndarray:
    return np.arange(256, dtype=np.uint8).view(kind)


def check(graph: Graph, *expected: str) -> Graph:
    """The pass leaves these operators, and every result of every byte as it is."""
    after = byte_tables(graph)
    verify(after, "byte_tables")
    assert ops(after) == list(expected)
    feeds = {v.name: np.resize(every_byte(v.dtype.name), v.shape) for v in graph.inputs}
    for name, want in interpret(graph, feeds).items():
        got = interpret(after, feeds)[name]
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
    return after


@pytest.mark.parametrize("to", ["uint8", "int8"])
@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("body", BODIES)
def test_activations(body: str, kind: str, to: str):
    def make(b: Builder) -> Value:
        return quantized(b, BODIES[body](b, dequantized(b, b.input("x", kind, (4, 64)))), to)

    check(build(make), "ByteTable")


def test_functions_of_functions():
    """Each operator between bytes of its own, as quantizers write it: both bytes follow from the first."""

    def make(b: Builder) -> Value:
        x = b.input("x", "uint8", (256,))
        gate = dequantized(b, quantized(b, b.add("Sigmoid", dequantized(b, x)), scale=1 / 256, zero=0), 1 / 256, 0)
        return quantized(b, b.add("Mul", dequantized(b, x), gate))

    check(build(make), "ByteTable")


@pytest.mark.parametrize("op", ["Sigmoid", "LeakyRelu"])
def test_operators_from_bytes_to_bytes(op: str):
    def make(b: Builder) -> Value:
        numbers = number(b, 0.04), b.constant(-3, "int8"), number(b, 0.01), b.constant(7, "int8")
        return b.add(f"com.microsoft::QLinear{op}", b.input("x", "int8", (256,)), *numbers)

    check(build(make), "ByteTable")


def test_what_others_read_stays():
    def make(b: Builder) -> list[Value]:
        y = b.add("Gelu", dequantized(b, b.input("x", "uint8", (256,))))
        return [quantized(b, y), y, quantized(b, y, "int8")]

    check(build(make), "DequantizeLinear", "Gelu", "ByteTable", "ByteTable")


def test_sizes_that_are_not_known():
    def make(b: Builder) -> Value:
        return quantized(b, b.add("Gelu", dequantized(b, b.input("x", "uint8", ("batch", 3)))))

    assert ops(byte_tables(build(make))) == ["ByteTable"]


def _of_two(b: Builder, x: Value) -> Value:
    return b.add("Mul", dequantized(b, x), b.add("Sigmoid", dequantized(b, b.input("z", "uint8", (4, 64)))))


def _of_floats(b: Builder, x: Value) -> Value:
    return b.add("Add", b.add("Sigmoid", dequantized(b, x)), b.input("z", F32, (4, 64)))


def _of_columns(b: Builder, x: Value) -> Value:
    return b.add("Sigmoid", b.add("Mul", dequantized(b, x), b.constant(np.arange(64), F32)))


def _of_scales(b: Builder, x: Value) -> Value:
    scales, zeros = b.constant(np.arange(1, 65), F32), b.constant(np.arange(64), "uint8")
    return b.add("Sigmoid", b.add("DequantizeLinear", x, scales, zeros, axis=1))


def _of_positions(b: Builder, x: Value) -> Value:
    return b.add("Softmax", dequantized(b, x))


def _widened(b: Builder, x: Value) -> Value:
    """A constant that gives it more dims."""
    return b.add("Sigmoid", b.add("Mul", dequantized(b, x), b.constant([[[2.0]]], F32)))


def _cheap(b: Builder, x: Value) -> Value:
    return b.add("Relu", dequantized(b, x))


@pytest.mark.parametrize("body", [_of_two, _of_floats, _of_columns, _of_scales, _of_positions, _widened, _cheap])
def test_what_is_no_function_of_one_byte_or_is_cheap_stays(body: Body):
    graph = build(lambda b: quantized(b, body(b, b.input("x", "uint8", (4, 64)))))
    assert byte_tables(graph) is graph


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_compiled(target: str, data: st.DataObject):
    """Every byte of it, in sizes that do not fill vectors, is that of the graph as it was written."""
    require(target)
    body, kind = data.draw(st.sampled_from(sorted(BODIES))), data.draw(st.sampled_from(["uint8", "int8"]))
    to, size = data.draw(st.sampled_from(["uint8", "int8"])), data.draw(st.integers(1, 300))
    scale = data.draw(st.floats(0.001, 10))
    x = np.random.default_rng(size).permutation(np.resize(every_byte(kind), 512))[:size]

    def make(b: Builder) -> Value:
        return quantized(b, BODIES[body](b, dequantized(b, b.input("x", kind, (size,)), scale)), to)

    graph = build(make)
    model = graphc.compile(graph, target=target, cache=False)
    assert [s.ops[0] for s in model.plan().steps] == ["ByteTable"]
    np.testing.assert_array_equal(model(x), interpret(graph, {"x": x})["y0"])


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
def test_behind_a_convolution(target: str):
    """Layers share their kernel: tables are operands of it."""
    require(target)

    def make(b: Builder) -> Value:
        x = dequantized(b, b.input("x", "uint8", (1, 20, 5, 7)))
        for seed, scale in enumerate((0.03, 0.05)):
            w = np.random.default_rng(seed).integers(-127, 127, (20, 20, 1, 1)).astype(np.int8)
            y = b.add("Conv", x, b.add("DequantizeLinear", b.constant(w), number(b, 0.002), b.constant(0, "int8")))
            y = dequantized(b, quantized(b, y, scale=scale, zero=120), scale, 120)
            x = dequantized(b, quantized(b, silu(b, y), scale=scale), scale, 5)
        return quantized(b, x, scale=0.05)

    graph = build(make)
    x = np.random.default_rng(0).integers(0, 256, (1, 20, 5, 7)).astype(np.uint8)
    model = graphc.compile(graph, target=target)
    kernels = [s.kernel for s in model.plan().steps if "ByteTable" in s.ops and s.kernel != "copy_strided"]
    assert len(kernels) == 2 and len({*kernels}) == 1 and "ConvBytes" in model.plan().steps[-1].ops
    want = interpret(graph, {"x": x})["y0"].astype(int)
    error = np.abs(
        model(x).astype(int) - want
    )  # convolutions move scales: a step where a sum lies halfway between two bytes
    assert error.max() <= 2 and (error > 0).mean() < 0.02 and np.ptp(want) > 50
