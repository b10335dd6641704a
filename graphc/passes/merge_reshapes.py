"""One Reshape for a chain of operators that only change the dims, and Reshape for Flatten, Squeeze and Unsqueeze."""

from __future__ import annotations

import numpy as np

from graphc.graph import Node, Value
from graphc.passes.rewrite import Rewrite, Skip, Sweep
from graphc.types import Shape

RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")

merge_reshapes = Rewrite("merge_reshapes")


@merge_reshapes.on(*RESHAPES)
def reshape_of_reshape(node: Node, sweep: Sweep) -> Value | Skip | None:
    """Only the last shape counts. Where it is not a fixed one, its 0 and -1 must mean the same without the first."""
    inner = sweep.producer(node.inputs[0], *RESHAPES)
    if inner is None:
        return None
    x = inner.inputs[0]
    target = as_target(node.output.shape)
    if target is None and node.op.name == "Reshape":
        target = node.call.ints(1)
        if 0 in target or node.attrs["allowzero"]:
            return Skip(f"shape {target} copies dims of '{node.inputs[0].name}'")
    return reshaped(node, x, target, sweep)


@merge_reshapes.on("Flatten", "Squeeze", "Unsqueeze")
def as_reshape(node: Node, sweep: Sweep) -> Value | Skip:
    return reshaped(node, node.inputs[0], as_target(node.output.shape), sweep)


def as_target(shape: Shape) -> list[int] | None:
    """The shape operand of a Reshape that gives this shape; None where more than one dim is symbolic."""
    target = [d if isinstance(d, int) else -1 for d in shape]
    unclear = target.count(-1) > 1 or (-1 in target and 0 in target)
    return None if unclear else target


def reshaped(node: Node, x: Value, target: list[int] | None, sweep: Sweep) -> Value | Skip:
    """Reshape of x in the place of the node, if the type rule gives it the same type."""
    if target is None:
        return Skip(f"its shape {node.output.shape} has more than one symbolic dim")
    shape = sweep.constant(target, np.int64)
    new = sweep.remake(node, x, shape, op="Reshape", attrs={"allowzero": 0 in target})
    if new.type != node.output.type:
        return Skip(f"a Reshape would be of type {new.type}, not {node.output.type}")
    return new
