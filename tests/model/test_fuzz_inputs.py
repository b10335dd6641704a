"""Random convolutions and matrix products, and hard values: on every instruction set, against the reference in float64.

Random models of many nodes: tests/fuzz.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from nets import agree
from passcheck import feeds
from widened import widened

import graphc
from graphc.backends.cpu.target import detect
from graphc.backends.reference import run as reference
from graphc.errors import UnsupportedError
from graphc.graph import Builder, Graph
from graphc.types import TensorType

F32 = np.float32
EXAMPLES = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
FENCE = 64  # elements on either side of an array
ISAS = ("avx512", "avx2", "portable")


@cache
def here(isa: str) -> bool:
    """Has this machine the instruction set?"""
    try:
        return detect(isa).isa == isa
    except UnsupportedError:
        return False


def on_every_isa(test):
    return pytest.mark.parametrize(
        "isa", [pytest.param(isa, marks=pytest.mark.skipif(not here(isa), reason=f"no {isa}")) for isa in ISAS]
    )(test)


def in_double(graph: Graph, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The reference's results computed in float64 and rounded at the end: what the compiled graph is to approach."""
    results = reference(widened(graph), {n: a.astype(np.float64) for n, a in given.items()})
    return {n: a.astype(F32) for n, a in results.items()}


