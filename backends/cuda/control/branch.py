"""If: the steps of both branches, one after the other, of which one is jumped over."""

from __future__ import annotations

from functools import partial

from graphc.backends.cuda.control.held import append, jump, steps_of
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import RULES, lowers
from graphc.lower.fuse import Group
from graphc.lower.held import BRANCHES, branch_reason, dense


@lowers("If", supported=partial(branch_reason, RULES))
def lower_if(lo: CudaLowering, group: Group) -> None:
    (node,) = group.nodes
    condition = dense(lo, node.inputs[0])
    results = [lo.write(v) for v in node.outputs]
    programs = []
    for key in BRANCHES:
        graph = node.attrs[key]
        read = {v for n in graph.nodes for v in n.operands} | set(graph.outputs)
        places = [lo.read(x) if v in read else None for v, x in zip(graph.inputs, node.inputs[1:])]
        programs.append(steps_of(lo, graph, places, results))
    then, other = programs
    jump(lo, node, len(then.steps) + 1, "to the else branch where the condition is false", condition, 0)
    append(lo, then)
    jump(lo, node, len(other.steps), "over the else branch")
    append(lo, other)
