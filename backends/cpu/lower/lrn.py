"""LRN of dense tensors: a sum over neighbouring channels, one column a pixel."""

from __future__ import annotations

import math

from graphc import expr as e
from graphc.backends.cpu.kernel import Kernel
from graphc.backends.cpu.lower.core import Lowering
from graphc.backends.cpu.lower.reduce import LANES_CHUNK, Record, accumulator, emit_passes
from graphc.backends.cpu.lower.registry import lowers, native_dtypes
from graphc.backends.cpu.micro.reduce import Pass
from graphc.expr import Expr
from graphc.fuse import Group


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
    micro = Kernel("column_passes", _program(t.dtype, node.attrs))
    width = LANES_CHUNK // 4 * item
    edges = [*range(min(before, channels)), *range(max(channels - after, before), channels)]
    runs = [(c, 1) for c in edges]
    if channels > before + after:
        runs.append((before, channels - before - after))
    for c, count in runs:
        first, last = max(c - before, 0), min(c + after, channels - 1)
        own = [channels * plane, plane]
        records = [
            Record(x.ref + first * plane, own, plane, 0, width),
            Record(x.ref + c * plane, own, 0, 0, width),
            Record(out.ref + c * plane, own, 0, 0, width),
        ]
        taps = last - first + 1
        info = lo.info(group, "passes", "", f"{count} channels from {c} on, {taps} neighbours each")
        emit_passes(lo, micro, [batch, count], records, taps, space, info, chunk_n=width // item)


def _program(dtype, attrs) -> tuple:
    """x * (bias + alpha / size * sum of squares) ** -beta."""
    wide = accumulator(dtype)
    neighbour, x, total = e.cast(e.arg(0, dtype), wide), e.cast(e.arg(1, dtype), wide), e.arg(2, wide)
    y = e.cast(scaled(x, total, attrs), dtype)
    return "vv", (dtype.name, dtype.name), (Pass("add", neighbour * neighbour, total),), (("s", y),)


def scaled(x: Expr, total: Expr, attrs) -> Expr:
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
