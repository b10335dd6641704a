"""Products of 8-bit integers: every signedness, zero points of every form, sizes that do not fill tiles; each instruction set."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from targets import offered, require

import graphc
from graphc.backends.cpu.codegen.toolchain import Toolchain
from graphc.backends.cpu.product import byte_product, byte_tile_micro
from graphc.backends.cpu.product.gemm_block import ProductTile
from graphc.backends.cpu.runtime.process import runtime_of
from graphc.backends.cpu.target import Target, detect
from graphc.graph import Builder, Value
from graphc.interpret import interpret

SIZES = [((1, 8), (8, 3)), ((5, 7), (7, 3)), ((13, 67), (67, 33)), ((1, 130), (130, 65)), ((40, 260), (260, 48))]
KINDS = list(product(("uint8", "int8"), repeat=2))


def numbers(rng: np.random.Generator, kind: str, *shape: int) -> np.ndarray:
    """The whole range, its ends often: they are what would saturate."""
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    drawn = rng.integers(low, high, shape, np.int64, endpoint=True)
    return np.where(rng.random(shape) < 0.3, rng.choice([low, high], shape), drawn).astype(kind)


def above_the_lowest(w: np.ndarray) -> np.ndarray:
    """As most tools quantise weights, of which those with signs have other kernels where there is no instruction for bytes."""
    return np.maximum(w, np.iinfo(w.dtype).min + 1)


def narrow(w: np.ndarray) -> np.ndarray:
    """Of 7 bits, for kernels that add pairs of products in 16 bits."""
    middle = np.iinfo(w.dtype).min + 128
    return np.clip(w, middle - 64, middle + 64)


def check(target: str, a: np.ndarray, w: np.ndarray, zeros: tuple, constant: bool, threads: int = 1) -> None:
    b = Builder("product")
    feeds = {"a": a} if constant else {"a": a, "w": w}
    operands = [b.input("a", a.dtype, a.shape), b.constant(w) if constant else b.input("w", w.dtype, w.shape)]
    operands += [None if z is None else b.constant(z) for z in zeros]
    model = graphc.compile(
        b.build({"y": b.add("MatMulInteger", *operands)}), target=target, threads=threads, cache=False
    )
    centred = [x.astype(np.int64) - (0 if z is None else z.astype(np.int64)) for x, z in zip((a, w), zeros)]
    np.testing.assert_array_equal(model.run(feeds)["y"], np.matmul(*centred).astype(np.int32))
    assert not any(s.host for s in model.plan().steps)


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "computed"])
@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
def test_all_bytes(target: str, kinds: tuple[str, str], constant: bool):
    require(target)
    rng = np.random.default_rng(0)
    for shape_a, shape_w in SIZES:
        a, w = numbers(rng, kinds[0], *shape_a), numbers(rng, kinds[1], *shape_w)
        row, column = numbers(rng, kinds[0], shape_a[0], 1), numbers(rng, kinds[1], shape_w[1])
        check(target, a, w, (row, column), constant)
        check(target, a, above_the_lowest(w), (row, column), constant)
        check(target, a, narrow(w), (row, column), constant)
    check(target, a, w, (None, None), constant)
    check(target, a, w, (np.array(3, kinds[0]), None), constant, threads=2)


@pytest.mark.parametrize(
    ("a", "w"),
    [((2, 3, 5, 6), (2, 3, 6, 4)), ((2, 1, 5, 6), (3, 6, 4)), ((4, 5, 6), (6, 7)), ((6,), (6, 7)), ((2, 5, 6), (6,))],
)
def test_batches_and_vectors(a: tuple[int, ...], w: tuple[int, ...]):
    rng = np.random.default_rng(1)
    for constant in (True, False):
        check("cpu", numbers(rng, "int8", *a), numbers(rng, "uint8", *w), (None, np.array(9, np.uint8)), constant)


def test_without_the_instruction(monkeypatch: pytest.MonkeyPatch):
    """As on a CPU with AVX-512 that has no VNNI."""
    monkeypatch.setattr(byte_tile_micro, "has_dot", lambda target: False)
    monkeypatch.setattr(byte_product, "free_registers", lambda target: target.registers - byte_tile_micro.RESERVED)
    monkeypatch.setattr(runtime_of(detect()), "_toolchains", {})  # kernels of other tests have the same names
    rng = np.random.default_rng(2)
    for shape_a, shape_w in SIZES:
        a, w = numbers(rng, "uint8", *shape_a), numbers(rng, "int8", *shape_w)
        check("cpu", a, w, (None, None), True)
        check("cpu", a, above_the_lowest(w), (None, None), True)
        check("cpu", a, narrow(w), (None, None), True)


@pytest.mark.skipif(not offered("cpu:avx2"), reason="machine code of x86")
@pytest.mark.parametrize(("most", "dot"), [(128, "bytes"), (127, "bytes"), (64, "narrow bytes")])
def test_there_is_code_for_avx512_without_the_instruction(most: int, dot: str):
    """Made, not run: whatever this CPU has. Not all instructions of AVX2 have a form for its registers."""
    target = Target("avx512", 16, 32, "v", "skylake-avx512", "-prefer-256-bit")
    chosen = byte_tile_micro.dot_of_bytes(target, Value("w", None, np.array([-most, most - 1], np.int8)))
    assert chosen.name == dot
    tile = ProductTile(mr=8, nv=2, epilogue=None, masked=False, lines=0, stage="", strided=False, dot=chosen.name)
    assert Toolchain(target, cache=False).address(tile)


@pytest.mark.sample(16)
@pytest.mark.parametrize("a", [0, 127, 128, 255])
@pytest.mark.parametrize("w", [-128, -127, -65, -64, 0, 64, 65, 127])
def test_the_ends_of_both_ranges(a: int, w: int):
    """Every product of a sum is the largest or the smallest there is."""
    rows, columns = np.full((3, 70), a, np.uint8), np.full((70, 19), w, np.int8)
    for target in offered("cpu", "cpu:avx2", "cpu:portable"):
        check(target, rows, columns, (None, None), True)


def test_a_batch_of_unknown_size():
    b = Builder("open")
    rng = np.random.default_rng(3)
    w = numbers(rng, "int8", 20, 17)
    y = b.add("MatMulInteger", b.input("a", "uint8", ("n", "t", 20)), b.constant(w))
    model = graphc.compile(b.build({"y": y}))
    for shape in ((1, 5, 20), (3, 2, 20), (0, 2, 20)):
        a = numbers(rng, "uint8", *shape)
        np.testing.assert_array_equal(model(a), np.matmul(a.astype(np.int64), w.astype(np.int64)))


# --- what follows the sums --------------------------------------------------------------------------------------------
F32 = np.dtype(np.float32)
TIES = 0.5  # a scale by which half of all sums lie halfway between two bytes
End = Callable[["Ends", Value], Value]


class Ends:
    """A graph of a product, as it is written from the sums on. shape: of the result."""

    def __init__(self, kind: str, shape: tuple[int, ...]) -> None:
        self.b, self.kind, self.shape = Builder("ends"), kind, shape
        self.rng = np.random.default_rng(shape)
        self.feeds: dict[str, np.ndarray] = {}

    def number(self, x: float | np.ndarray) -> Value:
        return self.b.constant(x, F32)

    def given(self, name: str, data: np.ndarray) -> Value:
        self.feeds[name] = data
        return self.b.input(name, data.dtype, data.shape)

    def scaled(self, x: Value, scale: float | np.ndarray = 0.01) -> Value:
        return self.b.add("Mul", self.b.add("Cast", x, to=F32), self.number(scale))

    def quantized(self, x: Value, scale: float = 1.0, zero: int = 128) -> Value:
        at = zero if self.kind == "uint8" else zero - 128
        return self.b.add("QuantizeLinear", x, self.number(scale), self.b.constant(at, self.kind))

    def dequantized(self, x: Value, scale: float, zero: int = 128) -> Value:
        at = zero if x.dtype == np.uint8 else zero - 128
        return self.b.add("DequantizeLinear", x, self.number(scale), self.b.constant(at, x.dtype))


def ties(n: Ends, x: Value) -> Value:
    return n.quantized(n.scaled(x, TIES))


def saturated(n: Ends, x: Value) -> Value:
    return n.quantized(n.b.add("Relu", n.scaled(x, 3.0)), zero=250)


def columns(n: Ends, x: Value) -> Value:
    scale, bias = (n.rng.uniform(0.001, 0.02, n.shape[-1]).astype(F32) for _ in range(2))
    return n.quantized(n.b.add("Add", n.scaled(x, scale), n.number(100 * bias)), 0.9)


def residual(n: Ends, x: Value) -> Value:
    """Bytes of another layer are added, then floats, a number of each row and one for all."""
    near = n.dequantized(n.given("near", numbers(n.rng, n.kind, *n.shape)), 0.3)
    y = n.b.add("Add", n.dequantized(n.quantized(n.scaled(x, 0.003), 0.5), 0.5), near)
    for name, shape in (("floats", n.shape), ("row", (*n.shape[:-1], 1)), ("one", (1,))):
        y = n.b.add("Add", y, n.given(name, n.rng.uniform(-1, 1, shape).astype(F32)))
    return n.quantized(y, 0.7)


def activated(n: Ends, x: Value) -> Value:
    """With a table."""
    y = n.dequantized(n.quantized(n.scaled(x, 0.002), 0.05, 100), 0.05, 100)
    return n.quantized(n.b.add("Gelu", y), 0.04, 10)


def floats(n: Ends, x: Value) -> Value:
    return n.b.add("Tanh", n.b.add("Mul", n.scaled(x, 0.001), n.given("scale", np.float32([0.7]))))


ENDS: dict[str, End] = {f.__name__: f for f in (ties, saturated, columns, residual, activated, floats)}


def check_end(
    end: str, target: str, kind: str, a: np.ndarray, w: np.ndarray, zeros: bool = True, threads: int = 1
) -> None:
    """Results are to the last bit those of the operators one by one, but for functions of floats. No kernel is left behind the product's."""
    n = Ends(kind, np.matmul(np.zeros(a.shape), np.zeros(w.shape)).shape)
    rows, shifts = numbers(n.rng, kind, a.shape[-2], 1), numbers(n.rng, "int8", w.shape[-1])
    points = [n.b.constant(v) for v in ((rows, shifts) if zeros and a.ndim == 2 else ())]
    y = ENDS[end](n, n.b.add("MatMulInteger", n.given("a", a), n.b.constant(w), *points))
    graph = n.b.build({"y": y})
    model = graphc.compile(graph, target=target, threads=threads)
    got, want = model.run(n.feeds)["y"], interpret(graph, n.feeds)["y"]
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 if end == "floats" else 0)  # the Tanh's own
    *before, last = model.plan().steps
    assert not any(s.host for s in model.plan().steps) and "MatMulBytes" in last.ops and len(last.ops) > 3
    assert not any("Round" in s.ops or "Mul" in s.ops[1:] for s in before)


