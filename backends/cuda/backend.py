"""The CUDA backend: how a program for the GPU is made and run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from graphc.backend import Capabilities
from graphc.backends.cpu.checked import wanted
from graphc.backends.cuda.options import CudaOptions
from graphc.backends.cuda.runtime.bound import Bindings
from graphc.executable import Executable, check_results
from graphc.lower.plans import CompiledPlan, KernelName, Report
from graphc.lower.weights import WeightStore

if TYPE_CHECKING:
    from graphc.backend import Part, Progress, Stage
    from graphc.backends.cuda.stages import Draft
    from graphc.classes import Many
    from graphc.graph import Graph, Node
    from graphc.lower.lowered import Lowered
    from graphc.model_folder import ModelFolder
    from graphc.report import PassInfo, Pending, Plan, Roofline, StepInfo

Run: TypeAlias = Callable[[Sequence[np.ndarray], "Sequence[np.ndarray | None] | None"], list[np.ndarray]]


class CudaBackend:
    """The CUDA backend for one model: its constants. See graphc/backend.py."""

    @property
    def capabilities(self) -> Capabilities:
        """A plan is looked at step by step for its shapes alone."""
        return Capabilities(needs_static_shapes=True, many_sizes=not wanted())

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
        from graphc.backends.cuda.stages import Draft

        return Draft(graph, self._weights, self.options.host, wanted(), many)

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
        from graphc.lower.lowered import lowered

        draft = self.draft(graph, many)
        self._weights.begin(None)
        try:
            done = lowered(self.stages(), draft)
            if many is not None:
                many.settle()
        except BaseException:
            self._weights.undo()
            raise
        self._weights.end()
        return self._executable(draft, done, passes)

    def _executable(self, d: Draft, done: Lowered, passes: tuple[PassInfo, ...]) -> CudaExecutable:
        """What runs it, and its steps."""
        from graphc.backends.cuda.runtime.ahead import AheadRun
        from graphc.backends.cuda.runtime.checked_run import CheckedRun
        from graphc.backends.cuda.runtime.emulated import EmulatedRun

        arch, steps, sources = self.options.arch, done.steps, None if d.many is None else d.many.sources
        ahead = None if self.options.emulate else AheadRun(d, steps, arch, self.cache, self.progress)
        if ahead is not None:
            steps = ahead.steps
        report = Report(steps, done.memory, done.notes, passes)
        plan = CompiledPlan(
            self.target,
            1,
            done.inputs,
            done.results,
            done.assembled,
            tuple(KernelName(k.name, k.spec, k.symbol) for k in done.kernels),
            lambda: report,
            sources,
        )
        bindings = Bindings(plan)
        run: Run | None = ahead
        if run is None:
            checked = CheckedRun(d, arch, self.cache) if d.checked else None
            run = checked or EmulatedRun(plan, done.kernels, bindings, arch, self.cache)
        return CudaExecutable(plan, bindings, run, [str(k) for k in done.kernels])


class CudaExecutable(Executable):
    """A plan, and what runs it."""

    def __init__(self, plan: CompiledPlan, bindings: Bindings, run: Run, kernels: Sequence[str]) -> None:
        """kernels: names that people see, by index."""
        self._plan, self._bindings, self._run, self._kernels = plan, bindings, run, kernels

    def holds(self, arrays: Sequence[np.ndarray]) -> bool:
        return self._bindings.holds(arrays)

    def refusal(self, arrays: Sequence[np.ndarray]) -> str:
        return self._plan.refusal(arrays)

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        if out is not None:
            check_results(out, self._bindings.of(arrays).results)
        return self._run(arrays, out)

    @property
    def plan(self) -> Plan:
        return self._plan.described(self._measure, self.because)

    def plan_for(self, arrays: Sequence[np.ndarray]) -> Plan:
        told = self._plan.bound(arrays).described(self._measure, self.because)
        called = zip(self._plan.assembled.blocks[:, 0].tolist(), self._bindings.of(arrays).launches[:, 0].tolist())
        names = iter([(self._kernels[i], self._kernels[k]) for i, k in called])
        return replace(told, steps=tuple(s if s.host else _renamed(s, *next(names)) for s in told.steps))

    def _measure(self, feeds: Mapping[str, np.ndarray], rounds: int) -> list[float]:
        from graphc.errors import UnsupportedError

        raise UnsupportedError("times of emulated kernels say nothing about a GPU: there is no profile of them")


def _renamed(step: StepInfo, example: str, kernel: str) -> StepInfo:
    """A step that tells the kernel of the example, which sizes have chosen anew."""
    return replace(step, kernel=kernel) if step.kernel == example else step
