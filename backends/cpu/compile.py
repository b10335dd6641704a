"""The CPU backend's driver: a bound graph -> layouts -> groups -> steps -> machine code."""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from backends.cpu.lower import core
from backends.cpu.lower.core import Lowering, WeightStore, dense_strides, lowering_of, storage_bytes
from backends.cpu.lower.elementwise import lower_elementwise
from backends.cpu.program import Assembled, Buffer, HostStep, Instance, Program, Ref
from backends.cpu.target import Target
from backends.cpu.threads import executor
from backends.cpu.toolchain import Kernel, toolchain
from graphc.fuse import Group, fuse
from graphc.graph import Graph, Node, Value
from graphc.interpret import run_node
from graphc.layout import assign_layouts
from graphc.op import Kind, get_op
from graphc.report import FusionNote, Interval, MemoryReport, StepInfo

Progress = Callable[[str, int, int], None]
STAGED_BYTES = 16384  # of an input or result that is copied rather than pointed at


@lru_cache(maxsize=1)
def _load_lowerings() -> None:
    import backends.cpu.lower as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def kernel_operators() -> frozenset[str]:
    """Operators with kernels of their own, which need no decomposition."""
    _load_lowerings()
    return frozenset(core._LOWER)


def host_reason(node: Node, target: Target) -> str | None:
    """Why a node runs on the host, or None."""
    _load_lowerings()
    if node.op.kind is Kind.ELEMENTWISE and node.op.scalar is not None:
        return core.native_dtypes(node)
    return core.unsupported(node, target)


