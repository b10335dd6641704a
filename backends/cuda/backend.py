"""The CUDA backend: how a program for the GPU is made and run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.backend import Capabilities
from graphc.backends.cuda.options import CudaOptions
from graphc.executable import Executable, check_results
from graphc.lower.weights import WeightStore
from graphc.report import Pending, Plan

if TYPE_CHECKING:
    from graphc.backend import Part, Stage
    from graphc.backends.cuda.stages import Draft
    from graphc.classes import Many
    from graphc.graph import Graph, Node
    from graphc.model_folder import ModelFolder
    from graphc.report import PassInfo, Roofline


class CudaBackend:
    """The CUDA backend for one model: its constants. See graphc/backend.py."""

    capabilities = Capabilities(needs_static_shapes=True)
    parts: tuple[Part, ...] = ()

    def __init__(self, options: CudaOptions) -> None:
        self.options = options
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
        from graphc.backends.cuda.runtime.checked import wanted
        from graphc.backends.cuda.stages import Draft

        return Draft(graph, self._weights, self.options.host, wanted())

    def outlook(self, graph: Graph) -> tuple[Pending, ...]:
        from graphc.backends.cuda.outlook import outlook

        return outlook(graph)

    def roofline(self) -> Roofline | None:
        return None  # of the card: not known where there is none

    def forget(self) -> None:
        self._weights = WeightStore()  # plans that run keep what they use

    def keep_in(self, entry: ModelFolder, document: dict[str, Any]) -> None:
        raise NotImplementedError("it keeps no plans")

    def load(self, key: str) -> None:
        return None

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
        return CudaExecutable(draft, passes, self.target, self.options.arch)


class CudaExecutable(Executable):
    """A program whose kernels run in the emulator."""

    def __init__(self, d: Draft, passes: tuple[PassInfo, ...], target: str, arch: tuple[int, int]) -> None:
        from graphc.backends.cuda.runtime.checked_run import CheckedRun
        from graphc.backends.cuda.runtime.emulated import EmulatedRun

        self._results = [(n, v.type) for n, v in zip(d.graph.output_names, d.graph.outputs)]
        self._run = CheckedRun(d, arch) if d.checked else EmulatedRun(d, arch)
        infos = tuple(s.info for s in d.lowering.program.steps)
        shapes = {v.name: v.type.shape for v in d.graph.inputs}
        self.plan = Plan(target, 1, shapes, infos, d.memory, d.notes, passes, self._measure)

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        if out is not None:
            check_results(out, self._results)
        return self._run(arrays, out)

    def _measure(self, feeds: Mapping[str, np.ndarray], rounds: int) -> list[float]:
        from graphc.errors import UnsupportedError

        raise UnsupportedError("times of emulated kernels say nothing about a GPU: there is no profile of them")
