"""The steps of graphs that If, Loop and Scan hold."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.cpu.lower.groups import grouped, laid_out
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.rules import choices_of, converts
from graphc.graph import Graph
from graphc.lower.channels import assign_channels_last
from graphc.lower.held import lower_held, place_held, wanted_of
from graphc.lower.placement import place_concatenations
from graphc.lower.program import Program
from graphc.lower.storage import Storage
from graphc.passes.rewrite import remove_dead


def steps_of(
    lo: CpuLowering, graph: Graph, given: Sequence[Storage | None], results: Sequence[Storage | None]
) -> Program:
    """Of a held graph. given: where its inputs are (None for those that it does not read); results: where its outputs are to be,
    None for those that nobody needs."""
    graph, places = wanted_of(graph, results)
    graph = remove_dead(graph)
    choices = choices_of(graph, lo.target, lo.policy)
    graph = laid_out(graph, lo.target, lo.policy, choices)
    groups, _ = grouped(graph, lo.target, lo.policy, choices, lambda n: True)
    inner = CpuLowering(lo.target, lo.threads, lo.weights, lo.policy, choices, lo.checked)
    place_held(inner, graph, groups, given, places, lo.policy.uses("results_in_place"))
    assign_channels_last(inner, groups, [True] * len(groups), converts)
    if lo.policy.uses("concat_in_place"):
        place_concatenations(inner, groups)
    return lower_held(inner, graph, groups, places)
