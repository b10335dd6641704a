"""Products by matrices that are dequantized block by block: which stay in integers, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from passcheck import F32, build, refused, rewritten

from graphc.dtypes import int_range
from graphc.graph import Builder, Graph, Value
from graphc.passes.block_products import block_products
from graphc.types import dtype_from_name

DEPTH, COLUMNS = 40, 32


def names(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def matrix(b: Builder, *shape: int, dtype: str = "int4", axis: int = 0, block: int = 16, zeros: bool = True) -> Value:
    """Weights, dequantized in blocks along an axis."""
    rng, kind = np.random.default_rng(shape), dtype_from_name(dtype)
    low, high = int_range(kind)
    blocks = tuple(-(-d // block) if i == axis else d for i, d in enumerate(shape))
    values, zero = (rng.integers(low, high, s, endpoint=True).astype(kind) for s in (shape, blocks))
    scale = b.constant(rng.uniform(0.01, 0.05, blocks), F32)
    operands = b.constant(values), scale, *([b.constant(zero)] if zeros else [])
    return b.add("DequantizeLinear", *operands, axis=axis, block_size=block)


@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize("dtype", ["int4", "uint4", "int8", "uint8"])
def test_products(dtype: str, zeros: bool):
    """The interpreter's results are those of floats, to their rounding (passcheck)."""

    def make(b: Builder) -> Value:
        return b.add("MatMul", b.input("x", F32, (2, 3, DEPTH)), matrix(b, DEPTH, COLUMNS, dtype=dtype, zeros=zeros))

    assert names(rewritten(block_products, build(make)))[-1] == "BlockProduct"


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("turned", [True, False])
def test_layers(turned: bool, bias: bool):
    def make(b: Builder) -> Value:
        shape = (COLUMNS, DEPTH) if turned else (DEPTH, COLUMNS)
        added = [b.constant(np.arange(COLUMNS), F32)] if bias else []
        return b.add("Gemm", b.input("x", F32, (5, DEPTH)), matrix(b, *shape, axis=int(turned)), *added, transB=turned)

    assert names(rewritten(block_products, build(make)))[-1] == ("Add" if bias else "BlockProduct")


@pytest.mark.parametrize("depth,columns,block", [(40, 20, 16), (37, 5, 8), (33, 16, 64), (36, 3, 36)])
@pytest.mark.parametrize("dtype", ["uint4", "int8"])
def test_sizes_that_are_no_whole_tiles(dtype: str, depth: int, columns: int, block: int):
    def make(b: Builder) -> Value:
        return b.add("MatMul", b.input("x", F32, (3, depth)), matrix(b, depth, columns, dtype=dtype, block=block))

    assert "BlockProduct" in names(rewritten(block_products, build(make)))


REFUSED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "blocks of five": ("end within a word", {"block": 5}, {}),
    "blocks along columns": ("do not lie along the sums", {"axis": 1}, {}),
    "its own factor": ("has factors", {}, {"alpha": 0.5}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str):
    reason, of_matrix, attrs = REFUSED[case]

    def make(b: Builder) -> Value:
        w = matrix(b, DEPTH, of_matrix.pop("n", COLUMNS), **of_matrix)
        return b.add("Gemm", b.input("x", F32, (5, DEPTH)), w, **attrs)

    assert reason in refused(block_products, build(make))
