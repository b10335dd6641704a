"""Weights that constants decode to, of any size: a product reads a constant."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from passcheck import F32, build, rewritten

from graphc.graph import Builder, Value
from graphc.passes.decoded_weights import decoded_weights
from graphc.types import dtype_from_name

CODES = np.random.default_rng(0).integers(0, 4, (6, 8))


def codebook(b: Builder) -> Value:
    indices = b.add("Cast", b.constant(CODES.astype(dtype_from_name("uint2"))), to=np.dtype(np.int32))
    return b.add("Gather", b.constant([-1, 0, 0.5, 2], F32), indices)


def bytes_and_scales(b: Builder) -> Value:
    return b.add("DequantizeLinear", b.constant(CODES, np.int8), b.constant(np.arange(1, 9), F32), axis=1)


def bits(b: Builder) -> Value:
    """A value that two nodes read comes before both."""
    flags = b.add("Cast", b.add("BitwiseAnd", b.constant(CODES, np.uint8), b.constant(1, np.uint8)), to=np.dtype(bool))
    other = b.add("Cast", b.add("Not", flags), to=F32)
    return b.add("Where", flags, b.constant(np.arange(1, 9), F32), b.add("Neg", other))


def product(weights: Callable[[Builder], Value], op: str) -> Callable[[Builder], Value]:
    def make(b: Builder) -> Value:
        if op != "Conv":
            return b.add(op, b.input("x", F32, (2, 6)), weights(b))
        shape = b.constant([6, 2, 2, 2], np.int64)
        return b.add(
            "Conv", b.input("x", F32, (1, 2, 4, 4)), b.add("Reshape", weights(b), shape), b.constant(CODES[:, 0], F32)
        )

    return make


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "Conv"])
@pytest.mark.parametrize("weights", [codebook, bytes_and_scales, bits])
def test_products(weights: Callable[[Builder], Value], op: str):
    """The interpreter's results stay the same (passcheck)."""
    graph = rewritten(decoded_weights, build(product(weights, op)))
    assert [n.op.name for n in graph.nodes] == [op]


def computed(b: Builder) -> Value:
    return b.add("Mul", codebook(b), b.input("scale", F32, ()))


def random(b: Builder) -> Value:
    return b.add("RandomUniform", shape=(6, 8), dtype=F32)


def much(b: Builder) -> Value:
    return b.add("Expand", b.constant(1, F32), b.constant([6, 800], np.int64))


@pytest.mark.parametrize("weights", [computed, random, much])
def test_others_stay(weights: Callable[[Builder], Value]):
    """What hangs on an input, what is another each time, and what is much larger than what it is made of."""
    graph = build(product(weights, "MatMul"))
    assert decoded_weights(graph) is graph
