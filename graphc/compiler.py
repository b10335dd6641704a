"""The one driver: loads a model, runs the passes, binds it to shapes, and hands the bound graph to a backend.

What was compiled before, by any process, is found on disk (graphc/store.py): then neither the model's graph nor what makes
machine code of it is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from graphc import backends, classes
from graphc.arguments import numbers
from graphc.backend import Backend, Progress, Request
from graphc.classes import CantServeMany, Many, Pattern
from graphc.errors import InputError, UnsupportedError, memory_errors
from graphc.executable import Executable, value_key
from graphc.model import Model
from graphc.objects import is_object
from graphc.origin import Origin, origin_of
from graphc.reading import AS_IT_IS, Reading
from graphc.signature import Signature, Spec
from graphc.types import TensorType

if TYPE_CHECKING:
    from graphc.backend import DeviceBackend
    from graphc.contents import Content, InBytes
    from graphc.graph import Graph
    from graphc.model_folder import ModelFolder
    from graphc.report import PassInfo, Pending
    from graphc.room import Memory
    from graphc.signature import Growth
    from graphc.structures import Structures


def compile(  # noqa: A001  (the field's name)
    source: Any,
    *,
    target: str = "cpu",
    shapes: Mapping[str, Sequence[int]] | None = None,
    states: Mapping[str, str] | None = None,
    params: Mapping[str, Any] | None = None,
    net: str | None = None,
    preprocess: bool = True,
    cache: bool = True,
    disabled: Collection[str] = (),
    progress: Progress | None = None,
    **options: Any,
) -> Model:
    """See `graphc.compile`. options: of the backend."""
    _require_compiler()
    if isinstance(disabled, str):
        raise InputError("disabled must hold names of passes, not be one", hint=f"disabled=['{disabled}']")
    if not isinstance(disabled, Collection) or not all(isinstance(name, str) for name in disabled):
        raise InputError(f"disabled must hold names of passes, not {disabled!r}", hint="disabled=['fold_constants']")
    if shapes is not None and not isinstance(shapes, Mapping):
        raise InputError(
            f"shapes must map names of inputs to shapes, not {shapes!r}", hint="shapes={'x': (1, 3, 8, 8)}"
        )
    if states is not None and not (
        isinstance(states, Mapping) and all(isinstance(n, str) for p in states.items() for n in p)
    ):
        raise InputError(
            f"states must map names of inputs to names of outputs, not {states!r}", hint="states={'h': 'h_next'}"
        )
    reading = reading_of(params, net, preprocess)
    request = Request(options=options, disabled=tuple(disabled), cache=cache, progress=progress)
    backend = backends.open_backend(target, request)
    if disabled:
        check_disabled(backend, disabled)
    with memory_errors():
        origin = origin_of(located(source), copy=cache and backend.capabilities.stores_plans)
        compilation = Compilation(origin, target, request, backend, reading, states or {})
        model = Model(compilation, {"target": target, "cache": cache, "disabled": tuple(disabled), **options})
        signature = compilation.signature
        ready = all(s.is_static for s in signature.inputs) or shapes
        if ready and not signature.valued:
            model.prepare(shapes)
            if not shapes:
                compilation.forget()
        return model


def load(
    source: Any, *, params: Mapping[str, Any] | None = None, net: str | None = None, preprocess: bool = True
) -> Graph:
    """The graph of what `compile` takes, as its front end makes it."""
    _require_compiler()
    from graphc import frontends

    reading = Reading(params=_params(params or {}), net=net, preprocess=preprocess)
    return origin_of(located(source), copy=False).load(partial(frontends.load, reading=reading), mapped=False)


def _require_compiler() -> None:
    """Raises UnsupportedError where only the part of graphc is installed that runs what was built."""
    if not (Path(__file__).parent / "frontends").exists():
        raise UnsupportedError(
            "this is graphc-runtime, which loads what `graphc build` wrote: graphc.load('model.gcm')",
            hint="to compile models, install graphc in its place",
        )


def reading_of(params: Any, net: str | None, preprocess: bool) -> Reading:
    """Raises InputError for params that are none, and for a net that is no name."""
    if net is not None and not isinstance(net, str):
        raise InputError(f"net must be the name of a net, not {net!r}", hint="net='generator'")
    return Reading(params=_params(params or {}), net=net, preprocess=preprocess)


def located(source: Any) -> Any:
    """The path of the page that 'zoo:NAME' names, else the source itself."""
    if isinstance(source, str) and source.startswith("zoo:"):
        from graphc import zoo

        return zoo.resolved(source)
    return source


def _params(params: Any) -> tuple[tuple[str, Any], ...]:
    if not isinstance(params, Mapping):
        raise InputError(f"params must map names to values, not {params!r}", hint="params={'classes': 10}")
    plain = {name: v.item() if isinstance(v, np.generic) else v for name, v in params.items()}
    for name, value in plain.items():
        if not isinstance(name, str):
            raise InputError(f"params must map names to values, and {name!r} is no name", hint="params={'classes': 10}")
        if not isinstance(value, (bool, int, float, str)):
            raise InputError(f"param '{name}' must be a number, text or a boolean, not {value!r}")
    return tuple(sorted(plain.items()))


def check_disabled(backend: Backend, names: Collection[str]) -> None:
    """Raises InputError for a name that no pass has, and no part of the backend."""
    from graphc import pipeline
    from graphc.backends.cpu.parts import PARTS

    passes = [*pipeline.SHAPE_FREE, *pipeline.bound(backend.kernel_operators(), backend.compiles)]
    own = [p.name for p in backend.parts]
    for name in names:
        if name in {p.name for p in PARTS} - {*own} and all(name != p.name for p in passes):
            raise InputError(f"'{name}' is a part of target 'cpu' that '{backend.target}' lacks", hint="leave it out")
    pipeline.check_names(names, passes, own)


def reopened(content: Content, settings: Mapping[str, Any]) -> Model:
    """The process's model of a source that was pickled, compiled where there is none. Raises LoadError where a file is not there."""
    from graphc import pickled

    return pickled.the_one(content.key, settings, lambda: compile(content.source(), **settings))


