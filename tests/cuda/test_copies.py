"""Copies, and numbers that follow from sizes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided
from one_verb import INFO, run
from sass import instructions, of_kind
from suite import OPS, axes, check, host_reasons, randoms, use, uses_of

import graphc
from graphc.backends.cuda.codegen.cubin import cubin_of
from graphc.backends.cuda.verbs.copy import SECTOR
from graphc.backends.cuda.verbs.copy_block import CopyTiles, side_of
from graphc.graph import Builder
from graphc.lower.constants import constant
from graphc.lower.verbs import Table
from graphc.ops._positions import EDGES, OUTSIDE, Positions, Reads

TARGET = "cuda:emulate"
MOVING = [
    "CenterCropPad", "Concat", "ConstantOfShape", "DepthToSpace", "Expand", "EyeLike", "Flatten", "Pad", "Range", "Reshape",
    "Resize", "Slice", "SpaceToDepth", "Split", "Tile", "Transpose",
]  # fmt: skip
ITEMS = {1: "uint8", 2: "int16", 4: "float32", 8: "float64"}


def moves_only(u) -> bool:
    return u.op.name != "Resize" or u.attrs.get("mode", "nearest") == "nearest"


@pytest.mark.parametrize("checked", ["", "memory"])
@pytest.mark.parametrize("name", MOVING)
def test_every_case(name: str, checked: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CHECK", checked)
    for one in filter(moves_only, uses_of(name)):
        assert not host_reasons(check(one, TARGET), one), one


@pytest.mark.parametrize("name", MOVING)
def test_every_dtype(name: str):
    for dtype in OPS[name].samples.dtypes[1:]:
        one = next(filter(moves_only, uses_of(name, [dtype])))
        assert not host_reasons(check(one, TARGET), one), one


def test_neighbours_move_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CHECK", "memory")
    for width in (2, 3, 4, 6, 8):
        x = randoms(3, 5, width, dtype="float16")
        check(use("Slice", x, axes(1), axes(4), axes(1), constants=[1, 2, 3]), TARGET)
        check(use("Slice", x, axes(1), axes(width), axes(2), constants=[1, 2, 3]), TARGET)
        check(use("Transpose", x, perm=(1, 0, 2)), TARGET)
        check(use("Concat", x, x[:, :3], axis=1), TARGET)


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("rank", [0, 1, 3, 8, 10])
def test_strides_of_any_kind(rank: int, item: int):
    """Steps of more loops than a kernel has, backwards, again and again, with gaps, offsets that the item alone divides."""
    rng, dtype = np.random.default_rng(rank), np.dtype(ITEMS[item])
    dims = [3 if rank < 8 else 2] * rank
    xs, ys = ([0] * rank for _ in range(2))
    x_size = y_size = 1
    for i in rng.permutation(rank):
        xs[i], x_size = (x_size * item, x_size * dims[i] + 1) if i % 3 else (0, x_size)
    for i in rng.permutation(rank):
        ys[i], y_size = y_size * item, y_size * dims[i]
    x = rng.integers(0, 100, x_size + 3).astype(dtype)
    y = np.zeros(y_size + 3, dtype)
    if rank > 1:  # backwards along one loop
        x_first, xs[1] = 1 + (dims[1] - 1) * xs[1] // item, -xs[1]
    else:
        x_first = 1
    (got,) = run(lambda lo, a, b: lo.copy(a + x_first * item, xs, b + 2 * item, ys, dims, item, INFO), [x], [y])
    want = np.full(y.nbytes, 0xFF, np.uint8).view(dtype)
    as_strided(want[2:], dims, ys)[...] = as_strided(x[x_first:], dims, xs)
    np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))


def test_rows_that_begin_anywhere():
    """No more bytes at a time than where they begin allows."""
    x = np.arange(20)

    def emit(lo, a, b):
        for first in range(8):
            lo.copy(a + first, [1], b + 17 * first, [1], [16], 1, INFO)

    (y,) = run(emit, [x], [np.zeros(17, np.int64)])
    for first in range(8):
        np.testing.assert_array_equal(y.view(np.uint8)[17 * first :][:16], x.view(np.uint8)[first : first + 16])


@pytest.mark.parametrize("item", ITEMS)
def test_tables_of_offsets(item: int):
    rng, dtype = np.random.default_rng(item), np.dtype(ITEMS[item])
    x = rng.integers(0, 100, (4, 5, 6)).astype(dtype)
    tables = [rng.integers(-1, n, m) for n, m in zip(x.shape, (3, 7, 9))]

    def emit(lo, a, fill, y):
        offsets = [np.where(t < 0, OUTSIDE, t * s) for t, s in zip(tables, x.strides)]
        lo.copy_by_table(a, y, fill, item, [Table(constant(lo, o).ref, len(o), (0, 0)) for o in offsets], INFO)

    (got,) = run(emit, [x, np.array([77], dtype)], [np.zeros([len(t) for t in tables], dtype)])
    i, j, k = np.ix_(*tables)
    np.testing.assert_array_equal(got, np.where((i < 0) | (j < 0) | (k < 0), dtype.type(77), x[i, j, k]))


def test_numbers():
    values = [3, -1, 2**62, 0, *range(300)]

    def emit(lo, a, b):
        lo.write_numbers(a, values, INFO)
        lo.count_up(b, 5, -3, 200, INFO)

    written, counted = run(emit, [], [np.zeros(len(values), np.int64), np.zeros(200, np.int64)])
    np.testing.assert_array_equal(written, values)
    np.testing.assert_array_equal(counted, 5 - 3 * np.arange(200))


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("size", [1, 2, 7])
def test_positions(edge: str, size: int):
    reads = [Reads(Positions(40, step, -35, divisor), size, edge, 2) for step, divisor in ((1, 1), (3, 4), (5, 2))]

    def emit(lo, *refs):
        for one, y in zip(reads, refs):
            lo.write_positions(y, one, 12, INFO)

    got = run(emit, [], [np.zeros(40, np.int64)] * 3)
    for one, y in zip(reads, got):
        indices = one.indices()
        np.testing.assert_array_equal(y, np.where(indices == OUTSIDE, OUTSIDE, 12 * indices))


def test_operators_of_many_axes():
    check(use("Transpose", randoms(*[2] * 10), perm=(9, 7, 5, 3, 1, 8, 6, 4, 2, 0)), TARGET)


def turn(shape, perm, item: int, x_line: int = 0, y_line: int = 0, first: int = 0) -> str:
    """The kernel that copied x, an array of that shape with its dims in another order, as the compared result says. x_line, y_line:
    elements more than fit between neighbours of the last but one dim; first: elements before each."""
    dtype, rng = np.dtype(ITEMS[item]), np.random.default_rng([*shape, item])
    wide = [*shape[:-1], shape[-1] + x_line]
    turned = [shape[i] for i in perm]
    tall = [*turned[:-1], turned[-1] + y_line]
    x = rng.integers(0, 100, first + int(np.prod(wide))).astype(dtype)
    y = np.zeros(first + int(np.prod(tall)), dtype)
    x_strides = [int(np.prod(wide[i + 1 :])) * item for i in range(len(wide))]
    y_strides = [int(np.prod(tall[i + 1 :])) * item for i in range(len(tall))]
    xs, kernels = [x_strides[i] for i in perm], []

    def emit(lo, a, b):
        lo.copy(a + first * item, xs, b + first * item, y_strides, turned, item, INFO)
        kernels.extend(s.kernel for s in lo.program.steps)

    (got,) = run(emit, [x], [y])
    want = np.full(y.nbytes, 0xFF, np.uint8).view(dtype)
    as_strided(want[first:], turned, y_strides)[...] = as_strided(x[first:], turned, xs)
    np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))
    (kernel,) = kernels
    return str(kernel)


@pytest.mark.parametrize("item", ITEMS)
def test_transpositions_in_tiles(item: int):
    """Sizes around the edges of tiles; lines that begin anywhere, on either side."""
    side, least = side_of(item), SECTOR // item
    word = max(4, item)
    for t, s in ((side, side), (side + 1, 2 * side - 1), (least, side + 4), (2 * side + 4, least + 1), (3 * side, 64)):
        reads, writes = (word if n * item % word == 0 else item if n % 2 else 2 * item for n in (s, t))
        assert turn((t, s), (1, 0), item) == f"copy_tiles_{item}_{reads}_{writes}_0"
    assert turn((side, side), (1, 0), item, x_line=1) == f"copy_tiles_{item}_{item}_{word}_0"
    assert turn((side, side), (1, 0), item, y_line=1) == f"copy_tiles_{item}_{word}_{item}_0"
    assert turn((side + 3, side + 5), (1, 0), item, 3, 5, first=1) == f"copy_tiles_{item}_{item}_{item}_0"


@pytest.mark.sample(2)
@pytest.mark.parametrize("item", ITEMS)
def test_loops_around_tiles(item: int):
    least = SECTOR // item
    n = least + 4
    assert turn((3, n, 5, n + 4), (0, 3, 2, 1), item).endswith("_2")
    assert turn((2, n, 3, 2, n), (4, 2, 0, 3, 1), item).endswith("_3")  # as transpositions of all dims
    assert turn((3, n, 4 * n), (0, 2, 1), item).endswith("_1")  # images: channels last
    assert turn((2, 3, 2, 2, 2, 2, n, n), (5, 7, 3, 4, 0, 2, 1, 6), item).startswith("copy_tiles_")


def test_short_sides_are_copied_as_they_are():
    assert turn((7, 500), (1, 0), 4).startswith("copy_strided_") and turn((500, 7), (1, 0), 4).startswith(
        "copy_strided_"
    )
    assert turn((8, 500), (1, 0), 4).startswith("copy_tiles_") and turn((500, 8), (1, 0), 4).startswith("copy_tiles_")


def test_pairs_that_move_together_are_turned():
    """As one item of the bytes that both have."""
    assert turn((40, 36, 2), (1, 0, 2), 4) == "copy_tiles_8_8_8_0"
    assert turn((40, 36, 2), (1, 0, 2), 2) == "copy_tiles_4_4_4_0"
    assert turn((40, 36, 3), (1, 0, 2), 1).startswith("copy_strided_")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "bool"])
def test_transposed_operators(dtype: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CHECK", "memory")
    x = randoms(2, 37, 50, dtype=dtype)
    (step,) = check(use("Transpose", x, perm=(0, 2, 1)), TARGET).plan().steps
    assert step.kernel == "copy_tiles" and step.algorithm.startswith("tiles of ")


@pytest.mark.sample(3)
@pytest.mark.parametrize("arch", [(8, 0), (9, 0)])
@pytest.mark.parametrize("item", ITEMS)
def test_machine_code_of_tiles(item: int, arch: tuple[int, int]):
    """All registers; words on both sides, and in shared memory; nothing looks for its address space."""
    word = max(4, item)
    cubin = cubin_of(CopyTiles(item, word, word, 1), arch)
    found, of_64 = instructions(cubin), r"\.64" * (word == 8)
    assert (cubin.spilled, cubin.stack, of_kind(found, r"(LDL|STL).*")) == (0, 0, {})
    assert cubin.registers <= 64  # 1024 threads to a multiprocessor
    assert of_kind(found, r"STG\..*") == of_kind(found, rf"STG\.E{of_64}") != {}
    assert of_kind(found, r"LDG\..*") == of_kind(found, r"LDG\.E(\.64(\.CONSTANT)?)?")
    assert of_kind(found, r"LDS.*") == of_kind(found, rf"LDS{of_64}") and of_kind(found, r"STS.*") == of_kind(
        found, rf"STS{of_64}"
    )
    assert of_kind(found, r"(LD|ST)\.E.*") == {}


def test_one_plan_turns_many_sizes():
    """Widths of words on both sides follow from sizes."""
    b = Builder("net")
    y = b.add("Transpose", b.input("x", np.float16, ("n", "m")), perm=(1, 0))
    model = graphc.compile(b.build({"y": y}), target=TARGET)
    for m, n in ((64, 64), (66, 96), (65, 70), (131, 67), (200, 18)):
        x = randoms(n, m, dtype="float16")
        np.testing.assert_array_equal(model.run({"x": x})["y"], x.T)
    assert len(model._many) == 1
    assert {s.kernel for s in model.plan({"x": (64, 64)}).steps if "Transpose" in s.ops} == {"copy_tiles"}