@pytest.mark.sample(12)
@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
def test_ends(target: str, end: str, kind: str):
    require(target)
    rng = np.random.default_rng(4)
    for shape_a, shape_w in SIZES[2:4]:
        check_end(end, target, kind, numbers(rng, kind, *shape_a), numbers(rng, "int8", *shape_w))


@pytest.mark.parametrize("end", ["ties", "residual", "activated"])
@pytest.mark.parametrize(
    ("a", "w"),
    [((2, 3, 5, 6), (2, 3, 6, 21)), ((2, 1, 5, 8), (3, 8, 4)), ((4, 5, 6), (6, 7)), ((37, 4500), (4500, 35))],
)
def test_ends_of_batches_and_of_long_sums(end: str, a: tuple[int, ...], w: tuple[int, ...]):
    """Sums of 4500 products are cut into chunks, of which the last one ends."""
    rng = np.random.default_rng(5)
    check_end(end, "cpu", "uint8", numbers(rng, "uint8", *a), numbers(rng, "int8", *w), threads=2)


def test_ends_of_sizes_that_are_not_known():
    """One plan serves them; operands are what another layer left in bytes, and a number of each row."""
    n = Ends("uint8", (33,))
    b, w = n.b, numbers(n.rng, "int8", 20, 33)
    x, near = (b.input(name, "uint8", ("n", "t", size)) for name, size in (("x", 20), ("near", 33)))
    total = n.scaled(b.add("MatMulInteger", x, b.constant(w)), 0.003)
    y = b.add("Mul", b.add("Add", n.dequantized(near, 0.3), total), b.input("row", F32, ("n", "t", 1)))
    graph = b.build({"y": n.quantized(y)})
    model = graphc.compile(graph)
    for rows in ((1, 1), (2, 13), (3, 7), (0, 4)):
        feeds = {name: numbers(n.rng, "uint8", *rows, size) for name, size in (("x", 20), ("near", 33))}
        feeds["row"] = n.rng.uniform(0, 1, (*rows, 1)).astype(F32)
        np.testing.assert_array_equal(model.run(feeds)["y"], interpret(graph, feeds)["y"])


@pytest.mark.parametrize("axis", [0, -1])
def test_ends_among_others(axis: int):
    """Results are parts of a concatenation, operands parts of a larger value and turned ones."""
    n = Ends("uint8", (13, 33))
    b, x = n.b, n.given("x", numbers(n.rng, "uint8", 13, 40))

    def product() -> Value:
        return n.scaled(b.add("MatMulInteger", x, b.constant(numbers(n.rng, "int8", 40, 33))), 0.003)

    part = b.add("Split", n.given("parts", numbers(n.rng, "uint8", 13, 66)), axis=1, num_outputs=2, outputs=2)[1]
    turned = b.add("Transpose", n.given("turned", numbers(n.rng, "uint8", 33, 13)), perm=[1, 0])
    row = n.given("row", np.float32([[0.7]] * 13))
    ends = [b.add("Mul", b.add("Add", product(), n.dequantized(v, 0.3)), row) for v in (part, turned)]
    graph = b.build({"y": b.add("Concat", *map(n.quantized, ends), axis=axis), "floats": b.add("Neg", product())})
    got, want = graphc.compile(graph, threads=2).run(n.feeds), interpret(graph, n.feeds)
    for name, result in want.items():
        np.testing.assert_array_equal(got[name], result)
