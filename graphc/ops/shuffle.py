"""ChannelShuffle: an operator of the compiler's own, which passes put in the place of Reshape, Transpose, Reshape."""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import NUMBERS, Attr, Call, Case, Family, Op, Samples, Tensor, register
from graphc.types import TensorType


def _infer(call: Call) -> list[TensorType]:
    t = call.type(0)
    if t.rank < 2:
        raise call.fail(f"takes operands [N, C, …], not of rank {t.rank}")
    if call.attrs.groups < 1 or (isinstance(t.shape[1], int) and t.shape[1] % call.attrs.groups):
        raise call.fail(f"{t.shape[1]} channels do not divide into {call.attrs.groups} groups")
    return [t]


def _reference(x: np.ndarray, *, groups: int) -> np.ndarray:
    """Channel g·C/groups + i becomes channel i·groups + g (Zhang et al., ShuffleNet, 3.1)."""
    n, c, *space = x.shape
    return x.reshape(n, groups, c // groups, *space).swapaxes(1, 2).reshape(x.shape)


def _expand(b: Builder, call: Call) -> Value | None:
    """None where a dim is symbolic."""
    t = call.type(0)
    if not t.is_static:
        return None
    n, c, *space = t.shape
    split = b.constant((n, call.attrs.groups, c // call.attrs.groups, *space), np.int64)
    apart = b.add("Reshape", call.inputs[0], split, allowzero=True)
    swapped = b.add("Transpose", apart, perm=(0, 2, 1, *range(3, t.rank + 1)))
    return b.add("Reshape", swapped, b.constant(t.shape, np.int64), allowzero=True)


register(
    Op(
        "ChannelShuffle",
        ("x",),
        _infer,
        _reference,
        {"groups": Attr(int)},
        expand=_expand,
        tolerance=0.0,
        flops=lambda call: 0,
        per_sample=True,
        samples=Samples(
            NUMBERS,
            cases=(
                Case((Tensor((2, 6, 3, 5)),), {"groups": 2}),
                Case((Tensor((1, 48, 4)),), {"groups": 3}),
                Case((Tensor((1, 8)),), {"groups": 8}),
            ),
        ),
        family=Family.MOVEMENT,
        internal=True,
    )
)
