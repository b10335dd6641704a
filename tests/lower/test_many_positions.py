"""Elements that results read: whole-number arithmetic beside NumPy, and results of their own position for many sizes."""

from __future__ import annotations

import numpy as np
import pytest
from many import agree

from graphc.graph import Builder
from graphc.ops._positions import OUTSIDE, Positions, Reads, padded

F32 = np.float32


@pytest.mark.parametrize("mode", ["edge", "reflect", "wrap"])
def test_padded_axes_read_what_numpy_repeats(mode: str):
    for size in range(1, 8):
        for before in range(-3, 25, 2):
            for after in range(-2, 20, 3):
                low, high = max(-before, 0), size - max(-after, 0)
                reads = padded(size, before, after, mode)
                if high <= low or reads is None:
                    continue
                want = np.pad(np.arange(low, high), (max(before, 0), max(after, 0)), mode)
                np.testing.assert_array_equal(reads.indices(), want, f"{size} {before} {after}")


def test_a_run_is_of_neighbours_and_the_longest():
    for size in range(1, 5):
        for before in range(-6, 7):
            for after in range(-6, 7):
                if before + size + after <= 0:
                    continue
                reads = padded(size, before, after, "constant") or Reads(Positions(size, 1, 0, 1), size)
                first, end = reads.run()
                indices = reads.indices()
                assert 0 <= first <= end <= len(indices)
                assert (indices[first:end] == np.arange(end - first) + indices[first : first + 1]).all()
                assert (indices[:first] == OUTSIDE).all() and (indices[end:] == OUTSIDE).all()


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(s, dtype=F32) for s in shapes]


SHAPES = (5, 7), (9, 4), (12, 12), (30, 17), (6, 8)


def test_eye():
    for k in (-1, 0, 2):
        b = Builder("eye")
        x = b.input("x", F32, ("h", "w"))
        agree(b.build({"y": b.add("Add", x, b.add("EyeLike", x, k=k))}), [{"x": x} for x in arrays(*SHAPES)], 1)


def test_triangle():
    for upper in (False, True):
        b = Builder("triangle")
        x = b.input("x", F32, ("h", "w"))
        agree(b.build({"y": b.add("Trilu", x, b.constant(1), upper=upper)}), [{"x": x} for x in arrays(*SHAPES)], 1)


@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_one_hot(dtype: str):
    b = Builder("hot")
    x, ids = b.input("x", F32, ("h", "w")), b.input("ids", dtype, ("k",))
    depth = b.add("Shape", x, start=1)
    for axis in (0, -1):
        g = b.build({"y": b.add("OneHot", ids, depth, b.constant([2, 5], F32), axis=axis)})
        rng = np.random.default_rng(1)
        feeds = [{"x": x, "ids": rng.integers(-4, 4, 3 + len(x)).astype(dtype)} for x in arrays(*SHAPES)]
        agree(g, feeds, 1)


def test_reversed_sequences():
    b = Builder("reverse")
    x, lengths = b.input("x", F32, ("t", "n", 3)), b.input("lengths", "int64", ("n",))
    g = b.build({"y": b.add("ReverseSequence", x, lengths, time_axis=0, batch_axis=1)})
    rng = np.random.default_rng(1)
    agree(
        g, [{"x": x, "lengths": rng.integers(0, len(x) + 1, x.shape[1])} for x in arrays(*((*s, 3) for s in SHAPES))], 1
    )
