"""Matrix products on CUDA kernels, in checked runs: sizes around the edges of tiles, strides, batches, epilogues."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from suite import check, host_reasons, randoms, use, uses_of

import graphc
from graphc.backends.cuda.lower.registry import host_reason
from graphc.backends.cuda.product import tile
from graphc.graph import Builder, Graph, Value

TARGET = "cuda:emulate"
FLOATS, INTS = ["float32", "float64", "float16", "bfloat16"], ["int32", "int64", "uint32", "uint64"]
EDGES = [1, 2, 3, 4, 5, 7, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100, 127, 128, 129]
FEW = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races, and accesses out of bounds, are errors."""
    monkeypatch.setenv("GRAPHC_CHECK", "memory")


@pytest.mark.parametrize("name", ["MatMul", "Gemm"])
def test_every_case(name: str, checked: None):
    for one in uses_of(name):
        assert not host_reasons(check(one, TARGET), one), one


@pytest.mark.sample(5)
@pytest.mark.parametrize("dtype", FLOATS[1:] + INTS)
@pytest.mark.parametrize("name", ["MatMul", "Gemm"])
def test_every_dtype(name: str, dtype: str):
    for one in uses_of(name, [dtype])[:: 1 if name == "MatMul" else 2]:
        assert not host_reasons(check(one, TARGET), one), one


def test_products_of_bytes():
    for name in ("MatMulInteger", "QLinearMatMul"):
        for one in uses_of(name):
            assert not host_reasons(check(one, TARGET), one), one


# --- tiles --------------------------------------------------------------------------------------------------------------
def gemm(m: int, n: int, k: int, left: bool = False, right: bool = False, dtype: str = "float32") -> graphc.Model:
    """left, right: is that operand transposed? Gives the model, whose results were checked."""
    a, b = randoms(*((k, m) if left else (m, k))), randoms(*((n, k) if right else (k, n)), seed=1)
    return check(use("Gemm", a.astype(dtype), b.astype(dtype), transA=left, transB=right), TARGET)


def only_step(model: graphc.Model) -> str:
    """The algorithm of the one step of a plan."""
    (step,) = model.plan().steps
    return step.algorithm


@FEW
@given(st.sampled_from(EDGES), st.sampled_from(EDGES), st.sampled_from(EDGES), st.booleans(), st.booleans())
def test_sizes_around_the_edges_of_tiles(checked: None, m: int, n: int, k: int, left: bool, right: bool):
    gemm(m, n, k, left, right)


@FEW
@given(st.sampled_from(EDGES), st.sampled_from(EDGES), st.sampled_from(EDGES), st.booleans(), st.booleans())
def test_sizes_around_the_edges_of_large_tiles(
    checked: None, monkeypatch: pytest.MonkeyPatch, m: int, n: int, k: int, left: bool, right: bool
):
    monkeypatch.setattr(tile, "MULTIPROCESSORS", 1)
    gemm(m, n, k, left, right)


@pytest.mark.sample(5)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("size", [40, 64, 65, 100, 128, 130])
def test_tiles_of_all_sizes(size: int, dtype: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tile, "MULTIPROCESSORS", 1)
    large = tile.LARGE if size > 64 and dtype != "float64" else tile.MIDDLE
    assert only_step(gemm(size, size, 19, left=dtype == "float32", dtype=dtype)) == f"tiles of {large}"


def test_tiles_where_there_is_enough_to_do():
    assert only_step(gemm(12 * 64, 11 * 64, 3, left=True)) == f"tiles of {tile.MIDDLE}"
    assert only_step(gemm(12 * 128 - 5, 11 * 128 - 3, 5, left=True)) == f"tiles of {tile.LARGE}"
    assert only_step(gemm(12 * 64, 11 * 64, 40)).startswith("tensor")
    assert only_step(gemm(6, 200, 25)) == f"tiles of {tile.FLAT}"


