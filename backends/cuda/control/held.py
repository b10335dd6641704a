"""The steps of graphs that If, Loop and Scan hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphc.backends.cuda.lower.channels import gains
from graphc.backends.cuda.lower.groups import grouped
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.graph import Graph, Node
from graphc.lower.channels import assign_channels_last
from graphc.lower.held import lower_held, place_held, wanted_of
from graphc.lower.placement import place_concatenations
from graphc.lower.program import Jump, Program
from graphc.lower.storage import Buffer, Ref, Storage
from graphc.passes.rewrite import remove_dead
from graphc.report import StepInfo


def steps_of(
    lo: CudaLowering, graph: Graph, given: Sequence[Storage | None], results: Sequence[Storage | None]
) -> Program:
    """Of a held graph. given: where its inputs are (None for those that it does not read); results: where its outputs are to be,
    None for those that nobody needs."""
    graph, places = wanted_of(graph, results)
    graph = remove_dead(graph)
    groups, _ = grouped(graph, lambda node: True)
    inner = lo.inner()
    place_held(inner, graph, groups, given, places)
    assign_channels_last(inner, groups, [True] * len(groups), gains)
    place_concatenations(inner, groups)
    return lower_held(inner, graph, groups, places)


def append(lo: CudaLowering, program: Program) -> None:
    for step in program.steps:
        lo.program.steps.append(replace(step, info=replace(step.info, index=len(lo.program.steps))))


def jump(
    lo: CudaLowering,
    node: Node,
    distance: int,
    why: str,
    condition: Ref | None = None,
    when: int = 1,
    times: int = 0,
    holds: Sequence[Buffer] = (),
) -> None:
    """See `Jump`. why: for people."""
    info = StepInfo(len(lo.program.steps), (node.name,), (node.op.name,), "jump", "", why, node.output.name)
    lo.program.steps.append(Jump(distance, info, condition, when, times, tuple(holds)))
