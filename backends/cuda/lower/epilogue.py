"""How kernels that sum end: an expression of the sum and of operands that are walked as the result is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphc import expr
from graphc.dtypes import BY_NAME, NATIVE
from graphc.expr import Expr
from graphc.graph import Node, Value
from graphc.lower.fuse import Group
from graphc.lower.storage import Ref, Storage

if TYPE_CHECKING:
    from graphc.backends.cuda.lower.lowering import CudaLowering


def accepts_operand(anchor: Node, v: Value, out: Value) -> str | None:
    """Any value that kernels compute with: it is walked with strides, which are 0 where it is broadcast."""
    return None if v.dtype.name in NATIVE else f"dtype {v.dtype.name} has no machine code"


@dataclass(frozen=True)
class Walked:
    """Memory, and its byte strides along the dims of the result."""

    ref: Ref
    dtype: np.dtype
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Ending:
    """expression: the result from the sum (argument 0, in `summed`) and the operands after it. result: where it goes."""

    expression: Expr
    result: Walked
    operands: tuple[Walked, ...]

    @property
    def every(self) -> tuple[Walked, ...]:
        """The result, then the operands: as records have them."""
        return self.result, *self.operands

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Of the operands."""
        return tuple(o.dtype.name for o in self.operands)


def summed(dtype: np.dtype) -> np.dtype:
    """What elements of a dtype are summed in: narrow floats in float32, all others as they are."""
    found = BY_NAME[dtype.name]
    return np.dtype(found.accumulates_in) if found.family == "float" else dtype


def ending_of(lo: CudaLowering, group: Group, first: Expr | None = None, read: Sequence[Walked] = ()) -> Ending:
    """How the kernel of a group's anchor ends. first: the anchor's own last step, an expression of the sum and of `read`,
    arguments 1 and on, in the dtype of the sum; None where the sum is the result."""
    out, tree = group.output, group.expression
    dtype = group.anchor.output.dtype
    result = expr.cast(first if first is not None else expr.arg(0, summed(dtype)), dtype)
    assert isinstance(result, Expr)
    shape = out.type.extents
    if tree is not None:
        others = [expr.arg(1 + len(read) + i, v.dtype) for i, v in enumerate(group.operands)]
        result = expr.substitute(tree, [result, *others])
    operands = tuple(walked(lo.strided(v), shape) for v in group.operands)
    return Ending(result, walked(lo.write(out), shape), (*read, *operands))


def walked(s: Storage, shape: Sequence[int]) -> Walked:
    """A value along the dims that it is broadcast to."""
    own = [0 if d == 1 else by for d, by in zip(s.type.extents, s.strides)]
    return Walked(s.ref, s.type.dtype, (*(0,) * (len(shape) - len(own)), *own))