class CpuProgram:
    """A bound graph compiled for the CPU: `run(arrays)` executes it; many threads may call it at once."""

    def __init__(
        self,
        graph: Graph,
        target: Target,
        threads: int,
        weights: WeightStore,
        *,
        cache: bool = True,
        progress: Progress | None = None,
    ) -> None:
        _load_lowerings()
        from backends.cpu.lower.rules import accepts_operand, layout_rules, takes_epilogue

        self.target, self.threads = target, threads
        graph = assign_layouts(graph, layout_rules(target))
        self.graph = graph
        compiled = lambda node: host_reason(node, target) is None  # noqa: E731
        groups, self.notes = fuse(graph, lambda n: compiled(n) and takes_epilogue(n), accepts_operand, compiled)
        lo = Lowering(target, threads, weights)
        place_externals(lo, graph, groups)
        place_concatenations(lo, [g for g in groups if compiled(g.nodes[0])])
        for i, group in enumerate(groups):
            if progress:
                progress("lowering", i, len(groups))
            self._lower(lo, group)
        _copy_results(lo, graph)
        self.program: Program = lo.program
        tools = toolchain(target, cache)
        self._tools = tools
        kernels = self.program.kernels()
        self.assembled = Assembled(self.program, tools.addresses([*kernels, *_runtime(threads)], progress), threads)
        self._executor = executor(tools, threads)
        self._index = {b: i for i, b in enumerate(self.assembled.externs)}
        self._inputs = [self._index[b] for b in self.program.inputs.values()]
        self._outputs = [
            (n, self._index.get(b) if isinstance(b, Buffer) else None) for n, b in self.program.outputs.items()
        ]
        self._types = [v.type for v in graph.outputs]
        self._results = [(t.shape, t.dtype) for t in self._types]
        self._fixed = [None if isinstance(b, Buffer) else b for b in self.program.outputs.values()]
        self._host = any(isinstance(s, HostStep) for s in self.program.steps)
        externs = self.assembled.externs
        small = [i for i, b in enumerate(externs) if b.nbytes <= STAGED_BYTES and b.dtype != object]
        self._small = [] if self._host else small  # host steps look at the caller's arrays
        self._free: list[Instance] = []

    def _lower(self, lo: Lowering, group: Group) -> None:
        if group.anchor is None and host_reason(group.nodes[0], self.target) is None:
            lower_elementwise(lo, group)
            return
        node = group.anchor or group.nodes[0]
        reason = host_reason(node, self.target)
        if reason is None:
            lowering_of(node)(lo, group)
        else:
            _lower_on_host(lo, node, reason)

    # --- running -------------------------------------------------------------------------------------------------
    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        """Results in order, for inputs in order: contiguous arrays of the bound dtypes and shapes (not checked here).

        Raises InputError where an operator reads or writes at a position that its data puts out of range.
        """
        instance = self._instance()
        results = self._bind(instance, arrays, out)
        if not self._host:
            self._executor.run(instance._steps_address, len(instance.steps))
        else:
            self._run_with_host(instance, self._live(instance, arrays, results))
        failure = instance.failure() if self.assembled.checks else None
        if self._small:
            results = self._unstaged(instance, results, out)
        self._free.append(instance)
        if failure is not None:
            raise failure
        return results

    def _unstaged(
        self, instance: Instance, results: list[np.ndarray], out: Sequence[np.ndarray | None] | None
    ) -> list[np.ndarray]:
        """The results, copied where the instance has kept them in arrays of its own."""
        for k, (_, index) in enumerate(self._outputs):
            if index is not None and instance.staged[index] is not None:
                given = out[k] if out is not None else None
                if given is None:
                    results[k] = results[k].copy()
                else:
                    given[...] = results[k]
                    results[k] = given
        return results

    def _instance(self) -> Instance:
        """One that nobody uses; who takes it puts it back into `_free` after a run that ended well."""
        try:
            return self._free.pop()
        except IndexError:
            return Instance(self.assembled, self._small)

    def _bind(
        self, instance: Instance, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None
    ) -> list[np.ndarray]:
        """Point the instance at the inputs and at the results, which are returned."""
        bind, staged = instance.bind, instance.staged
        for index, array in zip(self._inputs, arrays):
            if staged[index] is None:
                bind(index, array.ctypes.data)
            else:
                staged[index][...] = array
        results = []
        for k, (_, index) in enumerate(self._outputs):
            given = out[k] if out is not None else None
            if index is None:
                results.append(self._constant_result(k, given))
                continue
            if staged[index] is not None:
                results.append(staged[index])
                continue
            shape, dtype = self._results[k]
            result = given if given is not None else np.empty(shape, dtype)
            bind(index, result.ctypes.data)
            results.append(result)
        return results

    def _constant_result(self, k: int, given: np.ndarray | None) -> np.ndarray:
        value = self._fixed[k]
        if given is None:
            return value.copy()
        given[...] = value
        return given

    def _live(
        self, instance: Instance, arrays: Sequence[np.ndarray], results: Sequence[np.ndarray]
    ) -> dict[Buffer, np.ndarray]:
        """Arrays of the buffers that Python sees, by buffer: inputs, results, and values of host steps, made here."""
        live: dict[Buffer, np.ndarray] = dict(zip(self.program.inputs.values(), arrays))
        for (name, index), array in zip(self._outputs, results):
            if index is not None:
                live[self.program.outputs[name]] = array
        for b in self.assembled.externs:
            if b not in live:
                live[b] = np.empty(b.shape, b.dtype)
                instance.bind(self._index[b], live[b].ctypes.data)
        return live

    def _run_with_host(self, instance: Instance, live: dict[Buffer, np.ndarray]) -> None:
        """Native segments and host steps in turn. Values between them are NumPy arrays."""

        def host(step: HostStep) -> None:
            values = [live[b] if isinstance(b, Buffer) else b for b in step.inputs]
            for b, array in zip(step.outputs, run_node(step.node, values)):
                live[b][...] = array

        instance.run(self._executor.run, host)

    def measure(self, arrays: Sequence[np.ndarray], rounds: int) -> list[float]:
        """Median seconds of each step, run one after the other on the executor's threads; 0 for host steps.

        Takes and raises what `run` does.
        """
        self.run(arrays)
        instance = self._instance()
        live = self._live(instance, arrays, self._bind(instance, arrays, None))
        self._run_with_host(instance, live)  # so that every step finds the values that it reads
        times: list[list[float]] = [[] for _ in self.program.steps]
        clock = time.perf_counter
        for _ in range(rounds):
            native = 0
            for i, step in enumerate(self.program.steps):
                if isinstance(step, HostStep):
                    times[i].append(0.0)
                    continue
                start = clock()
                self._executor.run(instance._steps_address + 16 * native, 1)
                times[i].append(clock() - start)
                native += 1
        self._free.append(instance)
        return [float(np.median(t)) for t in times]

    # --- reports -------------------------------------------------------------------------------------------------
    @property
    def steps(self) -> tuple[StepInfo, ...]:
        return tuple(s.info for s in self.program.steps)

    def memory(self, weights: WeightStore) -> MemoryReport:
        a = self.assembled
        intervals = tuple(Interval(b.name, o, b.nbytes, b.first, b.last) for b, o in zip(a.intervals, a.arena.offsets))
        return MemoryReport(a.arena.nbytes, a.arena.lower_bound, a.arena.total, weights.nbytes, intervals)

    def fusion_notes(self) -> tuple[FusionNote, ...]:
        return tuple(self.notes)


def _runtime(threads: int) -> list[Kernel]:
    return [Kernel("execute")] if threads == 1 else [Kernel("execute"), Kernel("submit"), Kernel("work")]


class ExternBuffer(Buffer):
    """A buffer that Python sees as an array."""

    def __init__(self, v: Value) -> None:
        super().__init__(v.name, v.type.nbytes, "extern")
        object.__setattr__(self, "shape", v.type.shape)
        object.__setattr__(self, "dtype", v.type.dtype)


