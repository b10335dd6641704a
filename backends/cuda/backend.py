"""The CUDA backend: how a program for the GPU is made and run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from graphc.backend import Capabilities
from graphc.backends.cuda.options import CudaOptions
from graphc.executable import Executable, check_results
from graphc.lower.weights import WeightStore
from graphc.report import Pending, Plan

if TYPE_CHECKING:
    from graphc.backend import Part, Progress, Stage
    from graphc.backends.cuda.stages import Draft
    from graphc.classes import Many
    from graphc.graph import Graph, Node
    from graphc.model_folder import ModelFolder
    from graphc.report import PassInfo, Roofline, StepInfo

Run: TypeAlias = Callable[[Sequence[np.ndarray], "Sequence[np.ndarray | None] | None"], list[np.ndarray]]


class CudaBackend:
    """The CUDA backend for one model: its constants. See graphc/backend.py."""

    capabilities = Capabilities(needs_static_shapes=True)
    parts: tuple[Part, ...] = ()

    def __init__(self, options: CudaOptions, cache: bool = True, progress: Progress | None = None) -> None:
        self.options, self.cache, self.progress = options, cache, progress
        self.target = "cuda:emulate" if options.emulate else "cuda"
        self._weights = WeightStore()

    def identity(self) -> list[Any]:
        return self.options.identity()

    def kernel_operators(self) -> frozenset[str]:
        from graphc.backends.cuda.lower.registry import RULES, load_lowerings

        load_lowerings()
        return RULES.operators()

    def compiles(self, node: Node) -> bool:
        from graphc.backends.cuda.lower.registry import host_reason
        from graphc.op import Deferred

        try:
            return host_reason(node) is None
        except Deferred:  # not all of its types are known
            return False

    def stages(self) -> tuple[Stage, ...]:
        from graphc.backends.cuda.stages import STAGES

        return STAGES

    def draft(self, graph: Graph, many: Many | None = None) -> Draft:
        from graphc.backends.cpu.checked import wanted
        from graphc.backends.cuda.stages import Draft

        return Draft(graph, self._weights, self.options, wanted())

    def outlook(self, graph: Graph) -> tuple[Pending, ...]:
        from graphc.backends.cuda.lower.registry import RULES, load_lowerings
        from graphc.backends.outlook import outlook

        load_lowerings()
        return outlook(graph, RULES)

    def roofline(self) -> Roofline | None:
        return None  # of the card: not known where there is none

    def forget(self) -> None:
        self._weights = WeightStore()  # plans that run keep what they use

    def keep_in(self, entry: ModelFolder, document: dict[str, Any]) -> None:
        raise NotImplementedError("it keeps no plans")

    def load(self, key: str) -> None:
        return None

    def load_many(self, key: str, arrays: Sequence[np.ndarray]) -> None:
        return None

    def keeps_plans(self) -> bool:
        return False

    def executable(
        self, graph: Graph, passes: tuple[PassInfo, ...], key: str | None = None, many: Many | None = None
    ) -> CudaExecutable:
        draft = self.draft(graph)
        self._weights.begin(None)
        try:
            for stage in self.stages():
                stage.run(draft)
        except BaseException:
            self._weights.undo()
            raise
        self._weights.end()
        return CudaExecutable(draft, passes, self.target, *self._runner(draft))

    def _runner(self, d: Draft) -> tuple[Run, tuple[StepInfo, ...]]:
        """What runs it, and its steps."""
        from graphc.backends.cuda.runtime.ahead import AheadRun
        from graphc.backends.cuda.runtime.checked_run import CheckedRun
        from graphc.backends.cuda.runtime.emulated import EmulatedRun

        arch = self.options.arch
        if not self.options.emulate:
            ahead = AheadRun(d, arch, self.cache, self.progress)
            return ahead, ahead.steps
        steps = tuple(s.info for s in d.lowering.program.steps)
        return CheckedRun(d, arch, self.cache) if d.checked else EmulatedRun(d, arch, self.cache), steps


class CudaExecutable(Executable):
    """A program, and what runs it."""

    plan: Plan

    def __init__(
        self, d: Draft, passes: tuple[PassInfo, ...], target: str, run: Run, infos: tuple[StepInfo, ...]
    ) -> None:
        self._results = [(n, v.type) for n, v in zip(d.graph.output_names, d.graph.outputs)]
        self._run = run
        shapes = {v.name: v.type.shape for v in d.graph.inputs}
        self.plan = Plan(target, 1, shapes, infos, d.memory, d.notes, passes, self._measure)

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        if out is not None:
            check_results(out, self._results)
        return self._run(arrays, out)

    def _measure(self, feeds: Mapping[str, np.ndarray], rounds: int) -> list[float]:
        from graphc.errors import UnsupportedError

        raise UnsupportedError("times of emulated kernels say nothing about a GPU: there is no profile of them")
