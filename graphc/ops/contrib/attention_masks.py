"""Masks of com.microsoft's attention operators: lengths or flags in int32, as numbers that are added to scores."""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Call
from graphc.ops.contract import differ, operand_name
from graphc.types import Dim, Shape

INT64 = np.dtype(np.int64)


def require_mask(call: Call, i: int, batch: Dim, past: Dim, queries: Dim, total: Dim) -> None:
    """Operand i is a mask, if it is given. Raises TypeRuleError.

    [batch] tells how many keys there are; [2 · batch] where they end, then where they begin; [3 · batch + 2] has the former in
    front. [batch, total], [batch, queries, total] and [batch, 1, longest, longest] are above 0 for keys that are seen.
    """
    if not call.has(i):
        return
    shape, name = call.shape(i), operand_name(call, i)
    if call.dtype(i) != np.int32:
        raise call.fail(f"'{name}' is {call.dtype(i)}", "it must be int32")
    if len(shape) == 1:
        if all(differ(shape[0], n) for n in (batch, 2 * batch, 3 * batch + 2)):
            raise call.fail(f"'{name}' has {shape[0]} numbers", f"one, two or three (and 2 more) for each of {batch}")
        return
    if len(shape) == 4:
        fits = not differ(shape[1], 1) and not differ(shape[2], shape[3]) and not differ(shape[0], batch)
        longest = shape[3]
        for n in (past + queries, total):
            if isinstance(longest, int) and isinstance(n, int) and longest < n:
                raise call.fail(f"'{name}' has shape {shape}", f"it is for {longest} positions, of which there are {n}")
    else:
        want: Shape = {2: (batch, total), 3: (batch, queries, total)}.get(len(shape), ())
        fits = bool(want) and not any(map(differ, shape, want))
    if not fits:
        raise call.fail(
            f"'{name}' has shape {shape}", f"give [{batch}], [{batch}, {total}] or [{batch}, {queries}, {total}]"
        )


def emit_mask(b: Builder, mask: Value, batch: Dim, past: Dim, queries: Dim, total: Dim, hidden: float, like) -> Value:
    """The mask as numbers of dtype `like` to add to scores [batch, heads, queries, total]: 0, or `hidden`. past: how many
    keys there were before."""
    if len(mask.shape) == 1:
        keys = b.add("Range", *(b.constant(n, np.int64) for n in (0, total, 1)))
        bounds = b.add("Reshape", b.add("Cast", mask, to=INT64), b.constant([-1, 1, 1, 1], np.int64))
        ends = bounds if mask.shape[0] == batch else _rows(b, bounds, 0, batch)
        seen = b.add("Less", keys, ends)
        if mask.shape[0] == 2 * batch:
            seen = b.add("And", seen, b.add("GreaterOrEqual", keys, _rows(b, bounds, batch, 2 * batch)))
    else:
        if len(mask.shape) == 4:
            bounds = ([n, k] for n, k in ((past, 0), (past + queries, total), (2, 3)))
            mask = b.add("Slice", mask, *(b.constant(n, np.int64) for n in bounds))
        seen = b.add("Greater", mask, b.constant(0, np.int32))
        if len(mask.shape) < 4:
            seen = b.add("Unsqueeze", seen, b.constant([1, 2] if len(mask.shape) == 2 else [1], np.int64))
    return b.add("Where", seen, b.constant(0, like), b.constant(hidden, like))


def _rows(b: Builder, x: Value, start: Dim, end: Dim) -> Value:
    return b.add("Slice", x, *(b.constant([n], np.int64) for n in (start, end, 0)))


def mask_reference(mask: np.ndarray, batch: int, past: int, queries: int, total: int, hidden: float) -> np.ndarray:
    """As `emit_mask`."""
    if mask.ndim == 1:
        seen = np.arange(total) < mask[:batch, None]
        if len(mask) == 2 * batch:
            seen &= np.arange(total) >= mask[batch:, None]
        seen = seen[:, None, None]
    elif mask.ndim == 2:
        seen = mask[:, None, None] > 0
    elif mask.ndim == 3:
        seen = mask[:, None] > 0
    else:
        seen = mask[:, :, past : past + queries, :total] > 0
    return np.where(seen, 0.0, hidden)


def add(b: Builder, *values: Value | None) -> Value | None:
    """The sum of those that are given."""
    total: Value | None = None
    for v in values:
        if v is not None:
            total = v if total is None else b.add("Add", total, v)
    return total
