"""Comparisons of many elements as bits of a word, and loops over the bits that are set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import ir

from graphc.backends.llvm.emit import I1, I64, Emit, i64


def bits_of(q: Emit, mask: ir.Value, lanes: int) -> ir.Value:
    """A mask of at most 64 lanes as an int64, lane 0 in the lowest bit."""
    if lanes == 1:
        return q.b.zext(mask, I64)
    word = q.b.bitcast(mask, ir.IntType(lanes))
    return word if lanes == 64 else q.b.zext(word, I64)


def count_of(q: Emit, bits: ir.Value) -> ir.Value:
    return q.intrinsic("ctpop", bits)


@contextmanager
def each_set(q: Emit, bits: ir.Value, count: ir.Value) -> Iterator[tuple[ir.Value, ir.Value]]:
    """For each of the `count` bits that are set, from the lowest on: its turn, and its number."""
    left = q.variable(I64)
    q.b.store(bits, left)
    with q.loop(count) as turn:
        now = q.b.load(left)
        yield turn, q.call("llvm.cttz.i64", I64, now, ir.Constant(I1, 1))
        q.b.store(q.b.and_(now, q.b.sub(now, i64(1))), left)
