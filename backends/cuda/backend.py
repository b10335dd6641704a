"""The CUDA backend: how a program for the GPU is made and run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from graphc.backend import Capabilities
from graphc.backends.cuda.options import WITHOUT_GPU, CudaOptions
from graphc.backends.cuda.runtime.bound import Bindings
from graphc.errors import InputError, UnsupportedError
from graphc.executable import Executable, check_results
from graphc.growing import without_lengths
from graphc.lower.plans import CompiledPlan, KernelName, Report
from graphc.lower.weights import WeightStore
from graphc.objects import as_input

if TYPE_CHECKING:
    from graphc.backend import Part, Progress, Stage
    from graphc.backends.cuda.lower.choices import Choices
    from graphc.backends.cuda.runtime.arrays import DeviceArray
    from graphc.backends.cuda.runtime.device import Device, Stream
    from graphc.backends.cuda.runtime.states import StateMemory
    from graphc.backends.cuda.stages import Draft
    from graphc.classes import Many
    from graphc.graph import Graph, Node
    from graphc.lower.kernel import Kernel
    from graphc.lower.lowered import Lowered
    from graphc.model_folder import ModelFolder
    from graphc.report import PassInfo, Pending, Plan, Roofline, StepInfo


class Runs(Protocol):
    """What runs a program."""

    def run(self, arrays: Sequence[Any], out: Sequence[Any | None] | None, stream: Stream | None) -> list[Any]: ...

    def measure(self, arrays: Sequence[Any], rounds: int) -> list[float]: ...


class CudaBackend:
    """The CUDA backend for one model: its constants, its memory on the device. See graphc/backend.py."""

    parts: tuple[Part, ...] = ()

    def __init__(self, options: CudaOptions, cache: bool = True, progress: Progress | None = None) -> None:
        """Raises UnsupportedError where programs are to run on a GPU, and there is none."""
        from graphc.backends.cpu.checked import wanted
        from graphc.backends.cuda.runtime.workspace import Workspaces

        self.options, self.cache, self.progress = options, cache, progress
        self.target = "cuda:emulate" if options.emulate else "cuda"
        self.checked = wanted() and options.emulate
        self.device = _device(options)
        self.arch = options.arch if self.device is None else self.device.arch
        self._weights = WeightStore()
        self._workspaces = None if self.device is None else Workspaces(self.device)
        self._intake = None if self.device is None else _stream(self.device)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            needs_static_shapes=True,
            many_sizes=not self.checked and not self.options.tune,  # a plan is tuned for its shapes alone
            device_arrays=self.device is not None and not self.checked,
        )

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
        from graphc.backends.cuda.lower.choices import Choices
        from graphc.backends.cuda.stages import Draft

        options = replace(self.options, arch=self.arch)
        multiprocessors = getattr(self.device, "multiprocessors", None)
        choices = Choices()
        if options.tune:
            trial = Draft(graph, WeightStore(), options, multiprocessors=multiprocessors, choices=Choices(trials=[]))
            choices = self._tuned(trial)
        grows = many is not None and bool(many.growing)
        graph, lengths = without_lengths(graph) if grows else (graph, ())
        return Draft(graph, self._weights, options, self.checked, many, lengths, multiprocessors, choices)

    def _tuned(self, draft: Draft) -> Choices:
        """draft: as `measured` takes it. What is compiled ahead is not measured: the candidates' kernels are made."""
        from graphc.backends.cuda.codegen.cubin import cubin_of
        from graphc.backends.cuda.lower.choices import Choices
        from graphc.backends.cuda.tune import compile_candidates, measured

        if self.device is not None:
            return measured(draft, self.device, self.cache, self.progress)
        assert self.arch is not None
        compile_candidates(draft, partial(cubin_of, arch=self.arch, cache=self.cache), self.progress)
        return Choices()

    def outlook(self, graph: Graph) -> tuple[Pending, ...]:
        from graphc.backends.cuda.lower.registry import RULES, load_lowerings
        from graphc.backends.outlook import outlook

        load_lowerings()
        return outlook(graph, RULES)

    def roofline(self) -> Roofline | None:
        from graphc.backends.cuda.runtime.gpu import Gpu

        if not isinstance(self.device, Gpu):
            return None
        from graphc.backends.cuda.roofline import roofline

        return roofline(self.device)

    def forget(self) -> None:
        self._weights = WeightStore()  # plans that run keep what they use

    def keep_in(self, entry: ModelFolder, document: dict[str, Any]) -> None:
        raise NotImplementedError("it keeps no plans")

    def load(self, key: str) -> None:
        return None

    def load_many(self, key: str, arrays: Sequence[np.ndarray]) -> None:
        return None

    def keep_cut(self, key: str, document: dict[str, Any]) -> None:
        raise NotImplementedError("it keeps no plans")

    def load_cut(self, key: str) -> None:
        return None

    def load_cuts(self, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
        return iter(())

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
        from graphc.backends.cuda.codegen.cubin import cubin_of
        from graphc.backends.cuda.codegen.figures import card_of
        from graphc.backends.cuda.runtime.ahead import AheadRun, with_occupancy
        from graphc.backends.cuda.runtime.checked_run import CheckedRun
        from graphc.backends.cuda.runtime.gpu import Gpu
        from graphc.backends.cuda.runtime.run import Functions, Runner
        from graphc.lower.program import Step

        steps, kernels = done.steps, done.kernels
        report = Report(steps, done.memory, done.notes, passes)
        plan = CompiledPlan(
            self.target,
            1,
            done.inputs,
            done.results,
            done.assembled,
            tuple(KernelName(k.name, k.spec, k.symbol) for k in kernels),
            lambda: report,
            None if d.many is None else d.many.sources,
            done.lengths,
        )
        bindings = Bindings(plan)
        called = iter(done.assembled.blocks[:, 0].tolist())  # of the example, where sizes choose
        of_steps = [next(called) if isinstance(s, Step) else None for s in d.lowering.program.steps]
        if self._workspaces is None:
            assert self.arch is not None
            card = card_of(self.arch)
            cubins = self._each(kernels, partial(cubin_of, arch=self.arch, cache=self.cache))
            taken = [(c, c.occupancy(card)) for c in cubins.values()]
            report = replace(report, steps=with_occupancy(steps, of_steps, dict(enumerate(taken))))
            return CudaExecutable(plan, bindings, AheadRun(), of_steps, kernels)
        device = self._workspaces.device
        if self.checked:
            checked = CheckedRun(d, device.arch, self.cache)
            return CudaExecutable(plan, bindings, checked, of_steps, kernels, emulated=True)
        functions = Functions(device, kernels, self.cache)
        first = {kernels[i]: i for i in of_steps if i is not None}
        self._each(list(first), lambda kernel: functions[first[kernel]])
        written = {b for step in d.lowering.program.steps for b in step.writes}
        changed = [i for i, b in enumerate(d.lowering.program.inputs) if b in written]
        runner = Runner(plan, bindings, functions, d.constants, self._workspaces, changed)
        if isinstance(device, Gpu):
            loaded = {i: functions[i] for i in first.values()}
            taken_by = {i: (f.cubin, device.occupancy(f)) for i, f in loaded.items()}
            report = replace(report, steps=with_occupancy(steps, of_steps, taken_by))
        return CudaExecutable(plan, bindings, runner, of_steps, kernels, emulated=self.options.emulate)

    def _each(self, kernels: Sequence[Kernel], make: Callable[[Kernel], Any]) -> dict[Kernel, Any]:
        """What is made of each kernel; progress is told."""
        made = {}
        for i, kernel in enumerate(kernels):
            if self.progress:
                self.progress("compiling", i, len(kernels))
            made[kernel] = make(kernel)
        if self.progress:
            self.progress("compiling", len(kernels), len(kernels))
        return made

    # --- arrays and streams of callers ---------------------------------------------------------------------------
    def device_array(self, a: Any) -> DeviceArray | None:
        """See graphc/backend.py."""
        from graphc.backends.cuda.runtime.arrays import given

        assert self.device is not None and self._intake is not None
        return given(a, self.device, self._intake)

    def to_device(self, a: np.ndarray) -> DeviceArray:
        from graphc.backends.cuda.runtime.arrays import Result

        assert self.device is not None and self._intake is not None
        with self.device.current():
            made = Result(self.device, a.shape, a.dtype, self._intake)
            self.device.copy(made.address, a.ctypes.data, a.nbytes, self._intake)
            self._intake.wait()
        return made

    @property
    def state_memory(self) -> StateMemory:
        from graphc.backends.cuda.runtime.states import StateMemory

        assert self.device is not None and self._intake is not None
        return StateMemory(self.device, self._intake)

    def stream(self, given: Any) -> Stream:
        assert self.device is not None
        if hasattr(given, "__cuda_stream__"):
            _version, handle = given.__cuda_stream__()
        else:
            handle = getattr(given, "cuda_stream", given)  # of PyTorch
        if not isinstance(handle, int) or isinstance(handle, bool) or not 0 <= handle < 2**64:
            raise InputError(f"stream must be a CUDA stream's number, or have __cuda_stream__, and is {given!r}")
        return self.device.stream_of(handle)


def _stream(device: Device) -> Stream:
    with device.current():
        return device.stream()


def _device(options: CudaOptions) -> Device | None:
    """What programs run on; None where they are only compiled."""
    if options.emulate:
        from graphc.backends.cuda.runtime.emulated import emulator

        return emulator(options.arch)
    if options.arch is not None:
        return None
    from graphc.backends.cuda.runtime.gpu import gpu

    try:
        return gpu(options.device)
    except UnsupportedError as error:
        error.hint = f"{error.hint}; {WITHOUT_GPU}" if error.hint else WITHOUT_GPU
        raise


class CudaExecutable(Executable):
    """A plan, and what runs it."""

    def __init__(
        self,
        plan: CompiledPlan,
        bindings: Bindings,
        runs: Runs,
        of_steps: Sequence[int | None],
        kernels: Sequence[Kernel],
        emulated: bool = False,
    ) -> None:
        """of_steps: the kernel of each step, of the example, by its index; None of those that launch none."""
        self._plan, self._bindings, self._runs, self._emulated = plan, bindings, runs, emulated
        self._of_steps, self._kernels = of_steps, kernels

    def holds(self, arrays: Sequence[Any]) -> bool:
        return self._bindings.holds(arrays)

    def refusal(self, arrays: Sequence[Any]) -> str:
        return self._plan.refusal(arrays)

    def run(self, arrays: Sequence[Any], out: Sequence[Any | None] | None = None) -> list[Any]:
        return self.run_on(None, arrays, out)

    def run_on(self, stream: Any, arrays: Sequence[Any], out: Sequence[Any | None] | None = None) -> list[Any]:
        if out is not None:
            out = out[: len(self._plan.results)]
            check_results(out, self._bindings.of(arrays).results)
        results = self._runs.run(arrays, out, stream)
        if self._plan.lengths:
            results.append(np.array(self._bindings.of(arrays).lengths, np.int64))
        return results

    @property
    def plan(self) -> Plan:
        return self._told(self._plan)

    def plan_for(self, arrays: Sequence[Any]) -> Plan:
        told = self._told(self._plan.bound(arrays))
        called = iter(self._bindings.of(arrays).launches[:, 0].tolist())
        steps = [
            s if i is None else _renamed(s, str(self._kernels[i]), str(self._kernels[next(called)]))
            for s, i in zip(told.steps, self._of_steps)
        ]
        return replace(told, steps=tuple(steps))

    def _told(self, plan: CompiledPlan) -> Plan:
        return replace(plan.described(self._measure, self.because), emulated=self._emulated)

    def _measure(self, feeds: Mapping[str, np.ndarray], rounds: int) -> list[float]:
        arrays = [as_input(feeds[n], t) for n, t in self._plan.inputs]
        return self._runs.measure(arrays, rounds)


def _renamed(step: StepInfo, example: str, kernel: str) -> StepInfo:
    """A step that tells the kernel of the example, which sizes have chosen anew."""
    return replace(step, kernel=kernel) if step.kernel == example else step
