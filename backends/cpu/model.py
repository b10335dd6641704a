"""One model on the CPU: its packed constants, and its plans, in memory and on disk."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from graphc.backends.cpu import checked
from graphc.backends.cpu.arenas import Arenas
from graphc.backends.cpu.plans import CpuPlan, KernelName, PlanFolder, Report, can_keep
from graphc.backends.cpu.run import Runner
from graphc.backends.cpu.target import cpu_count, detect, machine
from graphc.backends.cpu.threads import executor, runtime_kernels
from graphc.errors import GraphcWarning

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.algorithms import Policy
    from graphc.backends.cpu.target import Target
    from graphc.backends.cpu.weights import SegmentWriter, WeightStore
    from graphc.graph import Graph
    from graphc.report import PassInfo
    from graphc.store import Entry

Progress = Callable[[str, int, int], None]


class CpuModel:
    """Plans of one graph. isa: see `detect`; threads: None for all CPUs that the process may use; without:
    algorithms to leave out; winograd, tune: see `graphc.compile`."""

    def __init__(
        self,
        isa: str | None,
        threads: int | None,
        cache: bool,
        progress: Progress | None,
        without: Collection[str] = (),
        winograd: int = 6,
        tune: bool = False,
    ) -> None:
        self.isa, self.threads = isa, int(threads or cpu_count())
        self.cache, self.progress, self.without = cache, progress, without
        self.winograd, self.tune = winograd, tune
        self.checked = checked.wanted()  # then plans are neither read nor kept
        if isa:
            detect(isa)  # a name that nobody has is an error now; the default is looked up when code is made
        self.folder: PlanFolder | None = None
        self._weights: WeightStore | None = None
        self._arenas = Arenas()

    def identity(self) -> list:
        """What plans depend on besides the graph. (`detect` would load LLVM.)"""
        return ["cpu", self.isa or os.environ.get("GRAPHC_ISA"), self.threads, machine()]

    @cached_property
    def target(self) -> Target:
        return detect(self.isa)

    def keep_in(self, entry: Entry, document: dict[str, Any]) -> None:
        """Plans are read from and written to this folder. document: what its model.json is to say."""
        self.folder = PlanFolder(entry, document)

    def forget(self) -> None:
        """Let go of what only further plans would need; plans that run keep what they use."""
        self._weights = None

    def load(self, key: str) -> tuple[CpuPlan, Runner] | None:
        """A plan from disk."""
        found = self.folder.load(key) if self.folder is not None and not self.checked else None
        if found is None:
            return None
        plan, addresses, runs = found
        return plan, self._runner(plan, addresses, runs)

    def compile(self, graph: Graph, passes: tuple[PassInfo, ...], key: str | None = None) -> tuple[CpuPlan, Runner]:
        """Compile a bound graph, and keep its plan under `key`, where that can be done."""
        from graphc.backends.cpu.compile import is_native
        from graphc.backends.cpu.weights import Full

        keep = key is not None and self.folder is not None and not self.checked and is_native(graph, self.target)
        writer = self._writer() if keep else None
        try:
            if writer is None:
                return self._compile(graph, passes, key, None)
            try:
                return self._compile(graph, passes, key, writer)
            except Full as error:
                self._warn(error)
                return self._compile(graph, passes, key, None)
        finally:
            if writer is not None:
                writer.close()
                self.folder.entry.unlock()

    def _warn(self, error: Exception) -> None:
        text = f"the plan cache {self.folder.entry.folder.parent} can't be written: {error}"
        warnings.warn(text, GraphcWarning, stacklevel=2)

    def _policy(self, graph: Graph) -> Policy:
        from graphc.backends.cpu.lower.algorithms import Policy

        policy = Policy(self.winograd, strassen="strassen" not in self.without)
        if not self.tune:
            return policy
        from graphc.backends.cpu.tune import measured

        return replace(policy, measured=measured(graph, self.target, self.threads, policy, self.cache, self.progress))

    @property
    def weights(self) -> WeightStore:
        from graphc.backends.cpu.weights import WeightStore

        if self._weights is None:
            self._weights = WeightStore()
            if self.folder is not None:
                self._weights.known = self.folder.known()
        return self._weights

    def _writer(self) -> SegmentWriter | None:
        """None where another process is writing this model's folder, or it can't be written."""
        if not self.folder.lock():
            return None
        try:
            return self.folder.writer()
        except OSError as error:
            self._warn(error)
            return None

    def _compile(
        self, graph: Graph, passes: tuple[PassInfo, ...], key: str | None, writer: SegmentWriter | None
    ) -> tuple[CpuPlan, Runner]:
        from graphc.backends.cpu.compile import lower
        from graphc.backends.cpu.toolchain import toolchain

        policy = self._policy(graph)
        weights = self.weights
        weights.begin(writer)
        try:
            tools = toolchain(self.target, self.cache)
            runtime = runtime_kernels(self.threads)
            with tools.expecting(runtime):
                lowered = lower(graph, self.target, self.threads, weights, self.progress, policy, self.checked)
                addresses = tools.addresses([*lowered.kernels, *runtime], self.progress)
            report = Report(lowered.steps, lowered.memory, lowered.notes, passes)
            plan = CpuPlan(
                str(self.target),
                self.threads,
                tuple((v.name, v.type) for v in graph.inputs),
                lowered.results,
                lowered.assembled,
                tuple(KernelName(k.name, k.spec, k.symbol) for k in (*lowered.kernels, *runtime)),
                lambda: report,
            )
            keep = writer is not None and can_keep(plan, writer.segment)
            if writer is not None:
                self.folder.adopt(writer, weights.added(), keep)
        except BaseException:
            weights.undo()
            if writer is not None:
                writer.discard()
            raise
        weights.end()
        if keep:
            try:
                self.folder.save(key, plan, tools)
            except OSError as error:
                self._warn(error)
        runner = self._runner(plan, [addresses[k] for k in lowered.kernels], executor(tools, self.threads))
        if lowered.checkable is not None:
            from graphc.backends.cpu.checked.run import CheckedRunner

            runner = CheckedRunner(lowered.checkable, addresses, runner)
        return plan, runner

    def _runner(self, plan: CpuPlan, addresses: list[int], runs: Any) -> Runner:
        names, results = [n for n, _ in plan.results], [(t.shape, t.dtype) for _, t in plan.results]
        return Runner(plan.assembled, addresses, runs, results, names, self._arenas)
