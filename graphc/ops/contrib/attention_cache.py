"""Caches of keys and values [batch, heads, length, size]: new rows, from a position of each of the batch on."""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Value
from graphc.types import Dim


def emit_range(b: Builder, end: Dim) -> Value:
    return b.add("Range", *(b.constant(n, np.int64) for n in (0, end, 1)))


def emit_written(b: Builder, cache: Value, new: Value, start: Value, end: Value | None = None) -> Value:
    """The cache with the new rows from `start` on; with `end`, zeros from there on. start, end: int64 [batch]."""
    batch, heads, length, size = cache.shape
    column = b.constant([-1, 1, 1, 1], np.int64)
    places = b.add("Reshape", emit_range(b, length), b.constant([1, 1, -1, 1], np.int64))
    at = b.add("Sub", places, b.add("Reshape", start, column))  # which of the new rows each would be
    count = new.shape[2]
    if count > 1:
        row = b.add("Clip", at, b.constant(0, np.int64), b.constant(count - 1, np.int64))
        row = b.add("Expand", row, b.constant([batch, heads, length, size], np.int64))
        new = b.add("GatherElements", new, row, axis=2)
    elif count == 0:
        new = cache
    old = b.add("Less", at, b.constant(0, np.int64))
    if end is None:
        old = b.add("Or", old, b.add("GreaterOrEqual", at, b.constant(count, np.int64)))
        return b.add("Where", old, cache, new)
    there = b.add("Less", places, b.add("Reshape", end, column))
    return b.add("Where", there, b.add("Where", old, cache, new), b.constant(0, cache.dtype))