def reduced(model: Model, content: Content, settings: Mapping[str, Any]) -> tuple[Callable[..., Model], tuple]:
    """What `__reduce__` gives for a model of this source."""
    from graphc import pickled

    pickled.note(model, content.key, settings)
    return reopened, (content, dict(settings))


class Compilation:
    """A model on its way from source to plans. The graph is loaded when something needs it that is not on disk."""

    def __init__(
        self,
        origin: Origin,
        target: str,
        request: Request,
        backend: Backend,
        reading: Reading = AS_IT_IS,
        states: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """states: output by input, besides those that the source has."""
        self.origin, self.target, self.request, self.backend, self.reading = origin, target, request, backend, reading
        self.states = dict(states)
        self._loaded: Graph | None = None
        self._graph: Graph | None = None
        self._infos: tuple[PassInfo, ...] = ()
        self._entry: ModelFolder | None = None
        kept = self._find() if request.cache and backend.capabilities.stores_plans else None
        self.signature = kept or self._sign()

    _pickled: InBytes | None = None  # the graph, where the source is no file
    _of = ""  # what tells its plans from others of the same source

    # --- on disk -------------------------------------------------------------------------------------------------
    def _find(self) -> Signature | None:
        """The signature of a model that was compiled before. Where there is none, plans are kept for the next process."""
        from graphc.documents import digest_of
        from graphc.fingerprint import fingerprint
        from graphc.store import open_store

        store = open_store()
        source = self.origin.digest(store) if store is not None else None
        software = fingerprint() if source is not None else None
        if store is None or software is None:
            return None
        disabled = sorted(self.request.disabled)
        params = [(n, repr(v)) for n, v in self.reading.params]
        types = [(n, str(t)) for n, t in self.reading.types]
        reading = [sorted(self.reading.given), types, params, self.reading.net, self.reading.preprocess]
        asked = [source, software, self.backend.identity(), disabled, reading, sorted(self.states.items())]
        key = digest_of(json.dumps(asked, sort_keys=True))
        entry = self._entry = store.entry(key)
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

    @property
    def is_current(self) -> bool:
        """Are the files of the source, if there are any, still what was compiled?"""
        return not self.files or self.origin.content() is not None

    def reduced(self, model: Model, recipe: Mapping[str, Any]) -> tuple[Callable[..., Model], tuple]:
        """How a model is pickled. Raises InputError where that can't be."""
        from graphc.contents import InBytes

        found = self._content()
        if found is not None:
            return reduced(model, found[0], {**recipe, **found[1]})
        if self._pickled is None:
            graph = model.source_graph  # inputs with a default lose it
            if graph.meta.get("partial"):
                message = f"{model.name} has inputs without a shape, and nodes that can't be read without them"
                raise InputError(message, hint="pickle the path of its file instead")
            self._pickled = InBytes.of_graph(graph)
        return reduced(model, self._pickled, recipe)

    def _content(self) -> tuple[Content, Mapping[str, Any]] | None:
        """What a pickle has of the source, and how it is read; None where that is the graph."""
        content, reading = self.origin.content(), self.reading
        if content is None or not reading.declared:
            return None
        how = {"params": dict(reading.params), "net": reading.net, "states": self.states}
        given = {name: value for name, value in how.items() if value}  # equal arguments are to be one
        return content, given if reading.preprocess else {**given, "preprocess": False}

    def read(self, reading: Reading) -> Compilation:
        """The same source, read in another way, with plans of its own. A session runs the model that has the states."""
        backend = backends.open_backend(self.target, self.request)
        return Compilation(self.origin, self.target, self.request, backend, reading)

    def taken_apart(self, structures: Structures) -> Compilation:
        """The same model with the tensors that inputs consist of in their place. It shares constants and their packed forms."""
        return Apart(self, structures)

    # --- graphs --------------------------------------------------------------------------------------------------
    @property
    def loaded(self) -> Graph:
        """The graph as the front end made it."""
        if self._loaded is None:
            from graphc import frontends
            from graphc.state import declared

            load = partial(frontends.load, reading=self.reading)
            mapped = self.backend.capabilities.maps_files
            self._loaded = declared(self.origin.load(load, mapped=mapped), self.states)
        return self._loaded

    @property
    def graph(self) -> Graph:
        """After the passes that need no shapes."""
        if self._graph is None:
            from graphc import pipeline

            infos: list[PassInfo] = []
            passes = pipeline.shape_free(self.backend.kernel_operators())
            self._graph = _run_passes(self.loaded, passes, self.request.disabled, infos)
            self._infos = tuple(infos)
            self.origin.release()
        return self._graph

    def _sign(self) -> Signature:
        from graphc.declared import unproved
        from graphc.growing import growing
        from graphc.scores import class_scores
        from graphc.state import caches, require_fitting

        whole = all(v.type is not None for v in self.loaded.inputs)  # else it is read again before it is planned
        graph = self.graph if whole else self.loaded
        if self.reading.declared:
            require_fitting(graph)
        results = {n: v.type for n, v in zip(graph.output_names, graph.outputs)}
        dtypes, loose = graph.meta.get("dtypes", {}), graph.meta.get("format") == "onnx"
        return Signature(
            graph.name,
            tuple(Spec.of(v.name, v.type, dtypes.get(v.name)) for v in graph.inputs),
            tuple(Spec.of(n, v.type, dtypes.get(n)) for n, v in zip(graph.output_names, graph.outputs)),
            tuple(shape_like_inputs(graph)) if whole else (),
            len(graph.nodes),
            graph.meta.get("optional", ()),
            loose,
            graph.states,
            caches(self.loaded),
            growing(graph) if whole else (),
            graph.meta.get("nets", ()),
            graph.meta.get("labels", {}),
            class_scores(self.loaded),
            tuple(Spec.of(n, t) for n, t in unproved(graph.meta.get("declared", {}), results).items()) if whole else (),
            graph.meta.get("described", {}),
        )

    def forget(self) -> None:
        """Let go of the graphs, where no other shapes can come; they are loaded again when somebody asks for them."""
        if self.origin.reloadable:
            self._loaded = self._graph = None
            self.backend.forget()

    def outlook(self) -> tuple[Pending, ...]:
        """What will become of every node, as far as it can be told without shapes."""
        return self.backend.outlook(self.graph)

    @property
    def alone(self) -> str:
        """Why every plan is for one set of shapes, or ''."""
        return "" if self.backend.capabilities.many_sizes else f"target '{self.backend.target}' has a plan for each"

    # --- on a device ---------------------------------------------------------------------------------------------
    @property
    def _device(self) -> DeviceBackend | None:
        return cast("DeviceBackend", self.backend) if self.backend.capabilities.device_arrays else None

    @property
    def device_array(self) -> Callable[[Any], Any | None] | None:
        """Of the backend, if it takes such arrays."""
        return None if self._device is None else self._device.device_array

    def to_device(self, a: np.ndarray) -> Any:
        """A copy in the device's memory. Raises InputError where the target has none."""
        if self._device is None:
            checked = (
                "; runs that GRAPHC_CHECK checks have none on any target" if os.environ.get("GRAPHC_CHECK") else ""
            )
            raise InputError(
                f"target '{self.backend.target}' has no memory of its own", hint=f"give NumPy arrays{checked}"
            )
        return self._device.to_device(numbers(a))

    @property
    def state_memory(self) -> Memory:
        """Where sessions of the model have their states."""
        from graphc.room import HOST

        return HOST if self._device is None else self._device.state_memory

    def stream(self, given: Any) -> Any:
        """A caller's stream, as executables take it. Raises InputError where the target has none."""
        if self._device is None:
            raise InputError(f"target '{self.backend.target}' has no streams", hint="leave out stream")
        return self._device.stream(given)

    # --- plans ---------------------------------------------------------------------------------------------------
    def find(self, types: Mapping[str, TensorType], values: Mapping[str, np.ndarray]) -> Executable | None:
        """The executable for these input types (and the values of shape-like inputs), from disk."""
        key = self._plan_key(types, values)
        found = self.backend.load(key)
        if found is None and self.planned:
            from graphc.kept_segments import find

            found = find(self.backend, key, lambda arrays: self.bind(types, values))
        return found

    def bind(self, types: Mapping[str, TensorType], values: Mapping[str, np.ndarray]) -> Executable:
        """The same, made now."""
        graph = self.graph
        self.origin.check()
        return self._compile(graph, types, values, self._plan_key(types, values))

    @property
    def planned(self) -> bool:
        """Are there plans on disk?"""
        return self.backend.capabilities.stores_plans and self.backend.keeps_plans()

    def find_many(self, arrays: Sequence[np.ndarray], valued: Collection[int]) -> Executable | None:
        """An executable for many shapes, these among them, from disk."""
        pattern = self._pattern(arrays, valued)
        if pattern is None:
            return None
        key = self._many_key(pattern)
        found = self.backend.load_many(key, arrays)
        if found is None and self.planned:
            from graphc.kept_segments import find_many

            found = find_many(self.backend, key, lambda arrays: self.bind_many(arrays, valued), arrays)
        return found

    def bind_many(self, arrays: Sequence[np.ndarray], valued: Collection[int]) -> Executable | None:
        """An executable for many shapes, these among them, made now; None where there are no others."""
        pattern = self._pattern(arrays, valued)
        if pattern is None:
            return None
        self.origin.check()
        return self._compile_many(self.graph, pattern, self._many_key(pattern))

    def find_growing(
        self, arrays: Sequence[np.ndarray], valued: Collection[int], growing: Sequence[Growth]
    ) -> Executable | None:
        """An executable for steps that append to states in place, from disk. arrays: as `Pattern` takes them."""
        pattern = self._pattern(arrays, valued, growing)
        return None if pattern is None else self.backend.load_many(self._many_key(pattern), arrays)

    def bind_growing(
        self, arrays: Sequence[np.ndarray], valued: Collection[int], growing: Sequence[Growth]
    ) -> Executable | None:
        """The same, made now; None where the backend has no such plans. Raises CantGrow."""
        pattern = self._pattern(arrays, valued, growing)
        if pattern is None:
            return None
        self.origin.check()
        return self._compile_many(self.graph, pattern, self._many_key(pattern))

    def _plan_key(self, types: Mapping[str, TensorType], values: Mapping[str, np.ndarray]) -> str:
        digest = hashlib.sha256(
            repr([(n, t.dtype.name, t.shape) for n, t in types.items()]).encode() + self._of.encode()
        )
        for name, a in values.items():
            digest.update(f"{name} {a.dtype} {a.shape} {value_key(a)!r}".encode())
        return digest.hexdigest()[:32]

    def _many_key(self, pattern: Pattern) -> str:
        kind = "session" if pattern.growing else "many"
        return f"{kind}-{hashlib.sha256((pattern.key + self._of).encode()).hexdigest()[:16]}"

    def _pattern(
        self, arrays: Sequence[np.ndarray], valued: Collection[int], growing: Sequence[Growth] = ()
    ) -> Pattern | None:
        if not self.backend.capabilities.many_sizes:
            return None
        pattern = Pattern(self.signature.inputs, arrays, valued, growing=growing)
        return pattern if pattern.open else None

    def _compile_many(self, unbound: Graph, pattern: Pattern, key: str | None = None) -> Executable:
        pattern.trace.begin()
        try:
            return self._compile(unbound, pattern.types, pattern.values, key, pattern.many)
        finally:
            pattern.trace.close()

    def _compile(
        self,
        unbound: Graph,
        types: Mapping[str, TensorType],
        values: Mapping[str, np.ndarray],
        key: str | None = None,
        many: Many | None = None,
    ) -> Executable:
        from graphc import pipeline
        from graphc.bind import bind
        from graphc.bundles import closed
        from graphc.growing import CantGrow, with_lengths
        from graphc.kept_segments import part_key
        from graphc.memory_limit import require_memory
        from graphc.segments import conditions, cut, is_static, segmented
        from graphc.taken_apart import Bundled

        passes = list(self._infos)
        bound = bind(unbound, types, values)
        bound = _run_passes(
            bound, pipeline.bound(self.backend.kernel_operators(), self.backend.compiles), self.request.disabled, passes
        )
        require_memory(bound)
        if many is not None and many.growing:
            if not is_static(bound):
                raise CantGrow("shapes inside the model follow from data")
            bound = with_lengths(bound, many)
        made, compiled = tuple(passes), self.backend.compiles

        def make(g: Graph, key: str | None = None) -> Executable:
            if many is None:
                return self.backend.executable(g, made, key)
            return self.backend.executable(g, made, key, many)

        if is_static(bound, compiled) or not self.backend.capabilities.needs_static_shapes:
            tensors, results = closed(bound)
            return make(bound, key) if tensors is bound else Bundled(make(tensors), results, len(tensors.outputs))
        parts = cut(bound, self.backend.kernel_operators(), compiled)
        keys: list[str] = []

        def make_part(g: Graph, number: int | None) -> Executable:
            if key is None or number is None:
                return make(g)
            keys.append(part_key(key, number))
            return make(g, keys[-1])

        def plan(g: Graph, arrays: Sequence[np.ndarray], valued: Sequence[int], alone: bool) -> tuple[Executable, bool]:
            if g is parts.suffix:
                return self._compile_suffix(g, arrays, valued, alone, many, whole)
            return self._compile_suffix(g, arrays, valued, alone)

        def wanted(g: Graph) -> set[str]:
            return {*shape_like_inputs(g), *conditions(g, compiled)}

        cut_graph = segmented(parts, wanted, make_part, plan, self.backend.outlook, compiled, many is None)
        end = "" if many is None else f"-{many.digest()}"
        whole = f"{key}{end}" if keys else None
        if whole is not None and self.backend.capabilities.stores_plans:
            self.backend.keep_cut(whole, cut_graph.document([k + end for k in keys]))
        return cut_graph

    def _compile_suffix(
        self,
        suffix: Graph,
        arrays: Sequence[np.ndarray],
        valued: Sequence[int],
        alone: bool,
        begun: Many | None = None,
        whole: str | None = None,
    ) -> tuple[Executable, bool]:
        """The rest of a graph, and whether it is for many sizes, as it is where it can be and need not be alone. begun: the sizes of what came before;
        whole: the key of the graph, where it is kept. Raises CantServeMany where the sizes are many, and others must not follow."""
        from graphc.kept_segments import suffix_key, suffixes_key

        self.origin.check()

        def many_key(pattern: Pattern) -> str | None:
            return None if whole is None else suffixes_key(whole, pattern.key)

        if begun is not None:
            try:
                with begun.going_on(arrays):
                    pattern = Pattern(suffix.inputs, arrays, valued, begun)
                    return self._compile(suffix, pattern.types, pattern.values, many_key(pattern), pattern.many), True
            except Exception as error:
                if classes.STRICT:
                    raise
                raise CantServeMany(f"{type(error).__name__}: {error}") from error
        if self.backend.capabilities.many_sizes and not alone:
            pattern = Pattern(suffix.inputs, arrays, valued)
            if pattern.open:
                try:
                    return self._compile_many(suffix, pattern, many_key(pattern)), True
                except Exception:
                    if classes.STRICT:
                        raise
        names = [v.name for v in suffix.inputs]
        types = {n: TensorType(a.dtype, a.shape) for n, a in zip(names, arrays)}
        key = None if whole is None else suffix_key(whole, arrays, valued)
        return self._compile(suffix, types, {names[i]: arrays[i] for i in valued}, key), False


class Apart(Compilation):
    """A model whose inputs are the tensors that its own consist of. See `Compilation.taken_apart`."""

    def __init__(self, whole: Compilation, structures: Structures) -> None:
        self._whole, self._structures, self._of = whole, structures, repr(structures)
        self.origin, self.target, self.request, self.backend = whole.origin, whole.target, whole.request, whole.backend
        self.reading, self.states, self._entry = whole.reading, whole.states, whole._entry
        self._loaded = self._graph = None
        self._infos = ()
        self._name = f"signature-{hashlib.sha256(self._of.encode()).hexdigest()[:16]}"
        kept = None if self._entry is None else self._entry.document(self._name)
        self._kept = kept is not None
        self.signature = self._sign() if kept is None else Signature.from_json(kept)

    @property
    def graph(self) -> Graph:
        if self._graph is None:
            from graphc.bundles import opened

            self._graph = opened(self._whole.graph, dict(self._structures))
            self._infos = self._whole._infos
        return self._graph

    @property
    def loaded(self) -> Graph:
        return self.graph

    def read(self, reading: Reading) -> Compilation:
        return self._whole.read(reading).taken_apart(self._structures)

    def _compile(self, *args: Any, **more: Any) -> Executable:
        made = super()._compile(*args, **more)
        if self._entry is not None and not self._kept:
            self._entry.write(self._name, self.signature.to_json())
            self._kept = True
        return made


def shape_like_inputs(graph: Graph) -> list[str]:
    """Inputs whose values (not only shapes) decide the shapes inside the graph: a plan is made for each value.

    Only numbers and rows of numbers, and what is computed from those: sizes that follow from larger arrays are read
    between the segments of a run.
    """
    from graphc.passes.dissolve_objects import arranging, dissolving

    producers = graph.producers()
    needed = set()
    stack = [n.inputs[i] for n in graph.nodes for i in n.op.values if i < len(n.inputs) and n.inputs[i] is not None]
    stack += [v for n in dissolving(graph) for v in arranging(n)]
    while stack:
        v = stack.pop()
        if v in needed or v.is_const or (v.type is not None and (v.type.rank > 1 or is_object(v.type))):
            continue
        needed.add(v)
        node = producers.get(v)
        if node is not None and not node.op.type_only:
            stack.extend(node.operands)
    return [v.name for v in graph.inputs if v in needed]


def _run_passes(graph: Graph, passes: Sequence, disabled: Collection[str], infos: list[PassInfo]) -> Graph:
    from graphc import pipeline
    from graphc.passes.log import Log
    from graphc.report import PassInfo

    started, log = time.perf_counter(), Log()

    def note(done: Any, before: Graph, after: Graph) -> None:
        nonlocal started
        now = time.perf_counter()
        refused = tuple(entry.note for entry in log.refused())
        infos.append(PassInfo(done.name, len(before.nodes), len(after.nodes), now - started, refused))
        log.entries.clear()
        started = now

    return pipeline.run(graph, passes, disabled=disabled, log=log, on_pass=note)
