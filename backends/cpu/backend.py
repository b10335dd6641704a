"""The CPU backend: what a model's plans share, and how one is made, kept and run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.backend import Capabilities
from graphc.backends.cpu import checked
from graphc.backends.cpu.options import CpuOptions
from graphc.backends.cpu.parts import PARTS
from graphc.backends.cpu.runtime.arenas import Arenas
from graphc.backends.cpu.runtime.plans import CpuPlanFolder
from graphc.backends.cpu.runtime.process import runtime_of
from graphc.backends.cpu.runtime.run import Runner
from graphc.backends.cpu.runtime.threads import runtime_kernels
from graphc.errors import GraphcWarning, InputError
from graphc.executable import Executable
from graphc.lower.plans import CompiledPlan, KernelName, Report, can_keep
from graphc.objects import as_input

if TYPE_CHECKING:
    from graphc.backend import Progress, Stage
    from graphc.backends.cpu.checked.run import CheckedRunner
    from graphc.backends.cpu.lower.policy import Policy
    from graphc.backends.cpu.stages import Draft
    from graphc.backends.cpu.target import Target
    from graphc.classes import Many
    from graphc.graph import Graph, Node
    from graphc.lower.segment import SegmentWriter
    from graphc.lower.weights import WeightStore
    from graphc.model_folder import ModelFolder
    from graphc.report import PassInfo, Pending, Plan, Roofline
    from graphc.types import TensorType


class CpuBackend:
    """The CPU backend for one model: its packed constants, its arenas, its plans on disk. See graphc/backend.py."""

    @property
    def capabilities(self) -> Capabilities:
        """A plan is tuned, or looked at step by step, for its shapes alone."""
        many = not self.options.tune and not self.checked
        return Capabilities(stores_plans=True, maps_files=True, needs_static_shapes=True, many_sizes=many)

    parts = PARTS

    def __init__(self, options: CpuOptions, cache: bool = True, progress: Progress | None = None) -> None:
        self.options, self.cache, self.progress = options, cache, progress
        self.target = f"cpu:{options.isa}" if options.isa else "cpu"
        self.checked = checked.wanted()  # then plans are neither read nor kept
        self.folder: CpuPlanFolder | None = None
        self._weights: WeightStore | None = None
        self._arenas = Arenas()

    # --- what it can do ------------------------------------------------------------------------------------------
    def identity(self) -> list[Any]:
        return self.options.identity()

    @cached_property
    def machine(self) -> Target:
        """The instruction set."""
        from graphc.backends.cpu.target import detect

        return detect(self.options.isa)

    def kernel_operators(self) -> frozenset[str]:
        from graphc.backends.cpu.native import kernel_operators

        return kernel_operators()

    def compiles(self, node: Node) -> bool:
        from graphc.backends.cpu.native import host_reason
        from graphc.op import Deferred

        try:
            return host_reason(node, self.machine) is None
        except Deferred:  # not all of its types are known
            return False

    def stages(self) -> tuple[Stage, ...]:
        from graphc.backends.cpu.stages import STAGES

        return STAGES

    def outlook(self, graph: Graph) -> tuple[Pending, ...]:
        from graphc.backends.cpu.lower.registry import RULES
        from graphc.backends.cpu.native import load_lowerings
        from graphc.backends.outlook import outlook

        load_lowerings()
        return outlook(graph, RULES, self.machine)

    def roofline(self) -> Roofline:
        from graphc.backends.cpu.roofline import roofline

        return roofline(self.machine, self.options.threads)

    # --- plans ---------------------------------------------------------------------------------------------------
    def keep_in(self, entry: ModelFolder, document: dict[str, Any]) -> None:
        self.folder = CpuPlanFolder(entry, document)

    def forget(self) -> None:
        self._weights = None  # plans that run keep what they use

    @property
    def _kept(self) -> CpuPlanFolder | None:
        return None if self.checked else self.folder

    def load(self, key: str) -> CpuExecutable | None:
        found = None if self._kept is None else self._kept.load(key)
        if found is None:
            return None
        plan, addresses, runs = found
        return CpuExecutable(plan, self._runner(plan, addresses, runs))

    def keeps_plans(self) -> bool:
        return self._kept is not None and self._kept.entry.has_plans()

    def load_many(self, key: str, arrays: Sequence[np.ndarray]) -> CpuExecutable | None:
        found = None if self._kept is None else self._kept.load_many(key, arrays)
        return None if found is None else CpuExecutable(found[0], self._runner(*found))

    def keep_cut(self, key: str, document: dict[str, Any]) -> None:
        if self._kept is not None:
            try:
                self._kept.keep_cut(key, document)
            except OSError as error:
                self._warn(error)

    def load_cut(self, key: str) -> dict[str, Any] | None:
        return None if self._kept is None else self._kept.cut(key)

    def load_cuts(self, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
        return iter(()) if self._kept is None else self._kept.cuts(key)

    def executable(
        self, graph: Graph, passes: tuple[PassInfo, ...], key: str | None = None, many: Many | None = None
    ) -> CpuExecutable:
        from graphc.backends.cpu.native import is_native
        from graphc.lower.segment import SegmentWriteError

        folder = None if key is None else self._kept
        writer = self._writer(folder) if folder is not None and is_native(graph, self.machine) else None
        try:
            if writer is None:
                return self._compile(graph, passes, key, None, many)
            try:
                return self._compile(graph, passes, key, writer, many)
            except SegmentWriteError as error:
                self._warn(error)
                return self._compile(graph, passes, key, None, many)
        finally:
            if folder is not None and writer is not None:
                writer.close()
                folder.entry.unlock()

    def _warn(self, error: Exception) -> None:
        assert self.folder is not None
        text = f"the plan cache {self.folder.entry.folder.parent} can't be written: {error}"
        warnings.warn(text, GraphcWarning, stacklevel=2)

    def draft(self, graph: Graph, many: Many | None = None) -> Draft:
        from graphc.backends.cpu.stages import Draft

        o, policy = self.options, self._policy(graph)
        return Draft(graph, self.machine, o.threads, self.weights, policy, self.progress, self.checked, many)

    def _policy(self, graph: Graph) -> Policy:
        from graphc.backends.cpu.lower.policy import Policy

        o = self.options
        policy = Policy(0 if "winograd" in o.disabled else o.winograd, o.disabled, precision=o.precision)
        if not o.tune:
            return policy
        from graphc.backends.cpu.tune import measured

        return replace(policy, measured=measured(graph, self.machine, o.threads, policy, self.cache, self.progress))

    @property
    def weights(self) -> WeightStore:
        from graphc.lower.weights import WeightStore

        if self._weights is None:
            self._weights = WeightStore()
            if self.folder is not None:
                self._weights.known = self.folder.known()
        return self._weights

    def _writer(self, folder: CpuPlanFolder) -> SegmentWriter | None:
        """None where another process is writing this model's folder, or it can't be written."""
        if not folder.lock():
            return None
        try:
            return folder.writer()
        except OSError as error:
            self._warn(error)
            return None

    def _compile(
        self,
        graph: Graph,
        passes: tuple[PassInfo, ...],
        key: str | None,
        writer: SegmentWriter | None,
        many: Many | None,
    ) -> CpuExecutable:
        from graphc.lower.lowered import lowered

        draft, threads = self.draft(graph, many), self.options.threads
        weights = self.weights
        weights.begin(writer)
        try:
            runtime = runtime_of(self.machine)
            tools, executes = runtime.toolchain(self.cache), runtime_kernels(threads)
            with tools.expecting(executes):
                done = lowered(self.stages(), draft)
                if many is not None:
                    many.settle()
                addresses = tools.addresses([*done.kernels, *executes], self.progress)
            report = Report(done.steps, done.memory, done.notes, passes)
            plan = CompiledPlan(
                str(self.machine),
                threads,
                done.inputs,
                done.results,
                done.assembled,
                tuple(KernelName(k.name, k.spec, k.symbol) for k in (*done.kernels, *executes)),
                lambda: report,
                None if many is None else many.sources,
            )
            keep = writer is not None and can_keep(plan, writer.segment)
            if writer is not None:
                assert self.folder is not None
                self.folder.adopt(writer, weights.added(), keep)
        except BaseException:
            weights.undo()
            if writer is not None:
                writer.discard()
            raise
        weights.end()
        if keep:
            assert self.folder is not None and key is not None
            try:
                self.folder.save(key if many is None else f"{key}-{many.digest()}", plan, tools)
            except OSError as error:
                self._warn(error)
        executor = runtime.executor_at(threads, [addresses[k] for k in executes])
        runner = self._runner(plan, [addresses[k] for k in done.kernels], executor)
        if draft.checked:
            from graphc.backends.cpu.checked.run import CheckedRunner
            from graphc.backends.cpu.stages import checkable

            return CpuExecutable(plan, CheckedRunner(checkable(draft), addresses, runner))
        return CpuExecutable(plan, runner)

    def _runner(self, plan: CompiledPlan, addresses: list[int], runs: Any) -> Runner:
        names, results = [n for n, _ in plan.results], [(t.shape, t.dtype) for _, t in plan.results]
        return Runner(plan.assembled, addresses, runs, results, names, self._arenas, plan.sources)


class CpuExecutable(Executable):
    """A plan with the addresses that it runs at."""

    def __init__(self, plan: CompiledPlan, runner: Runner | CheckedRunner) -> None:
        self._plan, self.program, self._run, self.quick = plan, runner, runner.run, runner.quick

    def holds(self, arrays: Sequence[np.ndarray]) -> bool:
        return isinstance(self.program, Runner) and self.program.holds(arrays)

    def refusal(self, arrays: Sequence[np.ndarray]) -> str:
        return self._plan.refusal(arrays)

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        return self._run(arrays, out)

    @property
    def plan(self) -> Plan:
        return self._reported(self._plan)

    def _reported(self, p: CompiledPlan) -> Plan:
        return p.described(partial(self._measure, p.inputs), self.because)

    def plan_for(self, arrays: Sequence[np.ndarray]) -> Plan:
        return self._reported(self._plan.bound(arrays))

    def _measure(
        self, inputs: Sequence[tuple[str, TensorType]], feeds: Mapping[str, np.ndarray], rounds: int
    ) -> list[float]:
        from graphc.interpret import check_arrays

        missing = [n for n, _ in inputs if n not in feeds]
        if missing:
            raise InputError(f"inputs are missing: {', '.join(missing)}")
        arrays = [as_input(feeds[n], t) for n, t in inputs]
        check_arrays(inputs, arrays)
        return self.program.measure(arrays, rounds)
