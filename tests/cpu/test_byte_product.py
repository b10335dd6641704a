"""Products of 8-bit integers: every signedness, zero points of every form, sizes that do not fill tiles; each instruction set."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from targets import require

import graphc
from graphc.backends.cpu.product import byte_product, byte_tile_micro
from graphc.backends.cpu.runtime.process import runtime_of
from graphc.backends.cpu.target import detect
from graphc.graph import Builder

SIZES = [((1, 8), (8, 3)), ((5, 7), (7, 3)), ((13, 67), (67, 33)), ((1, 130), (130, 65)), ((40, 260), (260, 48))]
KINDS = list(product(("uint8", "int8"), repeat=2))


def numbers(rng: np.random.Generator, kind: str, *shape: int) -> np.ndarray:
    """The whole range, its ends often: they are what would saturate."""
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    drawn = rng.integers(low, high, shape, np.int64, endpoint=True)
    return np.where(rng.random(shape) < 0.3, rng.choice([low, high], shape), drawn).astype(kind)


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
        check("cpu", numbers(rng, "uint8", *shape_a), numbers(rng, "int8", *shape_w), (None, None), True)


def test_a_batch_of_unknown_size():
    b = Builder("open")
    rng = np.random.default_rng(3)
    w = numbers(rng, "int8", 20, 17)
    y = b.add("MatMulInteger", b.input("a", "uint8", ("n", "t", 20)), b.constant(w))
    model = graphc.compile(b.build({"y": y}))
    for shape in ((1, 5, 20), (3, 2, 20), (0, 2, 20)):
        a = numbers(rng, "uint8", *shape)
        np.testing.assert_array_equal(model(a), np.matmul(a.astype(np.int64), w.astype(np.int64)))
