"""An If whose condition is known is the branch that it takes."""

from __future__ import annotations

from graphc.graph import Node, Value
from graphc.passes.rewrite import Rewrite, Skip, Sweep

inline_branches = Rewrite("inline_branches")


@inline_branches.on("If")
def of_a_known_condition(node: Node, sweep: Sweep) -> tuple[Value, ...] | Skip:
    condition, *captures = node.inputs
    if not condition.is_const:
        return Skip("its condition is computed")
    branch = node.attrs["then_branch" if condition.data.reshape(()) else "else_branch"]
    names = {v: o.name for v, o in zip(branch.outputs, node.outputs)}  # so that results keep theirs
    return tuple(sweep.inlined(branch, captures, node.name, names)[: len(node.outputs)])
