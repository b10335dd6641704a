"""Copies, and numbers that follow from sizes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided
from one_verb import INFO, run
from suite import OPS, axes, check, host_reasons, randoms, use, uses_of

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