@pytest.mark.sample(4)
@pytest.mark.parametrize("m, n", [(1, 1), (1, 33), (4, 130), (33, 1), (130, 3), (3, 4)])
@pytest.mark.parametrize("right", [False, True])
def test_thin_products(m: int, n: int, right: bool, checked: None):
    for k in (1, 3, 31, 33, 257):
        assert only_step(gemm(m, n, k, right=right)) == "rows"


def test_sums_of_many_terms_keep_their_accuracy():
    check(use("MatMul", randoms(20, 5000), randoms(5000, 40, seed=1)), TARGET)
    check(use("MatMul", randoms(1, 5000), randoms(5000, 40, seed=1)), TARGET)


def test_sizes_that_32_bits_do_not_count_are_refused():
    def reason(*shapes: tuple[int, ...]) -> str | None:
        b = Builder("net")
        y = b.add("MatMul", *(b.input(f"x{i}", np.float32, s) for i, s in enumerate(shapes)))
        return host_reason(b.build({"y": y}).nodes[0])

    assert reason((3, 1 << 27), (1 << 27, 2)) is None
    assert "elements or more" in reason((3, 1 << 28), (1 << 28, 2))
    assert "rows or more" in reason((1 << 16, 1 << 15, 1), (1, 2))


def test_nan_and_infinities_stay_in_their_rows_and_columns():
    a, b = randoms(40, 20), randoms(20, 50, seed=1)
    a[3, 5], b[7, 2] = np.nan, np.inf
    (y,) = graphc.compile(use("MatMul", a, b).graph(), target=TARGET).run({"x0": a, "x1": b}).values()
    odd = ~np.isfinite(y)
    assert np.isnan(y[3]).all() and odd[:, 2].all()
    assert np.isfinite(np.delete(np.delete(y, 3, 0), 2, 1)).all()


# --- batches ------------------------------------------------------------------------------------------------------------
SHAPES = [
    ((5, 1, 20, 7), (1, 6, 7, 30)),
    ((2, 3, 20, 7), (7, 30)),
    ((20, 7), (2, 3, 7, 30)),
    ((2, 1, 3, 1, 2, 9, 7), (1, 3, 1, 2, 1, 7, 9)),
    ((1, 2, 1, 2, 1, 2, 1, 5, 7), (2, 1, 2, 1, 2, 1, 2, 7, 6)),  # more batch dims than a block has
    ((3, 1, 7), (7, 40)),  # rows of a product
    ((9, 1, 7), (9, 7, 5)),
    ((7,), (2, 7, 40)),
    ((2, 40, 7), (7,)),
]


@pytest.mark.parametrize("a, b", SHAPES)
def test_batches(a: tuple[int, ...], b: tuple[int, ...], checked: None):
    check(use("MatMul", randoms(*a), randoms(*b, seed=1)), TARGET)


# --- epilogues ----------------------------------------------------------------------------------------------------------
def run(graph: Graph, tolerance: float = 1e-5) -> graphc.Model:
    """Results are those of the reference. Gives the compiled model."""
    rng = np.random.default_rng(0)
    feeds = {v.name: rng.uniform(-2, 3, v.shape).astype(v.dtype) for v in graph.inputs}
    model = graphc.compile(graph, target=TARGET)
    want = graphc.compile(graph, target="reference").run(feeds)
    for name, y in model.run(feeds).items():
        assert y.dtype == want[name].dtype
        w = want[name].astype(np.float64)
        np.testing.assert_allclose(y.astype(np.float64), w, rtol=0, atol=tolerance * np.abs(w).max(initial=1e-30))
    return model


def number(b: Builder, *shape: int, dtype: str = "float32", name: str = "z") -> Value:
    return b.input(name, np.dtype(dtype), shape)


