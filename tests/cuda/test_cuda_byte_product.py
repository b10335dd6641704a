"""Products of bytes on CUDA kernels, in checked runs: the sums are exact."""

from __future__ import annotations

import numpy as np
import pytest
from suite import check, host_reasons, use, uses_of

import graphc
from graphc.backends.cuda.codegen.cubin import cubin_of
from graphc.backends.cuda.integer.byte_product_block import ByteProduct
from graphc.backends.cuda.product import tile
from graphc.graph import Builder

TARGET = "cuda:emulate"


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races, and accesses out of bounds, are errors."""
    monkeypatch.setenv("GRAPHC_CHECK", "memory")


def bytes_of(dtype: str, *shape: int) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.random.default_rng(0).integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)


def test_every_case(checked: None):
    for one in uses_of("MatMulBytes"):
        assert not host_reasons(check(one, TARGET), one), one


@pytest.mark.parametrize("name", ["MatMulInteger", "QLinearMatMul"])
def test_products_with_zero_points(name: str):
    for one in uses_of(name):
        model = check(one, TARGET)
        assert not host_reasons(model, one), one
        assert any("MatMulBytes" in s.ops for s in model.plan().steps) or 0 in one.inputs[0].shape


@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (16, 64, 16), (17, 65, 17), (31, 33, 15), (33, 63, 33), (5, 130, 40)])
def test_sizes_around_the_edges_of_tiles(m: int, n: int, k: int, checked: None):
    check(use("MatMulBytes", bytes_of("uint8", m, 4 * k), bytes_of("int8", k, n, 4)), TARGET)


@pytest.mark.parametrize("size", [64, 65, 130])
def test_tiles_of_many_numbers(size: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tile, "MULTIPROCESSORS", 1)
    check(use("MatMulBytes", bytes_of("uint8", size, 4 * 19), bytes_of("int8", 19, size, 4)), TARGET)


@pytest.mark.parametrize(
    "a, b", [((2, 1, 20), (1, 3, 20)), ((2, 3), (2, 3)), ((3,), ()), ((), (2, 3)), ((1, 2, 1, 2), (2, 1, 2, 1))]
)
def test_batches(a: tuple[int, ...], b: tuple[int, ...], checked: None):
    check(use("MatMulBytes", bytes_of("uint8", *a, 9, 12), bytes_of("int8", *b, 3, 5, 4)), TARGET)


def test_sums_wrap():
    a, b = np.full((1, 4 << 15), 255, np.uint8), np.full((1 << 15, 1, 4), -128, np.int8)
    check(use("MatMulBytes", a, b), TARGET)


def test_bytes_that_begin_between_words(checked: None):
    b = Builder("net")
    x, w = b.input("x", np.uint8, (3, 9, 8)), b.input("w", np.int8, (2, 5, 4))
    first = b.add(
        "Slice", b.add("Reshape", x, b.constant([216], np.int64)), *(b.constant([n], np.int64) for n in (3, 75))
    )
    graph = b.build({"y": b.add("MatMulBytes", b.add("Reshape", first, b.constant([9, 8], np.int64)), w)})
    feeds = {"x": bytes_of("uint8", 3, 9, 8), "w": bytes_of("int8", 2, 5, 4)}
    want = graphc.compile(graph, target="reference").run(feeds)["y"]
    np.testing.assert_array_equal(graphc.compile(graph, target=TARGET).run(feeds)["y"], want)


def test_registers_are_enough():
    for which in (tile.MIDDLE, tile.LARGE):
        made = cubin_of(ByteProduct(which), (9, 0))
        assert not made.spilled and not made.stack, (which, made.spilled, made.stack)
