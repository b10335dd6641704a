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
    new: dict[Value, Value] = dict(zip(branch.inputs, captures))
    names = {v: o.name for v, o in zip(branch.outputs, node.outputs)}  # so that results keep theirs
    for inner in branch.nodes:
        made = sweep.add(
            inner.op,
            *(None if v is None else new.get(v, v) for v in inner.inputs),
            name=f"{node.name}/{inner.name}",
            outputs=[names.get(v, f"{node.name}/{v.name}") for v in inner.outputs],
            source=inner.source,
            **inner.attrs,
        )
        new.update(zip(inner.outputs, made if isinstance(made, tuple) else (made,)))
    return tuple(new.get(v, v) for v in branch.outputs[: len(node.outputs)])
