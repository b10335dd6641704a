"""Operators whose feature maps are [N, *space, C]: between two Transposes, which the layout of kernels takes in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Call


def to_first(rank: int) -> list[int]:
    return [0, rank - 1, *range(1, rank - 1)]


def to_last(rank: int) -> list[int]:
    return [0, *range(2, rank), 1]


def require_space(call: Call) -> None:
    """Raises TypeRuleError unless operand 0 has a spatial axis."""
    if call.rank(0) < 3:
        raise call.fail(f"the input has shape {call.shape(0)}: no spatial axis", "give it a batch, channels and space")


def emit_channels_first(b: Builder, x: Value, last: bool, emit: Callable[[Value], Value]) -> Value:
    """`emit` of x [N, C, *space], for x [N, *space, C] where `last` says so."""
    if not last:
        return emit(x)
    rank = len(x.shape)
    return b.add("Transpose", emit(b.add("Transpose", x, perm=to_first(rank))), perm=to_last(rank))


def channels_first(x: np.ndarray, last: bool, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.moveaxis(function(np.moveaxis(x, -1, 1)), 1, -1) if last else function(x)
