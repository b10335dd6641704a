"""Reorder: an operator of the compiler's own, which lays a tensor out in memory another way."""

from __future__ import annotations

from dataclasses import replace

from graphc.op import Attr, Call, Case, Family, Op, Samples, Tensor, register
from graphc.types import Blocked, TensorType


def _reorder_type(call: Call) -> list[TensorType]:
    layout = Blocked(call.attrs.c, call.attrs.left, call.attrs.right) if call.attrs.c else None
    return [replace(call.type(0), layout=layout)]


REORDER = register(
    Op(
        "Reorder",
        ("x",),
        _reorder_type,
        reference=lambda x, c, left, right: x,
        attrs={name: Attr(int, 0, settled=True) for name in ("c", "left", "right")},
        per_sample=True,
        samples=Samples(("float32",), cases=(Case((Tensor((2, 5, 3, 4)),)),)),
        tolerance=0.0,
        flops=lambda call: 0,
        family=Family.MOVEMENT,
        internal=True,
    )
)