def place_externals(lo: Lowering, graph: Graph, groups: list[Group]) -> None:
    """Inputs and results live in the caller's arrays. A result that is not one kernel's dense output is copied at the end."""
    for v in graph.inputs:
        buffer = ExternBuffer(v)
        lo.program.inputs[v.name] = buffer
        lo.place(v, Ref(buffer))
    made = {o for g in groups for n in g.nodes for o in n.outputs}
    for name, v in zip(graph.output_names, graph.outputs):
        if v.is_const:
            lo.program.outputs[name] = np.asarray(v.data)
        else:
            buffer = ExternBuffer(v)
            lo.program.outputs[name] = buffer
            if v in made and v not in lo.storage:
                lo.place(v, Ref(buffer))


def place_concatenations(lo: Lowering, groups: list[Group]) -> None:
    """Let producers write straight into their part of a concatenation.

    Possible where the part is one piece of memory: channel blocks of a blocked value, or a dense concatenation along the
    first dim that is not 1. Later concatenations first, so that nested ones share the outermost buffer.
    """
    producers = {v: g for g in groups for n in g.nodes for v in n.outputs}
    for group in reversed(groups):
        node = group.nodes[0]
        if node.op.name != "Concat" or len(group.nodes) > 1:
            continue
        out = node.output
        axis = node.attrs["axis"] % out.type.rank
        blocked = out.type.layout is not None
        if not blocked and any(d != 1 for d in out.shape[:axis]):
            continue
        if blocked and any(v.shape[1] % out.type.layout.c for v in node.operands[:-1]):
            continue  # a part begins inside a block
        if out not in lo.storage:
            lo.place(out, Ref(Buffer(out.name, storage_bytes(out.type))))
        whole = lo.storage[out]
        at = 0
        for v in node.operands:
            free = v in producers and v not in lo.storage and not _is_view(producers[v])
            if free:
                if blocked:
                    lo.place(v, whole.ref + at // out.type.layout.c * whole.strides[1], whole.strides)
                else:
                    lo.place(v, whole.ref + at * whole.strides[axis], dense_strides(v.type))
            at += v.shape[axis]


def _is_view(group: Group) -> bool:
    return group.nodes[0].op.name in (
        "Reshape",
        "Reorder",
        "Split",
        "Slice",
        "Identity",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
    )


def _copy_results(lo: Lowering, graph: Graph) -> None:
    """Results that live elsewhere (an input, a view, or a value that is two results) are copied into the caller's array."""
    from backends.cpu.lower.movement import emit_copy

    for name, v in zip(graph.output_names, graph.outputs):
        buffer = lo.program.outputs[name]
        if v.is_const or lo.storage[v].ref.buffer is buffer:
            continue
        if v.dtype.name not in core.NATIVE and v.dtype.kind in "OUS":  # references to Python objects are not mere bytes
            identity = Node(get_op("Identity"), (v,), (Value(name, v.type),), {}, f"result {name}")
            lo.place(identity.output, Ref(buffer))
            _lower_on_host(lo, identity, "strings are Python objects")
            continue
        emit_copy(lo, lo.read(v), Ref(buffer), f"result {name}")


def _lower_on_host(lo: Lowering, node: Node, reason: str) -> None:
    """A node that runs through its reference, on arrays of the caller's side."""
    from backends.cpu.lower.movement import emit_copy

    inputs: list[Buffer | np.ndarray | None] = []
    for v in node.inputs:
        if v is None or v.is_const:
            inputs.append(None if v is None else v.data)
            continue
        s = lo.read(v)
        whole = s.ref.buffer.kind == "extern" and s.contiguous and s.ref.offset == 0 and s.ref.buffer.shape == v.shape
        if not whole:
            buffer = ExternBuffer(v)
            emit_copy(lo, s, Ref(buffer), v.name)
            inputs.append(buffer)
        else:
            inputs.append(s.ref.buffer)
    outputs = []
    for v in node.outputs:
        s = lo.storage.get(v)
        if s is None or s.ref.buffer.kind != "extern":
            buffer = ExternBuffer(v)
            if s is None:
                lo.place(v, Ref(buffer))
            outputs.append(buffer)
        else:
            outputs.append(s.ref.buffer)
    info = StepInfo(
        len(lo.program.steps), (node.name,), (node.op.name,), "host", "", reason, node.output.name, 0, 0, host=True
    )
    lo.program.steps.append(HostStep(node, tuple(inputs), tuple(outputs), info))
    for v, b in zip(node.outputs, outputs):
        s = lo.storage[v]
        if s.ref.buffer is not b:  # the value has a place of its own (part of a concatenation)
            emit_copy(lo, core.Storage(Ref(b), v.type, dense_strides(v.type)), s.ref, v.name)
