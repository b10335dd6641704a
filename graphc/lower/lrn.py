"""LRN of dense tensors: a sum over neighbouring channels, one column per pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphc import expr as e
from graphc.expr import Expr
from graphc.lower.fuse import Group
from graphc.lower.kernel import Pass, Passes
from graphc.lower.lowering import Lowering
from graphc.lower.reduce import accumulator
from graphc.lower.registry import lowers, native_dtypes
from graphc.lower.verbs import Along


@lowers("LRN", supported=native_dtypes)
def lower_lrn(lo: Lowering, group: Group) -> None:
    """Channels with a whole neighbourhood in one step, each of those at the ends in its own."""
    node = group.nodes[0]
    x, out = lo.read(node.inputs[0]), lo.write(node.output)
    t = node.output.type
    if t.size == 0:
        return
    batch, channels = t.shape[:2]
    space = math.prod(t.shape[2:])
    item = t.dtype.itemsize
    plane = space * item
    size = node.attrs["size"]
    before, after = (size - 1) // 2, size // 2
    p = _passes(t.dtype, node.attrs)
    edges = [*range(min(before, channels)), *range(max(channels - after, before), channels)]
    runs = [(c, 1) for c in edges]
    if channels > before + after:
        runs.append((before, channels - before - after))
    for c, count in runs:
        first, last = max(c - before, 0), min(c + after, channels - 1)
        own = [channels * plane, plane]
        operands = [
            Along(x.ref + first * plane, own, plane),
            Along(x.ref + c * plane, own),
            Along(out.ref + c * plane, own),
        ]
        taps = last - first + 1
        info = lo.info(group, "passes", "", f"{count} channels from {c} on, {taps} neighbours each")
        lo.column_passes(p, [batch, count], operands, taps, space, info)


def _passes(dtype: np.dtype, attrs: Mapping[str, Any]) -> Passes:
    """x * (bias + alpha / size * sum of squares) ** -beta."""
    wide = accumulator(dtype)
    neighbour, x, total = e.cast(e.arg(0, dtype), wide), e.cast(e.arg(1, dtype), wide), e.arg(2, wide)
    y = e.cast(scaled(x, total, attrs), dtype)
    return Passes("vv", (dtype.name, dtype.name), (Pass("add", neighbour * neighbour, total),), (("s", y),))


def scaled(x: Expr, total: Expr, attrs: Mapping[str, Any]) -> Expr:
    """x over the power of its neighbourhood, whose squares add up to `total`."""
    return x * _power(attrs["bias"] + attrs["alpha"] / attrs["size"] * total, -attrs["beta"])


def _power(x: Expr, p: float) -> Expr:
    """x ** p of positive numbers; by roots where p is a multiple of a quarter above -1."""
    if p == -0.75:
        root = e.sqrt(1.0 / x)
        return root * e.sqrt(root)
    if p == -0.5:
        return 1.0 / e.sqrt(x)
    if p == -1.0:
        return 1.0 / x
    return e.exp(e.log(x) * p)
