"""Runs any graph in NumPy, node by node, through the operators' references: the oracle of every other backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.backend import Capabilities, Request, Stage
from graphc.backends.cpu.parts import PARTS
from graphc.executable import Executable, check_results
from graphc.graph import Graph, Node, Value
from graphc.interpret import interpret, run_graph
from graphc.report import MemoryReport, PassInfo, Pending, Plan
from graphc.types import TensorType

if TYPE_CHECKING:
    from graphc.model_folder import ModelFolder

TARGETS = ("reference",)


def run(graph: Graph, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The graph's results by output name, for inputs by name.

    Raises InputError for wrong names, dtypes or shapes, and GraphcError naming the node that fails.
    """
    return interpret(graph, feeds)


@dataclass(frozen=True)
class Trace:
    """Results by output name, and everything that was computed on the way by its Value."""

    outputs: dict[str, np.ndarray]
    values: dict[Value, np.ndarray]


def trace(graph: Graph, feeds: Mapping[str, np.ndarray]) -> Trace:
    """As `run`, with the result of every node recorded; takes the memory of all of them.

    Of If, Loop and Scan only the results are recorded. Raises what `run` raises.
    """
    values = tuple(v for node in graph.nodes for v in node.outputs)
    names = tuple(f"{i}" for i in range(len(values)))
    everything = interpret(replace(graph, outputs=values, output_names=names, states=()), feeds)
    recorded = {v: everything[n] for v, n in zip(values, names)}
    known = {v: np.asarray(feeds[v.name]) for v in graph.inputs} | recorded
    outputs = {n: v.data if v.is_const else known[v] for n, v in zip(graph.output_names, graph.outputs)}
    return Trace(outputs, recorded)


def open_backend(request: Request) -> ReferenceBackend:
    """It has no options: those of other targets change nothing that NumPy does."""
    return ReferenceBackend()


class ReferenceBackend:
    """See graphc/backend.py. A bound graph is what runs."""

    target = "reference"
    capabilities = Capabilities()
    parts = PARTS  # of the CPU: nothing to leave out here, but one set of options serves both

    def kernel_operators(self) -> frozenset[str]:
        from graphc.op import all_ops

        return frozenset(all_ops())

    def compiles(self, node: Node) -> bool:
        return False

    def stages(self) -> tuple[Stage, ...]:
        return ()

    def draft(self, graph: Graph) -> Graph:
        return graph

    def executable(self, graph: Graph, passes: tuple[PassInfo, ...], key: str | None) -> Executable:
        return ReferenceExecutable(graph, passes)

    def outlook(self, graph: Graph) -> tuple[Pending, ...]:
        why = "target 'reference'"
        return tuple(
            Pending(n.name, n.op.name, ", ".join(str(v.type or "?") for v in n.outputs), True, why) for n in graph.nodes
        )

    def roofline(self) -> None:
        return None

    def forget(self) -> None:
        pass

    def identity(self) -> list[Any]:
        return ["reference"]

    def keep_in(self, entry: ModelFolder, document: dict[str, Any]) -> None:
        raise NotImplementedError("it keeps nothing")

    def load(self, key: str) -> None:
        return None


class ReferenceExecutable(Executable):
    plan: Plan

    def __init__(self, graph: Graph, passes: tuple[PassInfo, ...]) -> None:
        self.graph = graph
        shapes = {v.name: v.type.shape for v in graph.inputs}
        self.plan = Plan("reference", 1, shapes, (), MemoryReport(0, 0, 0, 0), (), passes)

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        results = [np.array(r, order="C") for r in run_graph(self.graph, arrays)]  # may be inputs, constants or views
        if out is not None:
            check_results(out, [(n, TensorType(r.dtype, r.shape)) for n, r in zip(self.graph.output_names, results)])
            for k, buffer in enumerate(out):
                if buffer is not None:
                    buffer[...] = results[k]
                    results[k] = buffer
        return results