EPILOGUES: Mapping[str, Callable[[Builder, Value, int, int], Value]] = {
    "a row": lambda b, y, m, n: b.add("Relu", b.add("Add", y, number(b, n))),
    "a constant row": lambda b, y, m, n: b.add("Add", y, b.constant(randoms(n))),
    "a column": lambda b, y, m, n: b.add("Mul", y, number(b, m, 1)),
    "a number": lambda b, y, m, n: b.add("Add", b.add("Mul", y, b.constant(2, np.float32)), number(b, 1)),
    "a tensor": lambda b, y, m, n: b.add("Add", y, b.add("Abs", number(b, m, n))),
    "of several": lambda b, y, m, n: b.add("Add", b.add("Tanh", b.add("Add", y, number(b, n))), number(b, m, n, name="v")),
    "read twice": lambda b, y, m, n: b.add("Mul", y, b.add("Sigmoid", y)),
    "a mask": lambda b, y, m, n: b.add("Where", number(b, m, n, dtype="bool"), y, b.constant(0, np.float32)),
    "of functions": lambda b, y, m, n: b.add("Gelu", b.add("Softplus", y)),
}  # fmt: skip


@pytest.mark.sample(9)
@pytest.mark.parametrize("m, n", [(40, 35), (3, 50), (50, 2)])
@pytest.mark.parametrize("ending", EPILOGUES)
def test_epilogues(ending: str, m: int, n: int, checked: None):
    b = Builder("net")
    y = b.add("MatMul", b.input("x", np.float32, (m, 20)), b.constant(randoms(20, n)))
    model = run(b.build({"y": EPILOGUES[ending](b, y, m, n)}))
    (ops,) = (s.ops for s in model.plan().steps if {"MatMul", "Gemm"} & set(s.ops))
    assert len(ops) > 1 or ending == "a constant row"  # which has become part of the product


@pytest.mark.sample(2)
@pytest.mark.parametrize("dtype, tolerance", [("float16", 2e-3), ("bfloat16", 2e-2), ("float64", 1e-12), ("int32", 0)])
def test_epilogues_of_dtypes(dtype: str, tolerance: float):
    b = Builder("net")
    x, w = b.input("x", np.dtype(dtype), (33, 20)), b.input("w", np.dtype(dtype), (20, 40))
    y = b.add("Add", b.add("MatMul", x, w), number(b, 40, dtype=dtype))
    model = run(b.build({"y": b.add("Max", y, b.constant(0, np.dtype(dtype)))}), tolerance)
    assert len(model.plan().steps) == 1


@pytest.mark.parametrize("a, b, operand", [((2, 3, 20, 7), (7, 30), (3, 1, 30)), ((4, 1, 9, 7), (5, 7, 8), (4, 1, 1, 8)),
                                           ((7,), (3, 7, 40), (3, 1)), ((2, 40, 7), (7,), (40,))])  # fmt: skip
def test_epilogues_of_batches(a: tuple[int, ...], b: tuple[int, ...], operand: tuple[int, ...], checked: None):
    net = Builder("net")
    y = net.add("MatMul", net.input("x", np.float32, a), net.input("w", np.float32, b))
    model = run(net.build({"y": net.add("Relu", net.add("Add", y, number(net, *operand)))}))
    assert len(model.plan().steps) == 1


@pytest.mark.sample(3)
@pytest.mark.parametrize("m", [33, 2])
@pytest.mark.parametrize("c", [(1,), (40,), (33, 1), (33, 40)])
def test_gemm_with_an_operand_at_run_time_and_an_epilogue(m: int, c: tuple[int, ...]):
    b = Builder("net")
    shape = tuple(m if d == 33 else d for d in c)
    x, w = b.input("x", np.float32, (20, m)), b.input("w", np.float32, (40, 20))
    y = b.add("Gemm", x, w, number(b, *shape), transA=True, transB=True, alpha=0.5, beta=-2.0)
    model = run(b.build({"y": b.add("Relu", y)}))
    assert len([s for s in model.plan().steps if "Gemm" in s.ops]) == 1


def test_a_constant_that_is_a_view(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CHECK", "memory")
    w = randoms(24, 40).T
    check(use("MatMul", randoms(5, 40), w, constants=[1]), "cuda:emulate")
