"""Boxes of float32 in a plane: lower corner (2 numbers), higher corner (2), area; and how far two of them overlap."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from graphc.backends.llvm.emit import F32, Emit

BOX_NUMBERS, CORNERS = 5, 4  # of a box; of those, its corners


def box(q: Emit, numbers: Sequence[ir.Value], center: bool) -> list[ir.Value]:
    """From two corners in any order, or from center and size."""
    b = q.b
    first, second = numbers[:2], numbers[2:]
    if center:
        halves = [b.fdiv(size, ir.Constant(F32, 2.0)) for size in second]
        low, high = [*map(b.fsub, first, halves)], [*map(b.fadd, first, halves)]
    else:
        low = [_smaller(q, *pair) for pair in zip(first, second)]
        high = [_larger(q, *pair) for pair in zip(first, second)]
    area = q.product(b.fsub(high[0], low[0]), b.fsub(high[1], low[1]))
    if not center:  # minimum and maximum may have dropped a NaN
        nan = b.or_(b.fcmp_unordered("uno", low[0], high[0]), b.fcmp_unordered("uno", low[1], high[1]))
        area = b.select(nan, ir.Constant(F32, float("nan")), area)
    return [*low, *high, area]


def overlap(q: Emit, one: Sequence[ir.Value], other: Sequence[ir.Value], limit: ir.Value, lanes: int) -> ir.Value:
    """Is their intersection over their union above a limit? A box without an area, or with a NaN, overlaps none. `one` has an
    area."""
    b, zero = q.b, q.const(0, F32, lanes)
    extents = []
    for d in range(2):
        above, below = _larger(q, one[d], other[d]), _smaller(q, one[2 + d], other[2 + d])
        extents.append(_larger(q, b.fsub(below, above), zero))
    common = q.product(*extents)
    union = b.fsub(b.fadd(other[CORNERS], one[CORNERS]), common)
    hit = b.fcmp_ordered(">", b.fdiv(common, union), limit)
    for positive in (common, other[CORNERS], union):
        hit = b.and_(hit, b.fcmp_ordered(">", positive, zero))
    return hit


def has_area(q: Emit, one: Sequence[ir.Value]) -> ir.Value:
    return q.b.fcmp_ordered(">", one[CORNERS], ir.Constant(F32, 0.0))


def _smaller(q: Emit, x: ir.Value, y: ir.Value) -> ir.Value:
    """y where either is NaN."""
    return q.b.select(q.b.fcmp_ordered("<", x, y), x, y)


def _larger(q: Emit, x: ir.Value, y: ir.Value) -> ir.Value:
    """y where either is NaN."""
    return q.b.select(q.b.fcmp_ordered(">", x, y), x, y)
