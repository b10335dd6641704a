"""The layers that tell where a step stands: positions, and the mask that hides what is ahead."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from graphc.frontends.yaml_registry import LayerBuilder, layer
from graphc.graph import Value


@layer
def positions(
    c: LayerBuilder, x: Value, *, kind: Literal["sinusoidal", "learned"] = "sinusoidal", rows: int | None = None
) -> Value:
    """Add to [batch, steps, features] what tells the steps apart.

    sinusoidal: sin(p/10000^(2i/features)) at the even features, cos at the odd ones (Vaswani et al. 2017, arXiv:1706.03762, 3.5).
    learned: a weight [rows, features], of which as many as there are steps are taken; without `rows`, as many as there are steps."""
    c.rank(x, 3)
    features, steps = c.fixed(x, 2, "the number of features"), x.shape[1]
    if kind == "learned":
        if rows is None:
            rows = c.fixed(x, 1, "the number of steps (or give `rows`)")
        if isinstance(steps, int) and steps > rows:
            raise c.fail(f"there are {steps} steps and only {rows} positions", f"raise rows to {steps}")
        table = c.weight("weight", (rows, features), x.dtype, "small")
        if steps == rows:
            return c.add("Add", x, table)
        where = c.const(np.arange(steps)) if isinstance(steps, int) else places(c, x, 1)
        return c.add("Add", x, c.add("Gather", table, where, axis=0))
    if rows is not None:
        raise c.fail("rows are of learned positions", "sinusoidal ones have no end")
    pairs = np.arange(features) // 2 * 2
    rate = np.exp(-math.log(10000) * pairs / features)
    shift = np.arange(features) % 2 * (math.pi / 2)  # cos a = sin(a + π/2)
    if isinstance(steps, int):
        return c.add("Add", x, c.const(np.sin(np.arange(steps)[:, None] * rate + shift), x.dtype))
    exact = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)  # float16 has no 2049
    at = c.add("Unsqueeze", c.add("Cast", places(c, x, 1), to=exact), c.const([1]))
    turns = c.add("Sin", c.add("Add", c.add("Mul", at, c.const(rate, exact)), c.const(shift, exact)))
    return c.add("Add", x, turns if exact == x.dtype else c.add("Cast", turns, to=x.dtype))


@layer
def causal_mask(c: LayerBuilder, scores: Value) -> Value:
    """Scores […, queries, keys] of attention with -∞ where the key is ahead of the query: softmax gives it 0."""
    rank = len(scores.shape)
    if rank < 2:
        raise c.fail(f"takes scores […, queries, keys], not {scores.type}")
    query, key = (places(c, scores, rank + a) for a in (-2, -1))
    seen = c.add("GreaterOrEqual", c.add("Unsqueeze", query, c.const([1])), key)
    return c.add("Where", seen, scores, c.const(-math.inf, scores.dtype))


def places(c: LayerBuilder, x: Value, axis: int) -> Value:
    """0, 1, 2 … along an axis, int64: a constant where its size is known, else counted when the model runs."""
    if isinstance(x.shape[axis], int):
        return c.const(np.arange(x.shape[axis]))
    for other in reversed(range(len(x.shape))):
        if other != axis:
            x = c.add("Gather", x, c.const(0), axis=other)
    no = c.add("Mul", c.add("Cast", c.add("IsNaN", x), to=np.dtype(np.int64)), c.const(0))  # 0 for every x
    return c.add("CumSum", c.add("Add", no, c.const(1)), c.const(0), exclusive=1)