def fenced(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(NaNs with a copy of the array in their midst, that copy)."""
    around = np.full(array.size + 2 * FENCE, np.nan, array.dtype)
    inside = around[FENCE : FENCE + array.size].reshape(array.shape)
    inside[...] = array
    return around, inside


def check(graph: Graph, isa: str, threads: int, tolerance: float, given: dict[str, np.ndarray] | None = None) -> None:
    """The compiled graph approaches the reference, whatever lies around its inputs, and writes only into its results."""
    given = given or feeds(graph)
    want = in_double(graph, given)
    fences = {n: fenced(np.zeros_like(a)) for n, a in want.items()}
    model = graphc.compile(graph, target=f"cpu:{isa}", threads=threads)
    results = model.run(
        {n: fenced(a)[1] for n, a in given.items()}, out={n: inside for n, (_, inside) in fences.items()}
    )
    agree(results, want, tolerance)
    for around, _ in fences.values():
        assert np.isnan(around[:FENCE]).all() and np.isnan(around[-FENCE:]).all(), "written beside the result"


# --- convolutions ---------------------------------------------------------------------------------------------
@st.composite
def convolutions(draw) -> Graph:
    """A convolution of one to three spatial dims with everything that a Conv can have, and what follows it."""
    rank = draw(st.sampled_from([2, 2, 2, 2, 1, 3]))
    group = draw(st.sampled_from([1, 1, 1, 2, 3, 4, 8]))
    depthwise = draw(st.integers(0, 4)) == 0
    if depthwise:
        channels = draw(st.integers(1, 40))
        group, out = channels, channels * draw(st.sampled_from([1, 1, 2]))
    else:
        channels, out = (group * draw(st.integers(1, 40 // group)) for _ in range(2))
    kernel = [draw(st.sampled_from([1, 3, 3, 2, 4, 5, 7])) for _ in range(rank)]
    if draw(st.booleans()):
        kernel = kernel[:1] * rank
    one = st.sampled_from([1, 1, 2, 3])
    strides, dilations = ([draw(one) for _ in range(rank)] for _ in range(2))
    if draw(st.booleans()):
        strides = dilations = [1] * rank
    pads = [draw(st.integers(0, 4)) for _ in range(2 * rank)]
    if draw(st.booleans()):
        pads = [(k - 1) // 2 for k in kernel] * 2
    largest = 20 if rank < 3 else 8
    size = [draw(st.integers(1, largest)) for _ in range(rank)]
    for i in range(rank):
        assume(size[i] + pads[i] + pads[rank + i] >= (kernel[i] - 1) * dilations[i] + 1)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    b = Builder("convolution")
    x = b.input("x", F32, (draw(st.sampled_from([1, 1, 2, 3])), channels, *size))
    w = b.constant(rng.uniform(-1, 1, (out, channels // group, *kernel)), F32)
    bias = b.constant(rng.uniform(-1, 1, out), F32) if draw(st.booleans()) else None
    y = b.add("Conv", x, w, bias, group=group, strides=strides, dilations=dilations, pads=pads)
    match draw(st.sampled_from(["", "Relu", "residual", "again", "pool"])):
        case "Relu":
            y = b.add("Relu", y)
        case "residual":
            y = b.add("Relu", b.add("Add", y, b.add("Sigmoid", y)))
        case "again":
            v = b.constant(rng.uniform(-1, 1, (draw(st.integers(1, 40)), out, *[1] * rank)), F32)
            y = b.add("Conv", b.add("Tanh", y), v)
        case "pool":
            y = b.add(draw(st.sampled_from(["GlobalAveragePool", "GlobalMaxPool"])), y)
    return b.build({"y": y})


@on_every_isa
@settings(EXAMPLES, max_examples=40)
@given(graph=convolutions(), threads=st.sampled_from([1, 2]))
def test_convolutions(isa: str, graph: Graph, threads: int):
    check(graph, isa, threads, 1e-4)


@on_every_isa
@settings(EXAMPLES, max_examples=15)
@given(channels=st.integers(1, 40), out=st.integers(1, 40), sizes=st.lists(st.integers(3, 40), min_size=2, max_size=2))
def test_three_by_three(isa: str, channels: int, out: int, sizes: list[int]):
    """What Winograd may take: odd sizes, channels that fill no block, values far from zero."""
    rng = np.random.default_rng(channels)
    b = Builder("winograd")
    x = b.input("x", F32, (1, channels, *sizes))
    w = b.constant(rng.uniform(-1, 1, (out, channels, 3, 3)), F32)
    graph = b.build({"y": b.add("Conv", x, w, pads=[1] * 4)})
    check(graph, isa, 2, 2e-4, {"x": rng.uniform(0, 2, (1, channels, *sizes)).astype(F32)})


# --- matrix products --------------------------------------------------------------------------------------------
SIZES = st.sampled_from([1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 48, 64, 100, 129])


@st.composite
def products(draw) -> Graph:
    """A MatMul of vectors, matrices or stacks of them, or a Gemm; the right operand constant or computed."""
    m, n, k = draw(SIZES), draw(SIZES), draw(SIZES)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    b = Builder("product")

    def right(shape: tuple[int, ...]):
        if draw(st.booleans()):
            return b.constant(rng.uniform(-1, 1, shape), F32)
        return b.input("right", F32, shape)

    if draw(st.booleans()):
        a_t, b_t = draw(st.booleans()), draw(st.booleans())
        x = b.input("x", F32, (k, m) if a_t else (m, k))
        w = right((n, k) if b_t else (k, n))
        shape = draw(st.sampled_from([None, (n,), (1, n), (m, 1), (m, n), (1,), ()]))
        c = None if shape is None else b.constant(rng.uniform(-1, 1, shape), F32)
        alpha, beta = (draw(st.sampled_from([1.0, 0.5, -2.0, 0.0])) for _ in range(2))
        y = b.add("Gemm", x, w, c, transA=a_t, transB=b_t, alpha=alpha, beta=beta)
    else:
        batch = draw(st.sampled_from([(), (), (2,), (3, 2), (1, 3)]))
        x_shape = draw(st.sampled_from([(*batch, m, k), (*batch, m, k), (m, k), (k,)]))
        w_batch = draw(st.sampled_from([(), batch, tuple(1 for _ in batch)]))
        w_shape = draw(st.sampled_from([(*w_batch, k, n), (*w_batch, k, n), (k,)]))
        x = b.input("x", F32, x_shape)
        y = b.add("MatMul", x, right(w_shape))
    if draw(st.booleans()):
        y = b.add("Tanh", b.add("Mul", y, b.constant(0.1, F32)))
    return b.build({"y": y})


@on_every_isa
@settings(EXAMPLES, max_examples=30)
@given(graph=products(), threads=st.sampled_from([1, 2]))
def test_products(isa: str, graph: Graph, threads: int):
    check(graph, isa, threads, 1e-5)


# --- values -----------------------------------------------------------------------------------------------------------
HARD = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 3.4e38, -3.4e38, 1.0, -1.0, 88.8, -104.0, 1e-8, 0.5]


@on_every_isa
@pytest.mark.parametrize(
    "op", ["Relu", "Sigmoid", "Tanh", "Exp", "Neg", "Abs", "Sqrt", "Floor", "Round", "Erf", "Softplus"]
)
def test_hard_values(isa: str, op: str):
    """Infinities, NaN, signed zeros, denormal and huge numbers, at every position of a vector."""
    b = Builder("values")
    x = b.input("x", F32, (len(HARD), 37))
    graph = b.build({"y": b.add(op, x)})
    given = {"x": np.stack([np.roll(np.resize(np.array(HARD, F32), 37), i) for i in range(len(HARD))])}
    want = reference(graph, given)["y"]
    got = graphc.compile(graph, target=f"cpu:{isa}").run(given)["y"]
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-37)


@on_every_isa
@settings(EXAMPLES, max_examples=15)
@given(
    dtype=st.sampled_from(["float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]),
    op=st.sampled_from(["Add", "Sub", "Mul", "Max", "Min", "Less", "Equal"]),
    shapes=st.sampled_from([((5, 7), (5, 7)), ((33,), (1,)), ((3, 1, 5), (4, 1)), ((), (2, 3)), ((2, 0), (2, 1))]),
)
def test_integers_wrap_and_compare_as_the_reference_does(isa: str, dtype: str, op: str, shapes: tuple):
    info = np.iinfo(dtype) if dtype != "float64" else None
    rng = np.random.default_rng(0)
    b = Builder("integers")
    values = [b.input(name, dtype, s) for name, s in zip("ab", shapes)]
    graph = b.build({"y": b.add(op, *values)})
    given = {}
    for name, s in zip("ab", shapes):
        numbers = rng.uniform(-9, 9, s) if info is None else rng.integers(info.min, info.max, s, dtype, endpoint=True)
        given[name] = np.asarray(numbers, dtype)
    agree(graphc.compile(graph, target=f"cpu:{isa}").run(given), reference(graph, given), 1e-12)


def test_the_wide_reference_is_wide():
    """`in_double` must not compute in float32: 1e8 + 1 - 1e8."""
    b = Builder("wide")
    x = b.input("x", F32, (1,))
    big = b.constant(1e8, F32)
    graph = b.build({"y": b.add("Sub", b.add("Add", x, big), big)})
    given = {"x": np.ones(1, F32)}
    assert reference(graph, given)["y"] == 0 and in_double(graph, given)["y"] == 1
    assert TensorType(F32, (1,)) == graph.outputs[0].type
