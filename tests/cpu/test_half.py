"""float16 and bfloat16 where kernels compute in float32: every value is rounded to its type, and none runs on the host."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from suite import check, host_reasons, uses_of

import graphc
from graphc.backends.cpu.backend import CpuBackend
from graphc.backends.cpu.options import CpuOptions
from graphc.converted import in_float32, origin
from graphc.graph import Builder, Graph, Value
from graphc.interpret import run_graph
from graphc.testing.checking import NARROW
from graphc.types import dtype_from_name

TARGETS = ("cpu", "cpu:portable")
LARGEST = 65504.0  # float16
WIDENED = [
    *("AveragePool", "Conv", "ConvTranspose", "Einsum", "FusedAttention", "GRU", "Gemm", "GlobalAveragePool"),
    *("GlobalMaxPool", "GridSample", "LSTM", "LpPool", "MatMul", "MaxPool", "MaxRoiPool", "RNN", "RoiAlign"),
]


def weights(b: Builder, dtype: str, *shape: int, seed: int = 0) -> Value:
    numbers = np.random.default_rng(seed).normal(0, np.prod(shape[1:]) ** -0.5, shape)
    return b.constant(numbers.astype(dtype_from_name(dtype)))


def net(dtype: str) -> tuple[Graph, dict[str, np.ndarray]]:
    """Convolutions with what may end their kernels, a pool, a movement, a reduction and a product."""
    b = Builder("net")
    x = b.input("x", dtype_from_name(dtype), ("batch", 3, 12, 12))
    first = b.add("Relu", b.add("Conv", x, weights(b, dtype, 24, 3, 3, 3), pads=(1, 1, 1, 1)))
    second = b.add("Conv", first, weights(b, dtype, 24, 24, 3, 3, seed=1), pads=(1, 1, 1, 1))
    y = b.add("HardSwish", b.add("Add", second, first))
    y = b.add("MaxPool", b.add("Concat", y, first, axis=1), kernel_shape=(2, 2), strides=(2, 2))
    y = b.add("Reshape", b.add("Transpose", y, perm=(0, 2, 3, 1)), b.constant([0, 36, 48], "int64"))
    y = b.add("MatMul", y, weights(b, dtype, 48, 10, seed=2))
    y = b.add("Softmax", b.add("ReduceMean", y, b.constant([1], "int64"), keepdims=False))
    return b.build({"y": y, "first": first}), {
        "x": np.random.default_rng(3).normal(size=(2, 3, 12, 12)).astype(x.dtype)
    }


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", WIDENED)
def test_every_case_as_in_float32(name: str, dtype: str):
    """Right, and compiled where float32 is."""
    for one in uses_of(name, ["float32"])[:6]:
        model = check(one.with_floats(dtype))
        assert host_reasons(model, one) <= host_reasons(graphc.compile(one.graph()), one)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", NARROW)
def test_a_net_is_rounded_where_its_file_says(dtype: str, target: str):
    """As node by node. A sum in another order may round to the neighbour, and the next layer carries that on: a few
    ulps of the largest."""
    graph, feeds = net(dtype)
    model = graphc.compile(graph, target=target)
    want = run_graph(graph, list(feeds.values()))
    for got, w in zip(model.run(feeds).values(), want):
        assert got.dtype == w.dtype
        scale = np.abs(w.astype(float)).max()
        np.testing.assert_allclose(got.astype(float), w.astype(float), rtol=0, atol=NARROW[dtype] * scale)
    assert not [s for s in model.plan({"x": (2, 3, 12, 12)}).steps if s.host]


@pytest.mark.parametrize("dtype", NARROW)
def test_before_sizes_are_known_nothing_is_said_to_run_on_the_host(dtype: str):
    graph, _ = net(dtype)
    assert not [p for p in CpuBackend(CpuOptions(None, 1)).outlook(graph) if p.host]


@pytest.mark.parametrize("dtype", NARROW)
def test_between_layers_nothing_is_converted(dtype: str):
    """Values are float32 from the first layer to the last; rounding ends the kernels of layers."""
    graph, feeds = net(dtype)
    steps = graphc.compile(graph).plan({"x": feeds["x"].shape}).steps
    layers = [i for i, s in enumerate(steps) if s.ops[0] in ("Conv", "MatMul")]
    assert len(layers) == 3 and all("RoundTo" in steps[i].ops for i in layers)
    between = [s.ops for s in steps[layers[0] + 1 : layers[-1]] if "Cast" in s.ops]
    assert between == [("Cast",)], "only the result 'first' is written in the narrow type"


def overflows(b: Builder, x: Value) -> Value:
    """70000, which float16 has not, less 10000."""
    product = b.add("MatMul", x, b.constant(np.full((8, 8), 1000), x.dtype))
    product = b.add(
        "Max", product, b.constant(-1e9, x.dtype)
    )  # else the constant is the product's bias, and rounded with it
    return b.add("Sub", product, b.constant(10000, x.dtype))


def loses_digits(b: Builder, x: Value) -> Value:
    """A sum in which the product's last digits would remain. (Passes join constants that follow each other.)"""
    product = b.add("MatMul", x, b.constant(np.full((8, 8), 1.001), x.dtype))
    total = b.add("Add", b.add("Abs", product), b.constant(512, x.dtype))
    return b.add("Sub", b.add("Abs", total), b.constant(512, x.dtype))


