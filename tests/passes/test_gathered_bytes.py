"""Rows of a dequantized table: that only they are dequantized, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from passcheck import F32, build, rewritten

from graphc.graph import Builder, Value
from graphc.passes.gathered_bytes import gathered_bytes
from graphc.pipeline import SHAPE_FREE
from graphc.pipeline import run as run_passes

TABLE = np.random.default_rng(0).integers(-128, 127, (50, 6), np.int8, endpoint=True)


def table(b: Builder, scale: Any = 0.5, zero: Any = 3, **attrs: Any) -> Value:
    zeros = None if zero is None else b.constant(zero, np.int8)
    return b.add("DequantizeLinear", b.constant(TABLE), b.constant(scale, F32), zeros, **attrs)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("numbers", [{}, {"zero": None}, {"scale": [0.5], "zero": [3]}], ids=["one", "no zero", "[1]"])
@pytest.mark.parametrize("index", [[[1, -2], [3, 0]], 4], ids=["rows", "row"])
def test_it_is_dequantized_behind_the_gather(axis: int, numbers: dict[str, Any], index: Any):
    """The interpreter's results stay what they are (passcheck)."""

    def make(b: Builder) -> Value:
        x = b.input("x", F32, (1,))
        return b.add("Add", b.add("Gather", table(b, **numbers), b.constant(index, np.int64), axis=axis), x)

    graph = rewritten(gathered_bytes, build(make))
    assert [n.op.name for n in graph.nodes] == ["Gather", "DequantizeLinear", "Add"]
    assert graph.nodes[0].inputs[0].data.dtype == np.int8


def test_scales_of_rows_stay_before_it():
    def make(b: Builder) -> Value:
        scales, zeros = np.linspace(1, 2, 50), np.arange(50) % 3
        return b.add("Gather", table(b, scales, zeros, axis=0), b.input("i", np.int64, (3,)))

    graph = build(make)
    assert gathered_bytes(graph) is graph


def test_a_large_table_is_never_dequantized():
    def make(b: Builder) -> Value:
        return b.add("Gather", table(b), b.input("i", np.int64, (3,)))

    shapes = {n.output.shape for n in run_passes(build(make), SHAPE_FREE).nodes}
    assert (50, 6) not in shapes and (3, 6) in shapes
