"""Matrix products in bfloat16 on request, against float64 of operands that are rounded to bfloat16.

What is left is the rounding of float32 sums of K terms: at most K ulps of the sum of their magnitudes, about the root of K.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from targets import require

import graphc
from graphc.backends.cpu.product import gemm
from graphc.backends.cpu.runtime import run
from graphc.backends.cpu.target import detect
from graphc.graph import Builder

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
EPSILON = np.finfo(np.float32).eps
SHAPES = [
    (1, 1, 1),
    (1, 64, 256),
    (5, 7, 3),
    (33, 129, 101),
    (13, 65, 51),
    (128, 256, 96),
    (200, 31, 17),
    (97, 2113, 35),
]
TARGETS = ["cpu", "cpu:avx2", "cpu:portable"]
pairs = pytest.mark.skipif(not detect().dots_bfloat16, reason="this CPU has no AVX-512 with BF16")


def rounded(x: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # of a NaN
        return x.astype(BFLOAT16).astype(np.float64)


def near(got: np.ndarray, x: np.ndarray, w: np.ndarray, scale: float = 1.0) -> None:
    """got = x w, of numbers in float64."""
    with np.errstate(invalid="ignore"):
        want, terms = scale * (x @ w), np.abs(scale) * (np.abs(x) @ np.abs(w))
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite].astype(np.float32))
    assert np.all(np.abs(got[finite] - want[finite]) <= 2 * EPSILON * x.shape[-1] ** 0.5 * (terms[finite] + 1))


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def compiled(b: Builder, y: object, **options: object) -> graphc.Model:
    return graphc.compile(b.build({"y": y}), **options)


def reasons(model: graphc.Model) -> list[str]:
    return [s.reason for s in model.plan().steps if s.ops[0] in ("MatMul", "Gemm")]


@pairs
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "computed"])
@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_both_operands(m: int, k: int, n: int, threads: int, constant: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, "SHARED_STEP", 0)
    monkeypatch.setattr(run, "SHARED_PROGRAM", 0)
    x, w = numbers(m, k), numbers(k, n, seed=1)
    b = Builder("net")
    left = b.input("x", x.dtype, x.shape)
    right = b.constant(w) if constant else b.input("w", w.dtype, w.shape)
    model = compiled(b, b.add("MatMul", left, right), precision="bf16", threads=threads)
    near(model.run({"x": x} if constant else {"x": x, "w": w})["y"], rounded(x), rounded(w))
    assert ["both operands in bfloat16" in r for r in reasons(model)] == [True]


@pairs
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "computed"])
@pytest.mark.parametrize(
    ("a", "w"),
    [
        ((2, 3, 5, 7), (2, 3, 7, 4)),
        ((2, 1, 5, 6), (3, 6, 19)),
        ((4, 5, 33), (33, 7)),
        ((37,), (37, 7)),
        ((2, 5, 6), (6,)),
    ],
)
def test_batches_and_vectors(a: tuple[int, ...], w: tuple[int, ...], constant: bool):
    x, weights = numbers(*a), numbers(*w, seed=1)
    b = Builder("net")
    right = b.constant(weights) if constant else b.input("w", weights.dtype, w)
    model = compiled(b, b.add("MatMul", b.input("x", x.dtype, a), right), precision="bf16")
    near(model.run({"x": x} if constant else {"x": x, "w": weights})["y"], rounded(x), rounded(weights))
    assert not any(s.host for s in model.plan().steps)


@pairs
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "computed"])
@pytest.mark.parametrize(("transposed_a", "transposed_b"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize(("m", "k", "n"), [(5, 7, 3), (33, 129, 101), (64, 70, 130)])
def test_gemm_with_alpha_and_transpositions(
    m: int, k: int, n: int, transposed_a: bool, transposed_b: bool, constant: bool
):
    x, w, c = numbers(m, k), numbers(k, n, seed=1), numbers(n, seed=2)
    feeds = {
        "x": np.ascontiguousarray(x.T) if transposed_a else x,
        "w": np.ascontiguousarray(w.T) if transposed_b else w,
    }
    b = Builder("net")
    left, right = (
        b.constant(v) if constant and name == "w" else b.input(name, v.dtype, v.shape) for name, v in feeds.items()
    )
    attrs = {"transA": transposed_a, "transB": transposed_b, "alpha": 0.5, "beta": 2.0}
    model = compiled(b, b.add("Gemm", left, right, b.constant(c), **attrs), precision="bf16")
    if constant:
        del feeds["w"]
    got = model.run(feeds)["y"].astype(np.float64) - 2.0 * c
    near(got, rounded(x), rounded(w), scale=0.5)


@pairs
@pytest.mark.parametrize("permuted", ["x", "w"])
def test_operands_that_lie_transposed(permuted: str):
    """Views: what a product reads of a transposed tensor is not contiguous in either direction."""
    x, w = numbers(3, 9, 2, 37), numbers(3, 2, 37, 21, seed=1)
    b = Builder("net")
    if permuted == "x":
        left = b.add("Transpose", b.input("x", x.dtype, x.shape), perm=(0, 2, 1, 3))
        right, seen = b.input("w", w.dtype, w.shape), w
    else:
        left, seen = b.add("Transpose", b.input("x", x.dtype, x.shape), perm=(0, 2, 1, 3)), w
        w = np.ascontiguousarray(w.transpose(3, 0, 2, 1))
        right = b.add("Transpose", b.input("w", w.dtype, w.shape), perm=(1, 3, 2, 0))
    model = compiled(b, b.add("MatMul", left, right), precision="bf16")
    near(model.run({"x": x, "w": w})["y"], rounded(x.transpose(0, 2, 1, 3)), rounded(seen))


@pairs
@pytest.mark.parametrize("rows", [1, 6, 40])
def test_bias_residual_and_activation_are_float32(rows: int):
    k, n = 67, 45
    x, w, c, z = numbers(rows, k), numbers(k, n, seed=1), numbers(n, seed=2), numbers(rows, n, seed=3)
    b = Builder("net")
    y = b.add("Add", b.add("MatMul", b.input("x", x.dtype, x.shape), b.constant(w)), b.constant(c))
    y = b.add("Tanh", b.add("Add", y, b.input("z", z.dtype, z.shape)))
    model = compiled(b, y, precision="bf16")
    want = np.tanh(rounded(x) @ rounded(w) + c + z)
    np.testing.assert_allclose(model.run({"x": x, "z": z})["y"], want, rtol=0, atol=2e-5)  # sums of up to 30
    assert [s.ops[-1] for s in model.plan().steps if s.ops[0] in ("MatMul", "Gemm")] == ["Tanh"]


@pairs
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "computed"])
@pytest.mark.parametrize("k", [5, 32, 70])
def test_special_numbers(k: int, constant: bool):
    """Infinities stay, NaN too, also one whose upper bits are those of an infinity; the largest numbers round to infinity."""
    x, w = np.zeros((7, k), np.float32), numbers(k, 20, seed=1)
    x[:6, k - 1] = [np.inf, -np.inf, np.nan, np.finfo(np.float32).max, -3.0, 1e-30]
    x[6, k - 1] = np.array([0x7F800001], np.uint32).view(np.float32)[0]
    w[:, 3], w[0, 4], w[0, 5] = 1.0, np.inf, np.array([0x7F800001], np.uint32).view(np.float32)[0]
    b = Builder("net")
    right = b.constant(w) if constant else b.input("w", w.dtype, w.shape)
    model = compiled(b, b.add("MatMul", b.input("x", x.dtype, x.shape), right), precision="bf16")
    got = model.run({"x": x} if constant else {"x": x, "w": w})["y"]
    near(got, rounded(x), rounded(w))
    assert np.isposinf(got[0, 3]) and np.isneginf(got[1, 3]) and np.isnan(got[[2, 6], 3]).all()


@pairs
def test_rounding_is_to_nearest_even():
    """Products with 1 show what each operand was rounded to."""
    ties = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0xBF818000], np.uint32).view(np.float32)
    b = Builder("net")
    x = b.input("x", np.float32, (5, 1))
    model = compiled(b, b.add("MatMul", x, b.input("w", np.float32, (1, 5))), precision="bf16")
    ones = np.ones((5, 1), np.float32)
    np.testing.assert_array_equal(model.run({"x": ties[:, None], "w": ones.T})["y"][:, 0], rounded(ties))
    np.testing.assert_array_equal(model.run({"x": ones, "w": ties[None]})["y"][0], rounded(ties))


@pairs
def test_products_of_one_input_share_its_rounded_rows():
    x = numbers(40, 64)
    b = Builder("net")
    given = b.input("x", x.dtype, x.shape)
    q, k = (b.add("MatMul", given, b.constant(numbers(64, 48, seed=s))) for s in (1, 2))
    model = graphc.compile(b.build({"q": q, "k": k}), precision="bf16")
    assert [s.kernel for s in model.plan().steps].count("pack_pair_rows") == 1
    for s, got in zip((1, 2), model.run({"x": x}).values()):
        near(got, rounded(x), rounded(numbers(64, 48, seed=s)))


@pairs
def test_a_batch_of_unknown_size():
    w = numbers(35, 17, seed=1)
    b = Builder("open")
    model = compiled(b, b.add("MatMul", b.input("x", np.float32, ("n", "t", 35)), b.constant(w)), precision="bf16")
    for shape in ((1, 5, 35), (3, 2, 35), (0, 2, 35), (9, 31, 35)):
        x = numbers(*shape)
        near(model(x), rounded(x), rounded(w))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("k", "n"), [(64, 256), (37, 300), (5, 3), (701, 129)])
def test_one_row_keeps_weights_in_bfloat16(k: int, n: int, transposed: bool, target: str):
    require(target)
    x, w = numbers(1, k), numbers(n, k) if transposed else numbers(k, n)
    b = Builder("row")
    y = b.add("Gemm", b.input("x", x.dtype, x.shape), b.constant(w), transB=transposed)
    model = compiled(b, y, target=target, precision="bf16-weights")
    near(model.run({"x": x})["y"], x.astype(float), rounded(w.T if transposed else w))
    assert ["weights in bfloat16" in r for r in reasons(model)] == [True]
    assert model.plan().memory.weights < 2 * (k + 64) * (n + 128) + 4 * (n + 256)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("rows", [2, 3, 5, 8])
def test_few_rows_keep_weights_in_bfloat16(rows: int, target: str, monkeypatch: pytest.MonkeyPatch):
    """A depth that would be cut into chunks of more rows."""
    require(target)
    monkeypatch.setattr(gemm, "FAR", 0)
    x, w = numbers(rows, 2101), numbers(2101, 77, seed=1)
    b = Builder("rows")
    y = b.add("MatMul", b.input("x", x.dtype, x.shape), b.constant(w))
    model = compiled(b, y, target=target, precision="bf16-weights")
    kept = "weights in bfloat16" in reasons(model)[0]
    near(model.run({"x": x})["y"], x.astype(float), rounded(w) if kept else w.astype(float))
    assert kept or rows > 3


def test_many_rows_stay_in_float32():
    x, w = numbers(64, 40), numbers(40, 50, seed=1)
    b = Builder("rows")
    model = compiled(b, b.add("MatMul", b.input("x", x.dtype, x.shape), b.constant(w)), precision="bf16-weights")
    near(model.run({"x": x})["y"], x.astype(float), w.astype(float))
    assert not [r for r in reasons(model) if "bfloat16" in r]
