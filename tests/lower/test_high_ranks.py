"""Elementwise kernels whose operands broadcast in so many places that no loops merge."""

from __future__ import annotations

import numpy as np
import pytest
from targets import require

import graphc
from graphc.graph import Builder


def alternating(rank: int, first: int, size: int = 2) -> tuple[int, ...]:
    return tuple(size if (i + first) % 2 else 1 for i in range(rank))


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize("rank", [8, 9, 10, 13])
def test_operands_that_alternate(rank: int, target: str):
    require(target)
    rng, b = np.random.default_rng(rank), Builder("ranks")
    x, y = (rng.standard_normal(alternating(rank, k)).astype(np.float32) for k in (0, 1))
    c = rng.random(alternating(rank, 0)) < 0.5
    xv, yv, cv = (b.input(n, a.dtype, a.shape) for n, a in (("x", x), ("y", y), ("c", c)))
    total = b.add("Add", xv, yv)
    model = graphc.compile(
        b.build({"a": total, "w": b.add("Where", cv, b.add("Mul", total, yv), xv)}), target=target, threads=2
    )
    results = model.run({"x": x, "y": y, "c": c})
    np.testing.assert_array_equal(results["a"], x + y)
    np.testing.assert_array_equal(results["w"], np.where(c, (x + y) * y, x))
    assert not any(s.host for s in model.plan().steps)


def test_dims_of_three_and_a_row():
    b, rng = Builder("ranks"), np.random.default_rng(0)
    shapes = [(3, 1, 2, 1, 3, 1, 2, 1, 3, 17), (1, 2, 1, 3, 1, 2, 1, 3, 1, 17)]
    x, y = (rng.standard_normal(s).astype(np.float32) for s in shapes)
    model = graphc.compile(b.build({"z": b.add("Sub", *(b.input(n, "float32", s) for n, s in zip("xy", shapes)))}))
    np.testing.assert_array_equal(model(x, y), x - y)
