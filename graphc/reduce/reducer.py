"""The search for the smallest case that fails as a given one does."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphc.bind import bind
from graphc.errors import DeviceError, InputError
from graphc.graph import Graph, Node
from graphc.objects import ObjectType
from graphc.reduce.case import Case, only_results, resized
from graphc.reduce.delta import ddmin
from graphc.reduce.verdict import Trial, Verdict
from graphc.reduce.worker import Worker
from graphc.types import TensorType

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Reduced:
    """The smallest case found, what is wrong with it, and how many were tried."""

    case: Case
    verdict: Verdict
    tried: int


def reduce(
    case: Case, trial: Trial | None = None, *, seconds: float = 600.0, say: Progress = lambda text: None
) -> Reduced:
    """Cut a case that fails: nodes first, then results, then sizes. Each step fails in the same way (a difference, an error of the
    same class, a crash with the same signal, a hang); the last is one of which no node can be left out any more.

    trial: how it is tried, in a process of its own; seconds: after which nothing smaller is looked for; say: called with each
    step. Raises InputError where nothing is wrong with the case, DeviceError where it fails for what the machine lacks.
    """
    trial = trial or Trial()
    trial = replace(trial, imports=(*trial.imports, *(f for f in own_files(case.graph) if f not in trial.imports)))
    with Worker(trial) as worker:
        verdict = worker.verdict(case)
        if not verdict:
            hint = "compare it with something else (--against onnxruntime), with the inputs that failed (--input), or on the target (--target)"
            raise InputError(f"nothing is wrong with {case.graph.name}: there is nothing to reduce", hint=hint)
        if verdict.of_machine:
            raise DeviceError(f"it fails for what this machine lacks, not for the model: {verdict.text}")
        say(f"{verdict.kind}: {verdict.text.splitlines()[0]}")
        say(f"begins with {case}")
        search = _Search(worker, case, verdict, time.monotonic() + seconds, say)
        search.bind()
        search.nodes()
        search.results()
        search.sizes()
        search.nodes()
        return Reduced(search.case, search.verdict, worker.tried)


def own_domains(graph: Graph) -> set[str]:
    """The domains of operators that graphc does not have, which only their own file explains."""
    names = {n.op.name for n in graph.nodes if not n.op.reference.__module__.startswith("graphc.")}
    return {name.rpartition("::")[0] for name in names}


def own_files(graph: Graph) -> list[str]:
    """The files of operators that graphc does not have."""
    found: dict[str, None] = {}
    for node in graph.nodes:
        function = inspect.unwrap(node.op.reference)
        file = inspect.getsourcefile(function) if inspect.isfunction(function) else None
        if file is not None and not function.__module__.startswith("graphc."):
            found[file] = None
        for held in node.attrs.values():
            if isinstance(held, Graph):
                found |= dict.fromkeys(own_files(held))
    return list(found)


class _Search:
    def __init__(self, worker: Worker, case: Case, verdict: Verdict, end: float, say: Progress) -> None:
        self.case, self.verdict = case, verdict
        self._worker, self._wanted, self._end, self._say = worker, verdict, end, say

    def _takes(self, case: Case | None) -> bool:
        """Does it fail in the same way? Then it is the one from here on."""
        if case is None or time.monotonic() > self._end:
            return False
        verdict = self._worker.verdict(case)
        if not verdict.is_like(self._wanted):
            return False
        self.case, self.verdict = case, verdict
        self._say(f"try {self._worker.tried}: {case}")
        return True

    def bind(self) -> None:
        """To the inputs' shapes, so that parts have types; where it then fails no more, it stays as it is."""
        graph, feeds = self.case.graph, self.case.feeds
        tensors = {v.name: np.asarray(feeds[v.name]) for v in graph.inputs if not isinstance(v.type, ObjectType)}
        self._takes(Case(bind(graph, {n: TensorType(a.dtype, a.shape) for n, a in tensors.items()}), feeds))

    def nodes(self) -> None:
        recording = self._worker.recording(self.case)

        def holds(nodes: Sequence[Node]) -> bool:
            return self._takes(recording.part(nodes))

        ddmin(self.case.graph.nodes, holds)

    def results(self) -> None:
        """One result, where one is enough."""
        count = len(self.case.graph.outputs)
        if count > 1:
            whole = self.case
            found = self.verdict.results or range(count)
            any(self._takes(only_results(whole, [i])) for i in found) or ddmin(
                range(count), lambda kept: self._takes(only_results(whole, kept))
            )

    def sizes(self) -> None:
        """Dims of one size together, the largest first, to the smallest power of two that still fails."""
        for size in sorted({d for a in _arrays(self.case) for d in a.shape if d > 1}, reverse=True):
            whole = self.case
            any(self._takes(resized(whole, size, 1 << k)) for k in range((size - 1).bit_length()))


def _arrays(case: Case) -> list[np.ndarray]:
    return [v.data for v in case.graph.constants()] + [a for a in case.feeds.values() if isinstance(a, np.ndarray)]