def is_tiny(b: Builder, x: Value) -> Value:
    """Numbers below float16's smallest normal one."""
    return b.add("MatMul", x, b.constant(np.diag(np.arange(8) * 2.0**-26), x.dtype))


SPECIAL: dict[str, tuple[Callable[[Builder, Value], Value], np.ndarray]] = {
    "overflow": (overflows, np.full((3, 8), 8.75)),
    "negative overflow": (overflows, np.full((3, 8), -8.75)),
    "the largest": (lambda b, x: b.add("MatMul", x, b.constant(np.eye(8), x.dtype)), np.full((2, 8), LARGEST)),
    "digits": (loses_digits, np.linspace(0.1, 3, 24).reshape(3, 8)),
    "subnormal": (is_tiny, np.linspace(1, 17, 16).reshape(2, 8)),
    "NaN": (overflows, np.full((2, 8), np.nan)),
    "infinity": (lambda b, x: b.add("Abs", b.add("MatMul", x, b.constant(np.ones((8, 8)), x.dtype))), np.full((2, 8), -np.inf)),
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("case", SPECIAL)
def test_special_numbers(case: str, dtype: str, target: str):
    """As node by node, bit for bit: the sums are exact."""
    make, numbers = SPECIAL[case]
    x = numbers.astype(dtype_from_name(dtype))
    b = Builder("special")
    graph = b.build({"y": make(b, b.input("x", x.dtype, x.shape))})
    (want,) = run_graph(graph, [x])
    got = graphc.compile(graph, target=target).run({"x": x})["y"]
    np.testing.assert_array_equal(got.astype(float), want.astype(float))
    if case == "overflow" and dtype == "float16":
        assert np.isposinf(want.astype(float)).all()


def test_a_float32_value_is_rounded_once_where_the_file_casts_it():
    b = Builder("mixed")
    x = b.input("x", "float32", (4, 8))
    half = b.add("Cast", b.add("Exp", x), to=np.float16)
    y = b.add("Cast", b.add("MatMul", half, b.constant(np.eye(8), np.float16)), to=np.float32)
    graph = b.build({"y": b.add("Sub", y, b.add("Exp", x))})
    feeds = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    (want,) = run_graph(graph, [feeds])
    np.testing.assert_allclose(graphc.compile(graph).run({"x": feeds})["y"], want, atol=1e-6)
    assert np.abs(want).max() > 1e-5, "what rounding to float16 loses"


def test_in_a_loop():
    body = Builder("body")
    _, go, state = body.input("i", "int64", ()), body.input("go", "bool", ()), body.input("state", np.float16, (3, 8))
    step = body.add("Tanh", body.add("MatMul", state, weights(body, "float16", 8, 8)))
    held = body.build({"go_on": body.add("Identity", go), "next": step})
    b = Builder("loop")
    x = b.input("x", np.float16, (3, 8))
    y = b.add("Loop", b.constant(5), b.constant(True), x, body=held, n_states=1)
    graph = b.build({"y": y})
    feeds = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float16)
    model = graphc.compile(graph)
    (want,) = run_graph(graph, [feeds])
    np.testing.assert_allclose(model.run({"x": feeds})["y"].astype(float), want.astype(float), atol=2**-9)
    assert not [s for s in model.plan().steps if s.host]


