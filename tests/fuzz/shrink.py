"""A failing model with a few nodes: results, nodes, sizes and options are left out as long as it fails.

What a node that was left out computed becomes an input with the value that it had.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from onnx import NodeProto, helper, numpy_helper

from .case import Case, Options, declared, whole
from .evaluate import Tensor, read_names, value_info

Fails = Callable[[Case], bool]


def shrink(case: Case, fails: Fails, seconds: float = 30.0) -> Case:
    """The smallest case found in that time that still fails; the case itself where it does not fail again."""
    end = time.monotonic() + seconds
    if not fails(case):
        return case
    progress = True
    while progress:
        progress = False
        for smaller in _smaller(case):
            if time.monotonic() > end:
                return case
            if smaller is not None and fails(smaller):
                case, progress = smaller, True
                break
    return case


def _smaller(case: Case) -> Iterator[Case | None]:
    """Cases with less in them, those with much less first."""
    nodes = list(case.model.graph.node)
    if len(case.feeds) > 1:
        yield from (one_world(case, w) for w in range(len(case.feeds)))
    yield from _results(case, nodes)
    size = len(nodes) // 2
    while size:
        for i in range(0, len(nodes), size):
            yield reduced(case, nodes[:i] + nodes[i + size :], case.outputs)
        size //= 2
    how = case.options
    for options in (Options(), replace(how, disabled=()), replace(how, winograd=6), replace(how, threads=1)):
        if options != how:
            yield replace(case, options=options)


def _results(case: Case, nodes: Sequence[NodeProto]) -> Iterator[Case | None]:
    """One of the results only; or what is computed on the way to it."""
    outputs = list(dict.fromkeys(case.outputs))
    if len(case.outputs) > 1:
        yield from (reduced(case, nodes, [n]) for n in outputs)
        for n in outputs:
            rest = list(case.outputs)
            rest.remove(n)
            yield reduced(case, nodes, rest)
    else:
        for node in nodes[:-1]:
            yield from (reduced(case, nodes, [n]) for n in node.output if n)


def one_world(case: Case, world: int) -> Case:
    """The case for that binding of its open dims only, which become numbers."""
    tensors = {n: replace_worlds(t, (t.worlds[world],)) for n, t in case.tensors.items()}
    alone = replace(case, tensors=tensors, feeds=[case.feeds[world]])
    return reduced(alone, list(case.model.graph.node), case.outputs) or alone


def replace_worlds(t: Tensor, worlds: tuple) -> Tensor:
    return Tensor(t.name, t.dtype, worlds, t.constant, t.signed)


def reduced(case: Case, nodes: Sequence[NodeProto], outputs: Sequence[str]) -> Case | None:
    """The case with these nodes (those that the outputs need) and outputs; None where an output is no value of the graph."""
    kept: list[NodeProto] = []
    wanted = set(outputs)
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.insert(0, node)
            wanted |= set(read_names(node))
    made = {n for node in kept for n in node.output}
    if not wanted <= case.tensors.keys():
        return None
    constants = {n: case.tensors[n].constant for n in wanted - made if case.tensors[n].constant is not None}
    names = sorted(wanted - made - constants.keys())
    graph = helper.make_graph(
        kept,
        case.model.graph.name,
        [value_info(n, case.tensors[n].dtype, dims(case.tensors[n])) for n in names],
        [declared(case.tensors[n]) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    feeds = [{n: case.tensors[n].native(w) for n in names} for w in range(len(case.feeds))]
    return replace(case, model=whole(graph, case.opset), feeds=feeds)


def dims(t: Tensor) -> list[int | str]:
    """Open dims are named after their sizes, so that equal ones have one name."""
    shapes = t.shapes()
    return ["d" + "_".join(str(s[i]) for s in shapes) if i in t.open else n for i, n in enumerate(t.shape)]
