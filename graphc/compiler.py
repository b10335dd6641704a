"""The one driver: load -> infer -> rewrite -> bind -> lay out -> fuse -> plan -> lower."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from graphc.errors import GraphcError, InputError, UnsupportedError
from graphc.graph import Graph, Value
from graphc.infer import bind
from graphc.model import PLANNING, Executable, Model, remember, value_key
from graphc.report import MemoryReport, PassInfo, Plan, StepInfo
from graphc.segments import Cut, cut, is_static, tail_inputs
from graphc.types import TensorType

Progress = Callable[[str, int, int], None]


def compile(  # noqa: A001  (the field's name)
    source: Any,
    *,
    target: str = "cpu",
    threads: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    cache: bool = True,
    disabled: Collection[str] = (),
    progress: Progress | None = None,
) -> Model:
    """Compile a model.

    source    path of an .onnx or .yaml file, bytes of an ONNX file, an onnx ModelProto, or a Graph
    target    'cpu' (the best instruction set of this machine), 'cpu:avx512', 'cpu:avx2', 'cpu:portable', or 'reference'
    threads   how many threads an inference uses; default: the CPUs that this process may use
    shapes    input shapes by name to plan for at once, where the model leaves dims open
    cache     keep machine code on disk for the next process
    disabled  names of passes to leave out
    progress  called with (stage, done, total) during long work

    Raises LoadError, CheckError, UnsupportedError, TypeRuleError: each names the file, the node and the remedy.
    """
    from graphc import pipeline

    if isinstance(source, Graph):
        loaded = source
    else:
        import frontends

        loaded = frontends.load(source)
    backend = _backend(target, threads, cache, progress)
    if isinstance(disabled, str):
        raise InputError("disabled must hold names of passes, not be one", hint=f"disabled=['{disabled}']")
    pipeline.check_names(disabled, [*pipeline.SHAPE_FREE, *pipeline.bound(backend.kernel_operators())])
    infos: list[PassInfo] = []
    graph = _run_passes(loaded, pipeline.SHAPE_FREE, disabled, infos)
    recipe = {"target": target, "threads": threads, "cache": cache, "disabled": tuple(disabled)}

    def bind_and_compile(
        unbound: Graph, types: Mapping[str, TensorType], values: Mapping[str, np.ndarray]
    ) -> Executable:
        passes = list(infos)
        bound = bind(unbound, types, values)
        bound = _run_passes(bound, pipeline.bound(backend.kernel_operators()), disabled, passes)
        if is_static(bound) or target == "reference":
            return backend.executable(bound, tuple(passes))
        return _Segmented(cut(bound), backend, tuple(passes), bind_and_compile)

    model = Model(graph, loaded, partial(bind_and_compile, graph), shape_like_inputs(graph), recipe)
    ready = all(v.type.is_static for v in graph.inputs) or shapes
    if ready and not model._valued:
        model.plan(shapes)
    return model


def shape_like_inputs(graph: Graph) -> list[str]:
    """Inputs whose values (not only shapes) decide the shapes inside the graph: a plan is made for each value.

    Only numbers and rows of numbers, and what is computed from those: sizes that follow from larger arrays are read
    between the segments of a run.
    """
    producers = graph.producers()
    needed: set[Value] = set()
    stack = [n.inputs[i] for n in graph.nodes for i in n.op.values if i < len(n.inputs) and n.inputs[i] is not None]
    while stack:
        v = stack.pop()
        if v in needed or v.is_const or (v.type is not None and v.type.rank > 1):
            continue
        needed.add(v)
        node = producers.get(v)
        if node is not None and node.op.name not in ("Shape", "Size"):  # these need the type only
            stack.extend(node.operands)
    return [v.name for v in graph.inputs if v in needed]


def _run_passes(graph: Graph, passes: Sequence, disabled: Collection[str], infos: list[PassInfo]) -> Graph:
    from graphc import pipeline

    started = time.perf_counter()

    def note(done: Any, before: Graph, after: Graph) -> None:
        nonlocal started
        now = time.perf_counter()
        infos.append(PassInfo(done.name, len(before.nodes), len(after.nodes), now - started))
        started = now

    return pipeline.run(graph, passes, disabled=disabled, on_pass=note)


# --- backends ---------------------------------------------------------------------------------------------------------
def _backend(target: str, threads: int | None, cache: bool, progress: Progress | None) -> Any:
    kind, _, isa = str(target).partition(":")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, (int, np.integer)) or threads < 1):
        raise InputError(f"threads must be a positive int, not {threads!r}")
    if kind == "cpu":
        return _Cpu(isa or None, threads, cache, progress)
    if target == "reference":
        return _Reference()
    raise UnsupportedError(
        f"unknown target '{target}'", hint="one of: cpu, cpu:avx512, cpu:avx2, cpu:portable, reference"
    )


class _Cpu:
    def __init__(self, isa: str | None, threads: int | None, cache: bool, progress: Progress | None) -> None:
        from backends.cpu.lower.core import WeightStore
        from backends.cpu.target import cpu_count, detect

        self.target = detect(isa)
        self.threads = threads or cpu_count()
        self.cache, self.progress = cache, progress
        self.weights = WeightStore()

    def kernel_operators(self) -> frozenset[str]:
        from backends.cpu.compile import kernel_operators

        return kernel_operators()

    def executable(self, graph: Graph, passes: tuple[PassInfo, ...]) -> Executable:
        return _CpuExecutable(self, graph, passes)


class _CpuExecutable(Executable):
    def __init__(self, backend: _Cpu, graph: Graph, passes: tuple[PassInfo, ...]) -> None:
        from backends.cpu.compile import CpuProgram

        program = CpuProgram(
            graph, backend.target, backend.threads, backend.weights, cache=backend.cache, progress=backend.progress
        )
        self.program, self._backend, self._graph, self._passes = program, backend, graph, passes
        self._run = program.run
        self._results = [(n, v.type) for n, v in zip(graph.output_names, graph.outputs)]

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        if out is not None:
            _check_out(out, self._results)
        return self._run(arrays, out)

    @property
    def plan(self) -> Plan:
        b, p = self._backend, self.program
        inputs = self._graph.inputs

        def measure(feeds: Mapping[str, np.ndarray], rounds: int) -> list[float]:
            from graphc.interpret import check_inputs

            missing = [v.name for v in inputs if v.name not in feeds]
            if missing:
                raise InputError(f"inputs are missing: {', '.join(missing)}")
            arrays = [np.ascontiguousarray(feeds[v.name]).reshape(np.shape(feeds[v.name])) for v in inputs]
            check_inputs(self._graph, arrays)
            return p.measure(arrays, rounds)

        shapes = {v.name: v.type.shape for v in self._graph.inputs}
        return Plan(
            str(b.target), b.threads, shapes, p.steps, p.memory(b.weights), p.fusion_notes(), self._passes, measure
        )


def _check_out(out: Sequence[np.ndarray | None], results: Sequence[tuple[str, TensorType]]) -> None:
    for a, (name, t) in zip(out, results):
        if a is not None and (a.shape != t.shape or a.dtype != t.dtype):
            actual, hint = TensorType(a.dtype, a.shape), "make it with numpy.empty(shape, dtype) of the result's type"
            raise InputError(f"the array for output '{name}' is {actual}, the result is {t}", hint=hint)


class _Segmented(Executable):
    """Head, pivots on the host, and a tail that is bound to the shapes that turn up."""

    def __init__(
        self, parts: Cut, backend: _Cpu, passes: tuple[PassInfo, ...], bind: Callable[..., Executable]
    ) -> None:
        wanted = shape_like_inputs(parts.tail)
        if not parts.head.nodes and not parts.pivots and not wanted:
            node = parts.tail.nodes[0]
            raise GraphcError(
                "the shape of its result can't be told, not even by running what comes before it",
                hint="run this model with target='reference' and report it",
                op=node.op.name, node=node.name, source=node.source,
            )  # fmt: skip
        self.parts, self._bind = parts, bind
        self.head = backend.executable(parts.head, passes)
        self._valued = [i for i, v in enumerate(parts.tail.inputs) if v.name in wanted]
        self._tails: dict[tuple, Executable] = {}

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        values = tail_inputs(self.parts, arrays, self.head.run(arrays))
        return self._tail(values).run(values, out)

    def _tail(self, values: Sequence[np.ndarray]) -> Executable:
        """The rest of the graph for these shapes, planned when they turn up first."""
        key = (*((a.shape, a.dtype.str) for a in values), *(value_key(values[i]) for i in self._valued))
        tail = self._tails.get(key)
        if tail is not None:
            return tail
        with PLANNING:
            if key not in self._tails:
                names = [v.name for v in self.parts.tail.inputs]
                types = {n: TensorType(a.dtype, a.shape) for n, a in zip(names, values)}
                tail = self._bind(self.parts.tail, types, {names[i]: values[i].copy() for i in self._valued})
                remember(self._tails, key, tail)
            return self._tails[key]

    @property
    def plan(self) -> Plan:
        """The head's plan and the pivots; then the tail's, as it was last planned."""
        head = self.head.plan
        steps = list(head.steps)
        for node in self.parts.pivots:
            reason = "the shape of its result follows from data"
            steps.append(
                StepInfo(len(steps), (node.name,), (node.op.name,), "host", "", reason, node.output.name, host=True)
            )
        if self._tails:
            last = list(self._tails.values())[-1].plan
            steps += [replace(s, index=len(steps) + i) for i, s in enumerate(last.steps)]
        return replace(head, steps=tuple(steps), measure=None)


class _Reference:
    def kernel_operators(self) -> frozenset[str]:
        from graphc.op import all_ops

        return frozenset(all_ops())

    def executable(self, graph: Graph, passes: tuple[PassInfo, ...]) -> Executable:
        return _ReferenceExecutable(graph, passes)


class _ReferenceExecutable(Executable):
    def __init__(self, graph: Graph, passes: tuple[PassInfo, ...]) -> None:
        self.graph = graph
        shapes = {v.name: v.type.shape for v in graph.inputs}
        self.plan = Plan("reference", 1, shapes, (), MemoryReport(0, 0, 0, 0), (), passes)

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        from graphc.interpret import run_graph

        results = [np.array(r, order="C") for r in run_graph(self.graph, arrays)]  # may be inputs, constants or views
        if out is not None:
            _check_out(out, [(n, TensorType(r.dtype, r.shape)) for n, r in zip(self.graph.output_names, results)])
            for k, buffer in enumerate(out):
                if buffer is not None:
                    buffer[...] = results[k]
                    results[k] = buffer
        return results


__all__ = ["GraphcError", "compile"]
