"""The compiled model: call it, run it by names, look at its plans."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from graphc import classes
from graphc.arguments import Arguments
from graphc.errors import GraphcError, GraphcWarning, InputError, TypeRuleError, raise_full
from graphc.executable import PLANNING, Executable, Quick, Shared, remember, taken, value_key
from graphc.objects import given_back, unbox
from graphc.reading import Contradiction, Reading, contradictions, open_type, told_apart
from graphc.remedies import fits, remedy
from graphc.signature import Signature, Spec
from graphc.types import TensorType
from graphc.words import many

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from graphc.explanation import Explanation
    from graphc.graph import Graph
    from graphc.growing_plans import GrowingPlans
    from graphc.report import Pending, Plan
    from graphc.room import Memory
    from graphc.serving import Batcher
    from graphc.session import Session
    from graphc.signature import Growth, State
    from graphc.structures import Structures
    from graphc.taken_apart import TakenApart


FOR_SESSIONS = frozenset(("growing_plans", "in_order", "is_read_for", "run_plan", "state_memory"))  # of Model
MOST_FAILURES = 3  # to make a plan for many shapes, before each shape gets its own


class Source(Protocol):
    """What a model's plans and graphs come from: graphc.compiler.Compilation."""

    @property
    def signature(self) -> Signature: ...

    @property
    def reading(self) -> Reading: ...

    @property
    def files(self) -> tuple[Path, ...]: ...

    @property
    def loaded(self) -> Graph: ...

    @property
    def graph(self) -> Graph: ...

    def find(self, types: Mapping[str, TensorType], values: Mapping[str, np.ndarray]) -> Executable | None: ...

    def bind(self, types: Mapping[str, TensorType], values: Mapping[str, np.ndarray]) -> Executable: ...

    def find_many(self, arrays: Sequence[np.ndarray], valued: Collection[int]) -> Executable | None: ...

    def bind_many(self, arrays: Sequence[np.ndarray], valued: Collection[int]) -> Executable | None: ...

    def find_growing(
        self, arrays: Sequence[np.ndarray], valued: Collection[int], growing: Sequence[Growth]
    ) -> Executable | None: ...

    def bind_growing(
        self, arrays: Sequence[np.ndarray], valued: Collection[int], growing: Sequence[Growth]
    ) -> Executable | None: ...

    @property
    def planned(self) -> bool: ...

    def read(self, reading: Reading) -> Source: ...

    def taken_apart(self, structures: Structures) -> Source: ...

    def outlook(self) -> tuple[Pending, ...]: ...

    @property
    def alone(self) -> str:
        """Why every plan is for one set of shapes, or ''."""
        ...

    @property
    def device_array(self) -> Callable[[Any], Any | None] | None:
        """Of the backend, if it takes such arrays."""
        ...

    def to_device(self, a: np.ndarray) -> Any:
        """A copy in the device's memory. Raises InputError where the target has none."""
        ...

    @property
    def state_memory(self) -> Memory:
        """Where sessions have their states."""
        ...

    def stream(self, given: Any) -> Any:
        """A caller's stream, as executables take it. Raises InputError where the target has none."""
        ...

    @property
    def is_current(self) -> bool:
        """Are the files of the source, if there are any, still what was compiled?"""
        ...

    def reduced(self, model: Model, recipe: Mapping[str, Any]) -> tuple[Callable[..., Model], tuple]:
        """How a model is pickled. Raises InputError where that can't be."""
        ...