def test_what_comes_before_a_layer_stays_narrow():
    """It has half the bytes: the first cast is as late as can be."""
    b = Builder("before")
    x = b.input("x", np.float16, (64, 64))
    y = b.add("MatMul", b.add("Transpose", b.add("Exp", x), perm=(1, 0)), weights(b, "float16", 64, 8))
    steps = graphc.compile(b.build({"y": y})).plan().steps
    assert [s.ops for s in steps] == [("Exp",), ("Transpose",), ("Cast",), ("MatMul", "RoundTo"), ("Cast",)]


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("k, n", [(64, 256), (37, 300), (5, 3), (700, 129)])
def test_one_row_reads_narrow_weights(k: int, n: int, dtype: str, target: str):
    """Within an ulp of the exact result: a sum in float32, rounded once."""
    kind, rng = dtype_from_name(dtype), np.random.default_rng(k)
    w, transposed = (rng.normal(size=shape).astype(kind) for shape in ((2, k, n), (n, k)))
    b = Builder("row")
    x = b.input("x", kind, (1, k))
    batch = b.add("MatMul", x, b.constant(w))
    graph = b.build({"y": batch, "z": b.add("Gemm", x, b.constant(transposed), transB=True)})
    row = rng.normal(size=(1, k)).astype(kind)
    try:
        model = graphc.compile(graph, target=target)
    except graphc.errors.UnsupportedError as error:
        pytest.skip(str(error))
    got = model.run({"x": row})
    exact = row.astype(float) @ w.astype(float), row.astype(float) @ transposed.astype(float).T
    for a, e in zip(got.values(), exact):
        assert np.all(np.abs(a.astype(float) - e) <= NARROW[dtype] / 2 * np.abs(e) + 1e-5 * k**0.5)
    reasons = [s.reason for s in model.plan().steps if s.ops[0] in ("MatMul", "Gemm")]
    assert len(reasons) == 2 and all((f"weights in {dtype}" in r) == (target != "cpu:portable") for r in reasons)


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("queries, keys, size", [(1, 77, 40), (3, 20, 64), (20, 33, 5)])
def test_attention_reads_a_narrow_cache(queries: int, keys: int, size: int, dtype: str, target: str):
    """As it lies, where few queries do; else in float32."""
    kind, rng = dtype_from_name(dtype), np.random.default_rng(size)
    b = Builder("attention")
    x = b.input("x", kind, (1, queries, 2 * size))
    k, v = (b.input(name, kind, (1, 2, keys, size)) for name in "kv")
    q = b.add(
        "Reshape", b.add("MatMul", x, weights(b, dtype, 2 * size, 2 * size)), b.constant([0, 0, 2, size], "int64")
    )
    graph = b.build({"y": b.add("Attention", b.add("Transpose", q, perm=(0, 2, 1, 3)), k, v)})
    feeds = {i.name: rng.normal(size=i.shape).astype(kind) for i in graph.inputs}
    (want,) = run_graph(graph, list(feeds.values()))
    try:
        model = graphc.compile(graph, target=target)
    except graphc.errors.UnsupportedError as error:
        pytest.skip(str(error))
    got = model.run(feeds)["y"]
    np.testing.assert_allclose(got.astype(float), want.astype(float), rtol=0, atol=NARROW[dtype])
    (step,) = [s for s in model.plan().steps if "FusedAttention" in s.ops]
    assert (f"keys and values in {dtype}" in step.reason) == (queries <= 8 and target != "cpu:portable")


def test_plans_share_packed_weights():
    graph, feeds = net("float16")
    model = graphc.compile(graph)
    packed = []
    for n in (1, 2):
        model.plan({"x": (n, 3, 12, 12)})
        packed.append(model._source.backend.weights.nbytes)
    assert packed[1] < 1.2 * packed[0]


def test_a_constant_is_converted_once_while_it_is_in_use():
    half = np.arange(9, dtype=np.float16)
    wide = in_float32(half)
    assert in_float32(half) is wide and origin(wide) is half and origin(half) is half
    assert wide.dtype == np.float32 and not wide.flags.writeable
    number = id(wide)
    del wide
    again = in_float32(half)
    np.testing.assert_array_equal(again, half.astype(np.float32))
    assert origin(again) is half and number
