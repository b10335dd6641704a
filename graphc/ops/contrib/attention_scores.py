"""Scaled dot-product attention as com.microsoft's operators need it: written out where scores are read or have a sink."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphc.graph import Builder, Value


class Attended(NamedTuple):
    """y [batch, heads, queries, size of values]; scores and weights [batch, heads, queries, keys]."""

    y: np.ndarray
    scores: np.ndarray
    weights: np.ndarray


def attend(q, k, v, scale: float, *, softcap: float = 0.0, added=None, seen=None, sink=None) -> Attended:
    """softmax(softcap(q kᵀ · scale) + added) v over the keys that are `seen`; sink [heads]: one more logit, in the denominator only.

    A query from which `added` or `seen` hides everything has the result 0.
    """
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    scores = np.einsum("bnsh,bnth->bnst", q, k) * q.dtype.type(scale)
    if softcap:
        scores = np.tanh(scores / q.dtype.type(softcap)) * q.dtype.type(softcap)
    scores = scores if added is None else scores + added.astype(q.dtype)
    shown = np.where(True if seen is None else seen, scores, -np.inf).astype(q.dtype)
    top = shown.max(-1, keepdims=True, initial=-np.inf)
    if sink is not None:
        sink = sink.reshape(-1, 1, 1).astype(q.dtype)
        top = np.maximum(top, sink)
    if seen is not None or added is not None or sink is not None:
        top = np.where(np.isfinite(top), top, 0)
    powers = np.exp(shown - top)
    total = powers.sum(-1, keepdims=True) + (0 if sink is None else np.exp(sink - top))
    weights = powers / np.where(total == 0, 1, total)
    return Attended(np.einsum("bnst,bnth->bnsh", weights, v), scores, weights)


def emit_attend(
    b: Builder,
    q: Value,
    k: Value,
    v: Value,
    scale: float,
    *,
    softcap: float = 0.0,
    added: Value | None = None,
    seen: Value | None = None,
    sink: Value | None = None,
) -> tuple[Value, Value, Value]:
    """`attend` as nodes: y, scores, weights."""
    dtype, (batch, heads, queries, _) = q.dtype, q.shape
    grouped = b.constant(
        [batch, k.shape[1], -1, q.shape[3]], np.int64
    )  # rows of heads that share keys, one below the other
    rows = b.add("Reshape", b.add("Mul", q, b.constant(scale, dtype)), grouped)
    scores = b.add("MatMul", rows, b.add("Transpose", k, perm=(0, 1, 3, 2)))
    scores = b.add("Reshape", scores, b.constant([batch, heads, queries, k.shape[2]], np.int64))
    if softcap:
        cap = b.constant(softcap, dtype)
        scores = b.add("Mul", b.add("Tanh", b.add("Div", scores, cap)), cap)
    scores = scores if added is None else b.add("Add", scores, added)
    lowest, last = b.constant(-np.inf, dtype), b.constant([-1], np.int64)
    shown = scores if seen is None else b.add("Where", seen, scores, lowest)
    if sink is not None:
        column = b.add("Reshape", b.add("Cast", sink, to=dtype), b.constant([1, -1, 1, 1], np.int64))
        column = b.add("Expand", column, b.constant([batch, 1, queries, 1], np.int64))
        weights = b.add("Softmax", b.add("Concat", column, shown, axis=-1), axis=-1)
        bounds = [b.constant([n], np.int64) for n in (1, scores.shape[3] + 1)]
        weights = b.add("Slice", weights, *bounds, last)
    else:
        weights = b.add("Softmax", shown, axis=-1)
        if seen is not None:  # a query that sees no key has a row of -inf, whose softmax is not a number
            top = b.add("ReduceMax", shown, last, keepdims=True)
            weights = b.add("Where", b.add("Equal", top, lowest), b.constant(0, dtype), weights)
    y = b.add("MatMul", b.add("Reshape", weights, b.constant([batch, k.shape[1], -1, k.shape[2]], np.int64)), v)
    return b.add("Reshape", y, b.constant([batch, heads, queries, v.shape[3]], np.int64)), scores, weights


def emit_heads(b: Builder, x: Value, heads: int) -> Value:
    """[batch, heads, sequence, size] of that, or of [batch, sequence, heads · size]."""
    if len(x.shape) == 4:
        return x
    size = x.shape[2] // heads if isinstance(x.shape[2], int) else -1  # -1 follows from no element
    return b.add("Transpose", b.add("Reshape", x, b.constant([0, 0, heads, size], np.int64)), perm=(0, 2, 1, 3))


def emit_flat(b: Builder, x: Value) -> Value:
    """[batch, sequence, heads · size] of [batch, heads, sequence, size]."""
    heads, size = x.shape[1], x.shape[3]
    width = heads * size if isinstance(heads, int) and isinstance(size, int) else -1
    return b.add("Reshape", b.add("Transpose", x, perm=(0, 2, 1, 3)), b.constant([0, 0, width], np.int64))


def heads_of(x: np.ndarray, heads: int) -> np.ndarray:
    """As `emit_heads`."""
    return x if x.ndim == 4 else x.reshape(*x.shape[:2], heads, x.shape[2] // heads).swapaxes(1, 2)


def flat(x: np.ndarray) -> np.ndarray:
    """As `emit_flat`."""
    return x.swapaxes(1, 2).reshape(len(x), x.shape[2], x.shape[1] * x.shape[3])


def columns(b: Builder, x: Value, *sizes) -> tuple[Value, ...]:
    """Parts of the last axis of these sizes."""
    return b.add("Split", x, b.constant(list(sizes), np.int64), axis=-1, outputs=len(sizes))