class Model:
    """A compiled model. Made by `graphc.compile`.

    >>> y = model(x)                              # one array, or a tuple when there are several outputs
    >>> results = model.run({"x": x})             # by name
    >>> model(x, out=buffer)                      # into your own array
    >>> model.run({"x": x}, out={"y": buffer})
    >>> session = model.session(h=first)          # step by step, with states carried over: recurrent layers, caches

    Safe to call from several threads. Shapes that have not been seen before are planned at the first call.

    Inputs that have a default come last in `inputs`; where one is given, the source is read again, with an input in the
    place of a constant. The same happens where a file does not give the rank of an input, or gives one name to dims that
    turn out to be different (a warning says so): for each such reading there is a model inside, which has the plans.
    """

    def __init__(self, source: Source, recipe: Mapping[str, Any]) -> None:
        self._source, self._recipe, signature = source, dict(recipe), source.signature
        self._names = tuple(s.name for s in signature.inputs)
        self._input_types = tuple(s.type for s in signature.inputs)
        self._valued = tuple(i for i, n in enumerate(self._names) if n in set(signature.valued))
        self._plans: dict[tuple, Executable] = {}  # for one set of shapes each
        self._many = Shared()  # for many
        self._alone = ""  # why there are none
        self._failures = 0
        self._growing: dict[tuple[Growth, ...], GrowingPlans] = {}
        self._readings: dict[Reading, Model] = {}
        self._quick: Quick = _refuse  # of the plan that was used last
        self._count = len(self._names)
        names = self._names  # not self: a model that refers to itself would outlive its last reference
        self._in_order = itemgetter(*names) if len(names) > 1 else lambda feeds: [feeds[n] for n in names]
        self._arguments = Arguments(signature, source.device_array)
        self._dtypes, self._output_names = self._arguments.dtypes, self._arguments.output_names
        self._declared = {s.name: s.type for s in signature.declared if s.type is not None}
        self._agreed: dict[tuple, bool] = {}  # shapes of inputs and results that are as declared
        self._objects = any(s.content is not None for s in (*signature.inputs, *signature.outputs))
        self._apart = self._models_apart() if self._objects else None
        self.inputs: tuple[Spec, ...] = self._arguments.inputs
        self.outputs: tuple[Spec, ...] = signature.outputs

    def _models_apart(self) -> TakenApart:
        from graphc.taken_apart import TakenApart

        source, recipe = self._source, self._recipe  # not self, as above
        return TakenApart(source.signature.inputs, lambda structures: Model(source.taken_apart(structures), recipe))

    @property
    def name(self) -> str:
        return self._source.signature.name

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Names of classes, by the outputs that have scores of them along their last axis."""
        return dict(self._source.signature.labels)

    @property
    def scores(self) -> tuple[str, ...]:
        """The outputs that are scores of classes along axis 1: those of a softmax, and those that are named logits or so."""
        return self._source.signature.scores

    @property
    def described(self) -> Mapping[str, Any]:
        """What an ONNX file says of itself: producer_name, producer_version, domain, version, description, graph_name,
        graph_description, metadata (by key), and dims, by input and output. Empty entries are left out."""
        return self._source.signature.described

    @property
    def nets(self) -> tuple[str, ...]:
        """The names of all nets of the file that the model was read from, where it has several."""
        return self._source.signature.nets

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the model was read from: its own, those that it includes, and those of its weights."""
        return self._source.files

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of `graphc.compile` that say how, not what, it compiles."""
        return dict(self._recipe)

    @property
    def is_current(self) -> bool:
        """Are its files still what it was compiled from? Also True of what was read from no file."""
        return self._source.is_current

    @cached_property
    def source_graph(self) -> Graph:
        """The graph as the front end made it."""
        with PLANNING:
            return _detached(self._source.loaded)

    @cached_property
    def graph(self) -> Graph:
        """The graph after the passes that need no shapes."""
        with PLANNING:
            return _detached(self._source.graph)

    def __call__(self, *args: np.ndarray, **kwargs: np.ndarray) -> Any:
        """Inputs by position or name; gives the output array, or a tuple of them where there are several.

        out: the array to write the result into, of its shape and dtype, C-contiguous, and apart from the inputs: no array is made
        for it, and the call gives it back. Of several outputs a tuple of arrays, None for one that is to be made, or some by name.
        (Where an input is called so, `run` takes the arrays.)

        Raises InputError as `run` does.
        """
        if len(args) == self._count and not kwargs:
            quick = self._quick(args)
            results = self._run(args, None) if quick is None else [*quick.values()]
            return results[0] if len(results) == 1 else tuple(results)
        out = None if any(s.name == "out" for s in self.inputs) else kwargs.pop("out", None)
        if len(args) > len(self.inputs) or (len(args) < self._count and not kwargs):
            raise InputError(
                f"{self.name} takes {many(len(self._names), 'input')}, not {len(args)}", hint=self._arguments.signature
            )
        buffers = None if out is None else self._arguments.by_name(out)
        results = list(self.run(self._arguments.joined(args, kwargs), buffers).values())
        return results[0] if len(results) == 1 else tuple(results)

    def run(
        self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None, stream: Any = None
    ) -> dict[str, np.ndarray]:
        """Results by name for inputs by name: NumPy arrays, whatever has `__array_interface__`, DLPack or `__array__`, or lists of
        numbers that the dtype can hold. `out`: arrays to write results into, which they give back.

        On a GPU, inputs and `out` may be arrays in its memory (DLPack, __cuda_array_interface__); if one is, the results that are
        made are there, too, and the work may still be going on: whoever takes them waits for it. stream: that this work
        is given to, a number or an object with `__cuda_stream__`; else it goes to one of the model's own.

        Raises InputError that names the input and says what the model wants.
        """
        try:
            arrays = self._in_order(feeds)
            if len(feeds) != self._count:
                raise KeyError
        except (KeyError, IndexError, TypeError):
            completed = self._arguments.completed(feeds)
            if completed is not feeds:
                return self.run(completed, out, stream)
            return self._with_defaults(feeds).run(feeds, out, stream)
        if out is not None or stream is not None:
            buffers = None if out is None else self._arguments.buffers(out)
            queue = None if stream is None else self._source.stream(stream)
            return {**dict(zip(self._output_names, self._run(arrays, buffers, queue))), **(out or {})}
        results = self._quick(arrays)
        return dict(zip(self._output_names, self._run(arrays, None))) if results is None else results

    def to_device(self, array: np.ndarray) -> Any:
        """A copy of an array in the GPU's memory, for `run`; `numpy()` brings it back. Raises InputError where the target is none."""
        return self._source.to_device(array)

    @property
    def states(self) -> tuple[State, ...]:
        """The inputs and outputs that a session carries from one step to the next."""
        return self._source.signature.states

    def session(self, /, states: Mapping[str, str] | None = None, **first: np.ndarray) -> Session:
        """Run the model step by step, with its states carried over.

        states: output by input, besides those that the model was compiled with or brings along. Where there are none at all,
        they are the caches that names tell ('past_key_0' and 'present_key_0', 'past_key_values.0.key' and 'present.0.key'),
        or the operators TensorScatter and Attention. The output may grow along an axis of the input that has a name.

        first: their first values, by name. A state without one begins with zeros: of no length along the axis that grows, and
        of the sizes that the first step's inputs have in dims of the same name.

        Raises InputError where the model has no states, for names that are none of them, for a state that needs a first
        value, since nothing says its size, and for arrays that do not fit.
        """
        from graphc.sessions import open_session

        if states is not None and not isinstance(states, Mapping):
            states, first = None, {**first, "states": states}  # a state of that name
        return open_session(self, self._source.signature, self._arguments, states or {}, first)

    def load_session(self, path: str | os.PathLike[str]) -> Session:
        """The session that `Session.save` wrote to a file, of this model or one with the same states.

        Raises OSError, and InputError for other files, and for names, dtypes and shapes that are not the model's.
        """
        from graphc.sessions import load

        return load(self, self._source.signature, self._arguments, path)

    def batcher(
        self, max_batch: int = 8, max_delay: float = 0.002, *, max_waiting: int = 1024, check: bool = True
    ) -> Batcher:
        """Dynamic batching: callers in threads and coroutines give a row or a few each, which run together (docs/serving.md).

        max_batch: rows of a call; max_delay: seconds that the first of them waits for others at most; max_waiting: requests
        that wait at a time, more have to wait to be taken. check: the first batch's first request is also run alone, and a model
        in which rows depend on each other refused.

        Raises InputError where the model has no batch axis: a first dim of inputs and outputs that is open.
        """
        from graphc.serving import Batcher

        return Batcher(self, self._source.signature, self._arguments, max_batch, max_delay, max_waiting, check)

    # --- steps in place, for sessions --------------------------------------------------------------------------------
    def growing_plans(self, growing: tuple[Growth, ...]) -> GrowingPlans:
        """The plans of steps that append to these states in place."""
        from graphc.growing_plans import GrowingPlans

        with PLANNING:
            if growing not in self._growing:
                self._growing[growing] = GrowingPlans(self._source, self._valued, growing)
            return self._growing[growing]

    @property
    def state_memory(self) -> Memory:
        """Where sessions have large states."""
        return self._source.state_memory

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the inputs that must be given."""
        return self._names

    def in_order(self, feeds: Mapping[str, Any]) -> list[np.ndarray] | None:
        """Inputs as plans take them; None where they are not those that must be given. Raises InputError."""
        if len(feeds) != self._count or any(n not in feeds for n in self._names):
            return None
        arrays = [feeds[n] for n in self._names]
        for i, (a, dtype) in enumerate(zip(arrays, self._dtypes)):
            if type(a) is not np.ndarray or a.dtype is not dtype or not a.flags.c_contiguous:
                arrays[i] = self._arguments.checked(i, a)
        return taken(arrays, self._valued) if self._valued else arrays

    def is_read_for(self, arrays: Sequence[np.ndarray]) -> bool:
        """Are inputs of these shapes for this reading of the source? Raises InputError where they are for none."""
        return self._other(arrays) is None

    def run_plan(
        self, executable: Executable, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None
    ) -> list[np.ndarray]:
        """See `Executable.run`."""
        try:
            return executable.run(arrays, out)
        except MemoryError as error:
            raise_full(error)

    @property
    def valued(self) -> tuple[str, ...]:
        """The inputs whose values, not only their shapes, decide the shapes inside the model."""
        return tuple(self._names[i] for i in self._valued)

    def outlook(self) -> tuple[Pending, ...]:
        """What will become of every node, as far as it can be told before shapes are known."""
        with PLANNING:
            return self._source.outlook()

    def plan(
        self,
        shapes: Mapping[str, Sequence[int]] | None = None,
        values: Mapping[str, np.ndarray] | None = None,
        *,
        many: bool = False,
    ) -> Plan:
        """The plan for input shapes (by name; static shapes need none): steps, memory, why things fused.

        The first shapes of a model get a plan of their own, later ones share plans. many: these do, too; the plan's `guards` tell
        which others it serves, `because` what kept those before from serving these.

        values: arrays for inputs, which have their shapes; those that `valued` names are needed. Raises InputError where
        a symbolic dim is left open or one of these has no value.
        """
        values = self._arguments.completed(values) if values else {}
        model, arrays = self._for(shapes or {}, values)
        found = model._apart
        apart = found.model_for(arrays) if found is not None and found.names <= values.keys() else None
        if found is not None and apart is not None:
            return model._plan_apart(found, apart, arrays, values, many)
        missing = [n for n in model.valued if n not in values]
        if missing:
            names = ", ".join(f"'{n}'" for n in missing)
            raise InputError(f"shapes follow from the values of {names}", hint="give their values, or run the model")
        arrays = taken(arrays, model._valued)
        plan = model._executable(arrays, many=many).plan_for(arrays)
        if many and plan.guards is None:
            reason = (
                model._alone
                or model._source.alone
                or "no size of the inputs is open that is not 0 or 1: try larger ones"
            )
            plan = replace(plan, because=(reason,))
        return plan

    def _plan_apart(
        self, found: TakenApart, apart: Model, arrays: Sequence[np.ndarray], values: Mapping[str, Any], many: bool
    ) -> Plan:
        """The plan of the model for the tensors that inputs consist of, to be measured with inputs as callers give them."""

        def named(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
            return dict(zip(apart._names, found.tensors(arrays)))

        shapes = {n: a.shape for n, a in zip(self._names, arrays) if n not in values}
        plan = apart.plan(shapes, {n: a for n, a in named(arrays).items() if n not in shapes}, many=many)
        measure = plan.measure
        if measure is None:
            return plan

        def measured(feeds: Mapping[str, Any], rounds: int) -> Sequence[float]:
            return measure(named([self._arguments.checked(i, feeds[n]) for i, n in enumerate(self._names)]), rounds)

        return replace(plan, measure=measured)

    @property
    def classes(self) -> tuple[tuple[str, ...], ...]:
        """The guards of each plan for many shapes that the model has, the last used first; then those of its sessions."""
        growing = [e for plans in self._growing.values() for e in plans.plans]
        return tuple(e.plan.guards or () for e in (*self._many, *growing))

    def result_types(self, shapes: Mapping[str, Sequence[int]] | None = None) -> dict[str, TensorType | None]:
        """Types of the results for input shapes (by name; static shapes need none), without a plan.

        Dims that follow from values stay symbols; None where not even the number of dims is known. Raises InputError where a
        dim of an input is left open, or shapes do not fit each other. Whether each operator takes them, `plan` tells.
        """
        from graphc.bind import result_types

        model, arrays = self._for(shapes or {})
        with PLANNING:
            graph = model._source.graph
        return result_types(graph, {n: a.shape for n, a in zip(model._names, arrays)})

    def explain(
        self,
        shapes: Mapping[str, Sequence[int]] | None = None,
        values: Mapping[str, np.ndarray] | None = None,
        *,
        many: bool = False,
    ) -> Explanation:
        """What the model became for these shapes, and why: as text (`print(model.explain())`), as HTML in a notebook, and as data
        (`.plan`). Arguments and errors are those of `plan`.
        """
        from graphc.explanation import Explanation

        plan = self.plan(shapes, values, many=many)
        return Explanation(self.name, plan, many, all(spec.is_static for spec in self.inputs))

    def prepare(self, shapes: Mapping[str, Sequence[int]] | None = None, *, many: bool = False) -> None:
        """Make the plan for input shapes now, where no input's value decides a shape. many: as of `plan`."""
        model, arrays = self._for(shapes or {})
        if not model._valued:
            model._executable(arrays, alone=not many, many=many)

    def _for(
        self, shapes: Mapping[str, Sequence[int]], values: Mapping[str, np.ndarray] = MappingProxyType({})
    ) -> tuple[Model, list[np.ndarray]]:
        """The model that has the plans for input shapes, and arrays of these. Raises InputError where they do not fit."""
        objects = {s.name for s in self.inputs if s.content is not None}
        given, arrays = {**shapes, **{n: () if n in objects else np.shape(a) for n, a in values.items()}}, []
        unknown = [n for n in given if n not in {s.name for s in self.inputs}]
        if unknown:
            raise InputError(f"a shape is given for '{unknown[0]}', which is no input", hint=self._arguments.signature)
        more = frozenset(given) - frozenset(self._names)
        if more:
            return self._read(given=more)._for(given, values)
        for i, spec in enumerate(self.inputs[: self._count]):
            zeros = self._arguments.zeros(spec, given.get(spec.name, spec.shape))
            arrays.append(self._arguments.checked(i, values[spec.name]) if spec.name in values else zeros)
        other = self._other(arrays)
        return (self, arrays) if other is None else other._for(given, values)

    # --- running ---------------------------------------------------------------------------------------------------
    def _run(
        self, arrays: Sequence[Any], out: Sequence[np.ndarray | None] | None, stream: Any = None
    ) -> list[np.ndarray]:
        if self._apart is None:
            return self._run_arrays(arrays, out, stream)
        arrays = [self._arguments.checked(i, a) for i, a in enumerate(arrays)]  # boxed
        apart = self._apart.model_for(arrays)
        if apart is not None:
            return apart._run(self._apart.tensors(arrays), out, stream)
        results = self._run_arrays(arrays, out, stream)
        return [a if s.content is None else given_back(unbox(a)) for s, a in zip(self.outputs, results)]

    def _run_arrays(
        self, arrays: Sequence[Any], out: Sequence[np.ndarray | None] | None, stream: Any
    ) -> list[np.ndarray]:
        for a, dtype in zip(arrays, self._dtypes):
            if type(a) is not np.ndarray or a.dtype is not dtype or not a.flags.c_contiguous:
                arrays = [self._arguments.checked(i, a) for i, a in enumerate(arrays)]
                break
        key = tuple([a.shape for a in arrays])
        if self._valued:
            arrays = taken(arrays, self._valued)
            key += tuple([value_key(arrays[i]) for i in self._valued])
        executable = self._plans.get(key) or self._many.holding(arrays)
        if executable is None:
            other = self._other(arrays)
            if other is not None:
                return self._elsewhere(other, arrays, out, stream)
            executable = self._executable(arrays, key)
        if out is not None:
            self._arguments.check_overlap(arrays, out)
        try:
            results = executable.run_on(stream, arrays, out)
        except MemoryError as error:
            raise_full(error)
        except classes.CantServeMany as error:
            self._alone = str(error)
            self._many.clear()
            executable = self._executable(arrays, key, alone=True)
            results = executable.run_on(stream, arrays, out)
        if self._declared:
            self._compare(arrays, key, results)
        if executable.quick is not None and not self._valued and not self._objects:
            self._quick = executable.quick  # its results have the shapes that these have
        return results

    def _compare(self, arrays: Sequence[Any], key: tuple, results: list[np.ndarray]) -> None:
        """Warns once of each output that is not what the file declares. key: of the inputs' shapes."""
        shapes = (key, *[a.shape for a in results])
        if shapes in self._agreed:
            return
        from graphc.declared import contradiction, sizes_of

        sizes = sizes_of(self.inputs, [a.shape for a in arrays])
        for name, a in zip(self._output_names, results):
            want = self._declared.get(name)
            if want is not None and (wrong := contradiction(name, want, TensorType(a.dtype, a.shape), sizes)):
                self._declared = {n: t for n, t in self._declared.items() if n != name}
                warnings.warn(GraphcWarning(wrong), stacklevel=2)
        remember(self._agreed, shapes, True)

    def _executable(
        self, arrays: Sequence[np.ndarray], key: tuple | None = None, alone: bool = False, many: bool = False
    ) -> Executable:
        """The plan for these inputs: one that is there, in memory or on disk, else one that is made now. The first of a model is
        for its shapes alone, later ones for as many as they can. alone, many: this one is, too."""
        if key is None:
            key = (*(a.shape for a in arrays), *(value_key(arrays[i]) for i in self._valued))
        with PLANNING:
            found = (None if many else self._plans.get(key)) or (None if alone else self._many.holding(arrays))
            if found is not None:
                return found
            try:
                return self._planned(arrays, key, alone, many)
            except MemoryError as error:
                raise_full(error)
            except OverflowError as error:
                message = f"{self.name} would have sizes or positions that 64 bits can't hold: {error}"
                raise InputError(message, hint="smaller values") from error

    def _planned(self, arrays: Sequence[np.ndarray], key: tuple, alone: bool, many: bool) -> Executable:
        types = {n: TensorType(a.dtype, a.shape) for n, a in zip(self._names, arrays)}
        values = {self._names[i]: arrays[i] for i in self._valued}
        source = self._source
        made = None if many else source.find(types, values)
        if made is None and not alone:
            made = self._planned_for_many(arrays, many)
            if made is not None:
                self._many.add(made)
                return made
        if made is None:
            made = source.bind(types, values)
        remember(self._plans, key, made)
        return made

    def _planned_for_many(self, arrays: Sequence[np.ndarray], many: bool) -> Executable | None:
        """None where a plan for these shapes alone is to be made, unless one for many is wanted and possible."""
        if self._alone:
            return None
        found = self._source.find_many(arrays, self._valued)
        if found is not None or not (many or self._plans or self._many or self._source.planned):
            return found
        because = tuple(f"plan {k + 1} needs {e.refusal(arrays)}" for k, e in enumerate(self._many))
        try:
            made = self._source.bind_many(arrays, self._valued)
            if made is not None:
                if not made.holds(arrays):
                    raise AssertionError(f"a plan is not for what it was made for: {made.refusal(arrays)}")
                made.because = because
            return made
        except classes.CantServeMany as error:
            self._alone = str(error)
            return None
        except (GraphcError, MemoryError):
            if classes.STRICT:
                raise
            return None  # what is wrong with these shapes is said better with numbers
        except Exception as error:
            if classes.STRICT:
                raise
            self._failures += 1
            if self._failures == MOST_FAILURES:
                self._alone = f"{type(error).__name__}: {error}"
            return None

    def _other(self, arrays: Sequence[np.ndarray]) -> Model | None:
        """The model for another reading of the source, where these arrays need one. Raises InputError where they do not fit."""
        specs = self.inputs[: self._count]
        for spec, want, a in zip(specs, self._input_types, arrays):
            if want is not None and not fits(a, want):
                raise InputError(
                    f"input '{spec.name}' has shape {a.shape}, the model wants {want}", hint=remedy(a.shape, want)
                )
        if None in self._input_types:
            return self._read(types={s.name: open_type(s.name, a) for s, a in zip(specs, arrays) if s.type is None})
        found = contradictions(specs, arrays)
        if not found:
            return None
        if not self._source.signature.loose:
            raise self._unequal(found[0], arrays)
        return self._read(types=told_apart(specs, found), why=found[0])

    def _unequal(self, found: Contradiction, arrays: Sequence[np.ndarray]) -> InputError:
        i = self._names.index(found.other)
        message = f"input '{found.other}' has shape {arrays[i].shape}, the model wants {self._input_types[i]}"
        return InputError(message, hint=f"{found}: dims of one name must be equal")

    def _read(
        self,
        given: frozenset[str] = frozenset(),
        types: Mapping[str, TensorType] | None = None,
        why: Contradiction | None = None,
    ) -> Model:
        """The model for another reading of the source."""
        reading = self._source.reading.also(given, types)
        with PLANNING:
            if reading not in self._readings:
                if why is not None:
                    text = f"{why} and another size in '{why.other}': dims of that name are read as different ones"
                    warnings.warn(GraphcWarning(text), stacklevel=2)
                remember(self._readings, reading, Model(self._source.read(reading), self._recipe))
            return self._readings[reading]

    def _elsewhere(self, other: Model, arrays: Sequence[np.ndarray], out: Any, stream: Any) -> list[np.ndarray]:
        """What the model for another reading gives."""
        try:
            return other._run_arrays(arrays, out, stream)
        except TypeRuleError as error:  # dims of one name have to be equal after all
            found = contradictions(self.inputs[: self._count], arrays)
            if not found:
                raise
            raise self._unequal(found[0], arrays) from error

    def _with_defaults(self, feeds: Mapping[str, Any]) -> Model:
        """The model for the inputs that are given beyond those that must be. Raises InputError for wrong names."""
        names, known = frozenset(self._names), {s.name for s in self.inputs}
        if not isinstance(feeds, Mapping) or not names < feeds.keys() or not feeds.keys() <= known:
            raise self._arguments.wrong_names(feeds) from None
        return self._read(given=frozenset(feeds.keys() - names))

    def __dir__(self) -> list[str]:
        """What is for callers."""
        return sorted(n for n in super().__dir__() if not n.startswith("_") and n not in FOR_SESSIONS)

    def __repr__(self) -> str:
        lines = [
            f"Model '{self.name}' for {self._recipe.get('target', 'cpu')}, {self._source.signature.operators} operators"
        ]
        lines += [f"  in   {s}" for s in self.inputs] + [f"  out  {s}" for s in self.outputs]
        plans = len(self._plans) + len(self._many)
        if plans:
            lines.append(f"  {plans} plan{'s' if plans > 1 else ''}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple:
        """Pickles the path of the source, what its files hold, and the options; the bytes or the graph where there is no file, or
        it is another now. Plans and machine code are found again, and a model that the process has already is that model."""
        return self._source.reduced(self, self._recipe)


def _detached(graph: Graph) -> Graph:
    """The graph with copies of those constants that are views of mapped files."""
    from graphc.graph import Rewriter, constant
    from graphc.source_files import mapping_of

    copies = {v: constant(v.name, v.data.copy()) for v in graph.constants() if mapping_of(v.data) is not None}
    if not copies:
        return graph
    rw = Rewriter(graph)
    rw.map.update(copies)
    for node in graph.nodes:
        rw.copy(node)
    return rw.finish()


def _refuse(arrays: Sequence[Any]) -> None:
    """`Executable.quick` of no plan."""
