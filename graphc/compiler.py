"""The one driver: load -> infer -> rewrite -> bind -> lay out -> fuse -> plan -> lower.

What was compiled before, by any process, is found on disk (graphc/store.py): then neither the model's graph nor what makes
machine code of it is loaded.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import GraphcError, InputError, UnsupportedError
from graphc.model import Executable, Model, value_key
from graphc.origin import Origin, origin_of
from graphc.reading import AS_IT_IS, Reading
from graphc.report import MemoryReport, PassInfo, Pending, Plan
from graphc.signature import Signature, Spec
from graphc.types import TensorType

if TYPE_CHECKING:
    from pathlib import Path

    from graphc.backends.cpu.plans import CpuPlan
    from graphc.backends.cpu.run import Runner
    from graphc.graph import Graph

Progress = Callable[[str, int, int], None]


ALGORITHMS = ("strassen",)  # that can be disabled, beside passes
MAX_THREADS = 1024  # each has scratch memory of its own
WINOGRAD = (6, 4, 2, 0)  # output tiles that may be the largest


def compile(  # noqa: A001  (the field's name)
    source: Any,
    *,
    target: str = "cpu",
    threads: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    cache: bool = True,
    disabled: Collection[str] = (),
    winograd: int = 6,
    tune: bool = False,
    progress: Progress | None = None,
) -> Model:
    """See `graphc.compile`."""
    if isinstance(disabled, str):
        raise InputError("disabled must hold names of passes, not be one", hint=f"disabled=['{disabled}']")
    _check_algorithms(winograd, tune)
    recipe = {"target": target, "threads": threads, "cache": cache, "disabled": tuple(disabled)}
    recipe |= {"winograd": int(winograd), "tune": tune}
    backend = _backend(recipe, progress)
    compilation = Compilation(origin_of(source, copy=cache and backend.keeps), backend, recipe, progress)
    model = Model(compilation, recipe)
    signature = compilation.signature
    ready = all(s.is_static for s in signature.inputs) or shapes
    if ready and not signature.valued:
        model.prepare(shapes)
        if not shapes:
            compilation.forget()
    return model


class Compilation:
    """A model on its way from source to plans. The graph is loaded when something needs it that is not on disk."""

    def __init__(
        self,
        origin: Origin,
        backend: Any,
        recipe: Mapping[str, Any],
        progress: Progress | None = None,
        reading: Reading = AS_IT_IS,
    ) -> None:
        self.origin, self.backend, self.disabled, self.reading = origin, backend, recipe["disabled"], reading
        self._recipe, self._progress = recipe, progress
        self._loaded: Graph | None = None
        self._graph: Graph | None = None
        self._infos: tuple[PassInfo, ...] = ()
        kept = self._find(recipe) if recipe["cache"] and backend.keeps else None
        self.signature = kept or self._sign()

    # --- on disk -------------------------------------------------------------------------------------------------
    def _find(self, recipe: Mapping[str, Any]) -> Signature | None:
        """The signature of a model that was compiled before. Where there is none, plans are kept for the next process."""
        from graphc.store import digest_of, fingerprint, open_store

        store = open_store()
        source = self.origin.digest(store) if store is not None else None
        if source is None:
            return None
        options = {k: v for k, v in recipe.items() if k not in ("target", "threads", "cache")} | {
            "disabled": sorted(recipe["disabled"])
        }
        reading = [sorted(self.reading.given), [(n, str(t)) for n, t in self.reading.types]]
        key = digest_of(json.dumps([source, fingerprint(), self.backend.identity(), options, reading], sort_keys=True))
        entry = store.entry(key)
        document = entry.model()
        if document is not None and self.origin.find(store, document["files"]):
            self.backend.keep_in(entry, document)
            return Signature.from_json(document["signature"])
        signature = self._sign()
        described = self.origin.described(store)
        if described is not None:
            document = {"signature": signature.to_json(), "files": described, "weights": {}, "code": {}}
            self.backend.keep_in(entry, json.loads(json.dumps(document)))
        return signature

    @property
    def files(self) -> tuple[Path, ...]:
        return self.origin.files

    def read(self, reading: Reading) -> Compilation:
        """The same source, read in another way, with plans of its own."""
        return Compilation(self.origin, _backend(self._recipe, self._progress), self._recipe, self._progress, reading)

    # --- graphs --------------------------------------------------------------------------------------------------
    @property
    def loaded(self) -> Graph:
        """The graph as the front end made it."""
        if self._loaded is None:
            from graphc import frontends

            load = partial(frontends.load, reading=self.reading)
            self._loaded = self.origin.load(load, mapped=self.backend.keeps)
        return self._loaded

    @property
    def graph(self) -> Graph:
        """After the passes that need no shapes."""
        if self._graph is None:
            from graphc import pipeline

            passes = [*pipeline.SHAPE_FREE, *pipeline.bound(self.backend.kernel_operators())]
            pipeline.check_names(self.disabled, passes, ALGORITHMS)
            infos: list[PassInfo] = []
            self._graph = _run_passes(self.loaded, pipeline.SHAPE_FREE, self.disabled, infos)
            self._infos = tuple(infos)
            self.origin.release()
        return self._graph

    def _sign(self) -> Signature:
        whole = all(v.type is not None for v in self.loaded.inputs)  # else it is read again before it is planned
        graph = self.graph if whole else self.loaded
        dtypes, loose = graph.meta.get("dtypes", {}), graph.meta.get("format") == "onnx"
        return Signature(
            graph.name,
            tuple(Spec.of(v.name, v.type, dtypes.get(v.name)) for v in graph.inputs),
            tuple(Spec.of(n, v.type, dtypes.get(n)) for n, v in zip(graph.output_names, graph.outputs)),
            tuple(shape_like_inputs(graph)) if whole else (),
            len(graph.nodes),
            graph.meta.get("optional", ()),
            loose,
        )

    def forget(self) -> None:
        """Let go of the graphs, where no other shapes can come; they are loaded again when somebody asks for them."""
        if self.origin.reloadable:
            self._loaded = self._graph = None
            self.backend.forget()

    def outlook(self) -> tuple[Pending, ...]:
        """What will become of every node, as far as it can be told without shapes."""
        return self.backend.outlook(self.graph)

    # --- plans ---------------------------------------------------------------------------------------------------
    def bind(self, types: Mapping[str, TensorType], values: Mapping[str, np.ndarray]) -> Executable:
        """The executable for these input types (and the values of shape-like inputs), from disk or made now."""
        key = _plan_key(types, values)
        found = self.backend.load(key)
        if found is not None:
            return found
        graph = self.graph
        self.origin.check()
        return self._compile(graph, types, values, key)

    def _compile(
        self,
        unbound: Graph,
        types: Mapping[str, TensorType],
        values: Mapping[str, np.ndarray],
        key: str | None = None,
    ) -> Executable:
        from graphc import pipeline
        from graphc.infer import bind
        from graphc.segments import Segmented, conditions, cut, is_static
        from graphc.sizes import require_memory

        passes = list(self._infos)
        bound = bind(unbound, types, values)
        bound = _run_passes(bound, pipeline.bound(self.backend.kernel_operators()), self.disabled, passes)
        require_memory(bound)
        if is_static(bound) or not self.backend.keeps:
            return self.backend.executable(bound, tuple(passes), key)
        parts = cut(bound)
        wanted = {*shape_like_inputs(parts.tail), *conditions(parts.tail)}
        make = lambda g: self.backend.executable(g, tuple(passes), None)  # noqa: E731
        return Segmented(parts, wanted, make, self._compile_tail, self.backend.outlook)

    def _compile_tail(
        self, tail: Graph, types: Mapping[str, TensorType], values: Mapping[str, np.ndarray]
    ) -> Executable:
        self.origin.check()
        return self._compile(tail, types, values)


def _plan_key(types: Mapping[str, TensorType], values: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(repr([(n, t.dtype.name, t.shape) for n, t in types.items()]).encode())
    for name, a in values.items():
        digest.update(f"{name} {a.dtype} {a.shape} {value_key(a)!r}".encode())
    return digest.hexdigest()[:32]


def shape_like_inputs(graph: Graph) -> list[str]:
    """Inputs whose values (not only shapes) decide the shapes inside the graph: a plan is made for each value.

    Only numbers and rows of numbers, and what is computed from those: sizes that follow from larger arrays are read
    between the segments of a run.
    """
    producers = graph.producers()
    needed = set()
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
    from graphc.passes.log import Log

    started, log = time.perf_counter(), Log()

    def note(done: Any, before: Graph, after: Graph) -> None:
        nonlocal started
        now = time.perf_counter()
        refused = tuple(entry.note for entry in log.refused())
        infos.append(PassInfo(done.name, len(before.nodes), len(after.nodes), now - started, refused))
        log.entries.clear()
        started = now

    return pipeline.run(graph, passes, disabled=disabled, log=log, on_pass=note)


# --- backends ---------------------------------------------------------------------------------------------------------
def _check_algorithms(winograd: Any, tune: Any) -> None:
    whole = isinstance(winograd, (int, np.integer)) and not isinstance(winograd, bool)
    if not whole or winograd not in WINOGRAD:
        raise InputError(f"winograd must be 6, 4, 2 or 0, not {winograd!r}", hint="the largest output tile; 0: none")
    if not isinstance(tune, bool):
        raise InputError(f"tune must be True or False, not {tune!r}")


def _backend(recipe: Mapping[str, Any], progress: Progress | None) -> Any:
    target, threads = recipe["target"], recipe["threads"]
    kind, _, isa = str(target).partition(":")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, (int, np.integer)) or threads < 1):
        raise InputError(f"threads must be a positive int, not {threads!r}")
    if threads is not None and threads > MAX_THREADS:
        raise InputError(f"threads must be at most {MAX_THREADS}, not {threads}", hint="None takes all cores")
    if kind == "cpu":
        return _Cpu(isa or None, recipe, progress)
    if target == "reference":
        return _Reference()
    raise UnsupportedError(
        f"unknown target '{target}'", hint="one of: cpu, cpu:avx512, cpu:avx2, cpu:portable, reference"
    )


class _Cpu:
    keeps = True  # plans on disk

    def __init__(self, isa: str | None, recipe: Mapping[str, Any], progress: Progress | None) -> None:
        from graphc.backends.cpu.model import CpuModel

        without = [n for n in recipe["disabled"] if n in ALGORITHMS]
        threads, cache, winograd, tune = (recipe[k] for k in ("threads", "cache", "winograd", "tune"))
        self.model = CpuModel(isa, threads, cache, progress, without, winograd, tune)
        self.keep_in, self.forget, self.identity = self.model.keep_in, self.model.forget, self.model.identity

    def kernel_operators(self) -> frozenset[str]:
        from graphc.backends.cpu.compile import kernel_operators

        return kernel_operators()

    def outlook(self, graph: Graph) -> tuple[Pending, ...]:
        from graphc.backends.cpu.outlook import outlook

        return outlook(graph, self.model.target)

    def load(self, key: str) -> Executable | None:
        found = self.model.load(key)
        return None if found is None else _CpuExecutable(*found)

    def executable(self, graph: Graph, passes: tuple[PassInfo, ...], key: str | None) -> Executable:
        return _CpuExecutable(*self.model.compile(graph, passes, key))


class _CpuExecutable(Executable):
    def __init__(self, plan: CpuPlan, runner: Runner) -> None:
        self._plan, self.program, self._run, self.quick = plan, runner, runner.run, runner.quick

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        if out is not None:
            _check_out(out, self._plan.results)
        return self._run(arrays, out)

    @property
    def plan(self) -> Plan:
        p, r = self._plan, self._plan.report()
        shapes = {n: t.shape for n, t in p.inputs}
        return Plan(p.target, p.threads, shapes, r.steps, r.memory, r.notes, r.passes, self._measure)

    def _measure(self, feeds: Mapping[str, np.ndarray], rounds: int) -> list[float]:
        from graphc.graph import Graph, Value
        from graphc.interpret import check_inputs

        inputs = self._plan.inputs
        missing = [n for n, _ in inputs if n not in feeds]
        if missing:
            raise InputError(f"inputs are missing: {', '.join(missing)}")
        arrays = [np.ascontiguousarray(feeds[n]).reshape(np.shape(feeds[n])) for n, _ in inputs]
        check_inputs(Graph("", tuple(Value(n, t) for n, t in inputs), (), (), ()), arrays)
        return self.program.measure(arrays, rounds)


def _check_out(out: Sequence[np.ndarray | None], results: Sequence[tuple[str, TensorType]]) -> None:
    for a, (name, t) in zip(out, results):
        if a is not None and (a.shape != t.shape or a.dtype != t.dtype):
            actual, hint = TensorType(a.dtype, a.shape), "make it with numpy.empty(shape, dtype) of the result's type"
            raise InputError(f"the array for output '{name}' is {actual}, the result is {t}", hint=hint)


class _Reference:
    keeps = False

    def kernel_operators(self) -> frozenset[str]:
        from graphc.op import all_ops

        return frozenset(all_ops())

    def outlook(self, graph: Graph) -> tuple[Pending, ...]:
        why = "target 'reference'"
        return tuple(
            Pending(n.name, n.op.name, ", ".join(str(v.type or "?") for v in n.outputs), True, why) for n in graph.nodes
        )

    def load(self, key: str) -> None:
        return None

    def forget(self) -> None:
        pass

    def executable(self, graph: Graph, passes: tuple[PassInfo, ...], key: str | None) -> Executable:
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
