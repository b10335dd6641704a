"""Pads that crop more than there is: the result is what lies at its place, as if the fill went on without end."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc.errors import TypeRuleError
from graphc.graph import Builder, Graph


def padded(shape: tuple[int, ...], pads: list[int], mode: str = "constant") -> Graph:
    b = Builder("pad")
    y = b.add("Pad", b.input("x", "float32", shape), b.constant(pads), b.constant(np.float32(7)), mode=mode)
    return b.build({"y": y})


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_any_amounts(target: str):
    rng, tried = np.random.default_rng(0), 0
    while tried < 40:
        shape = tuple(rng.integers(0, 5, rng.integers(1, 4)).tolist())
        pads = rng.integers(-6, 6, 2 * len(shape)).tolist()
        size = [d + a + b for d, a, b in zip(shape, pads, pads[len(shape) :])]
        if min(size) < 0:
            continue
        tried += 1
        x, want = rng.standard_normal(shape).astype(np.float32), np.full(size, 7, np.float32)
        for at in np.ndindex(*size):
            source = tuple(i - before for i, before in zip(at, pads))
            if all(0 <= i < d for i, d in zip(source, shape)):
                want[at] = x[source]
        np.testing.assert_array_equal(graphc.compile(padded(shape, pads), target=target)(x), want, f"{shape} {pads}")


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_modes_that_repeat_need_something_to_repeat(mode: str):
    for shape, pads in (((3, 4), [-4, 0, 3, 0]), ((0, 4), [1, 0, 0, 0]), ((3, 4), [-1, -2, -2, -3])):
        with pytest.raises(TypeRuleError, match="can't pad axis"):
            graphc.compile(padded(shape, pads, mode))
    np.testing.assert_array_equal(
        graphc.compile(padded((5,), [-2, 2], mode))(np.arange(5, dtype=np.float32)),
        np.pad(np.arange(2, 5, dtype=np.float32), (0, 2), mode),
    )
