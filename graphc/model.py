"""The compiled model: call it, run it by names, look at its plans."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np

from graphc.errors import GraphcWarning, InputError, OutOfMemoryError, TypeRuleError
from graphc.executable import PLANNING, Executable, Quick, remember, taken, value_key
from graphc.reading import Contradiction, Reading, contradictions, open_type, told_apart
from graphc.report import Pending, Plan
from graphc.session import Session
from graphc.signature import Signature, Spec
from graphc.types import Sym, TensorType, dtype_name, numbers

if TYPE_CHECKING:
    from pathlib import Path

    from graphc.graph import Graph
    from graphc.state import State


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

    def bind(self, types: Mapping[str, TensorType], values: Mapping[str, np.ndarray]) -> Executable: ...

    def read(self, reading: Reading) -> Source: ...

    def outlook(self) -> tuple[Pending, ...]: ...

    @property
    def reopen(self) -> Callable[[Graph, Mapping[str, Any]], Model]:
        """The model again, from its pickle."""
        ...


class Model:
    """A compiled model. Made by `graphc.compile`.

    >>> y = model(x)                              # one array, or a tuple when there are several outputs
    >>> results = model.run({"x": x})             # by name
    >>> model.run({"x": x}, out={"y": buffer})    # into your own array
    >>> session = model.session(h=first)          # step by step, with states carried over

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
        self._plans: dict[tuple, Executable] = {}
        self._readings: dict[Reading, Model] = {}
        self._quick: Quick = _refuse  # of the plan that was used last
        self._count = len(self._names)
        names = self._names  # not self: a model that refers to itself would outlive its last reference
        self._in_order = itemgetter(*names) if len(names) > 1 else lambda feeds: [feeds[n] for n in names]
        self._dtypes = tuple(s.dtype for s in signature.inputs)
        self.inputs: tuple[Spec, ...] = (*signature.inputs, *signature.optional)
        self.outputs: tuple[Spec, ...] = signature.outputs
        self._output_names = tuple(s.name for s in signature.outputs)

    @property
    def name(self) -> str:
        return self._source.signature.name

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the model was read from: its own and those of its weights."""
        return self._source.files

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
        """Inputs by position or name; gives the output array, or a tuple of them where there are several."""
        if len(args) == self._count and not kwargs:
            quick = self._quick(args)
            results = self._run(args, None) if quick is None else [*quick.values()]
            return results[0] if len(results) == 1 else tuple(results)
        if "out" in kwargs and all(s.name != "out" for s in self.inputs):
            buffers = ", ".join(f"'{n}': …" for n in self._output_names)
            raise InputError(
                "'out' is an argument of run, not of a call", hint=f"{self._by_name()[:-1]}, out={{{buffers}}})"
            )
        if len(args) > len(self.inputs) or (len(args) < self._count and not kwargs):
            raise InputError(f"{self.name} takes {len(self._names)} inputs, not {len(args)}", hint=self._signature())
        results = list(self.run(self._joined(args, kwargs)).values())
        return results[0] if len(results) == 1 else tuple(results)

    def run(
        self, feeds: Mapping[str, np.ndarray], out: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Results by name for inputs by name. `out`: arrays to write results into.

        Raises InputError that names the input and says what the model wants.
        """
        try:
            arrays = self._in_order(feeds)
            if len(feeds) != self._count:
                raise KeyError
        except (KeyError, IndexError, TypeError):
            return self._with_defaults(feeds).run(feeds, out)
        if out is not None:
            return dict(zip(self._output_names, self._run(arrays, self._buffers(out))))
        results = self._quick(arrays)
        return dict(zip(self._output_names, self._run(arrays, None))) if results is None else results

    @property
    def states(self) -> tuple[State, ...]:
        """The inputs and outputs that a session carries from one step to the next."""
        return self._source.signature.states

    def session(self, /, **first: np.ndarray) -> Session:
        """Run the model step by step, with its states carried over. first: their first values, by name.

        A state without one begins with zeros, where its type has only numbers for dims. Raises InputError where the model has
        no states (see `graphc.compile`), for names that are none of them, and for arrays that do not fit.
        """
        names = [s.name for s in self.states]
        if not names:
            hint = "declare them: graphc.compile(…, states={'input': 'output'})"
            raise InputError(f"{self.name} has no states for a session to carry; {self._signature()}", hint=hint)
        unknown = [n for n in first if n not in names]
        if unknown:
            raise InputError(f"'{unknown[0]}' is no state", hint=f"states: {', '.join(names)}")
        return Session(self, {s.name: self._first(s, first.get(s.name)) for s in self.states})

    def _first(self, state: State, given: Any) -> np.ndarray:
        """The first value of a state."""
        i = self._names.index(state.input)
        spec, want = self.inputs[i], self._input_types[i]
        assert want is not None  # it has the type of an output
        if given is None:
            if not want.is_static or want.dtype.kind == "O":
                hint = f"give it: model.session({state.name}=…)"
                raise InputError(f"state '{state.name}', {spec}, needs a first value", hint=hint)
            return np.zeros(numbers(want.shape), want.dtype)
        a = self._checked(i, given)
        if not _fits(a, want):
            raise InputError(f"state '{state.name}' has shape {a.shape}, the model wants {want}", hint=_remedy(a, want))
        return a

    @property
    def valued(self) -> tuple[str, ...]:
        """The inputs whose values, not only their shapes, decide the shapes inside the model."""
        return tuple(self._names[i] for i in self._valued)

    def outlook(self) -> tuple[Pending, ...]:
        """What will become of every node, as far as it can be told before shapes are known."""
        with PLANNING:
            return self._source.outlook()

    def plan(
        self, shapes: Mapping[str, Sequence[int]] | None = None, values: Mapping[str, np.ndarray] | None = None
    ) -> Plan:
        """The plan for input shapes (by name; static shapes need none): steps, memory, why things fused.

        values: arrays for inputs, which have their shapes; those that `valued` names are needed. Raises InputError where
        a symbolic dim is left open or one of these has no value.
        """
        model, arrays = self._for(shapes or {}, values or {})
        missing = [n for n in model.valued if n not in (values or {})]
        if missing:
            names = ", ".join(f"'{n}'" for n in missing)
            raise InputError(f"shapes follow from the values of {names}", hint="give their values, or run the model")
        return model._executable(taken(arrays, model._valued)).plan

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

    def prepare(self, shapes: Mapping[str, Sequence[int]] | None = None) -> None:
        """Make the plan for input shapes now, where no input's value decides a shape."""
        model, arrays = self._for(shapes or {})
        if not model._valued:
            model._executable(arrays)

    def _for(
        self, shapes: Mapping[str, Sequence[int]], values: Mapping[str, np.ndarray] = MappingProxyType({})
    ) -> tuple[Model, list[np.ndarray]]:
        """The model that has the plans for input shapes, and arrays of these. Raises InputError where they do not fit."""
        given, arrays = {**shapes, **{n: np.shape(a) for n, a in values.items()}}, []
        unknown = [n for n in given if n not in {s.name for s in self.inputs}]
        if unknown:
            raise InputError(f"a shape is given for '{unknown[0]}', which is no input", hint=self._signature())
        more = frozenset(given) - frozenset(self._names)
        if more:
            return self._read(given=more)._for(given, values)
        for i, spec in enumerate(self.inputs[: self._count]):
            shape = given.get(spec.name, spec.shape)
            if shape is not None and not isinstance(shape, (Sequence, np.ndarray)):
                raise InputError(f"the shape of input '{spec.name}' can't be {shape!r}", hint="give a tuple of sizes")
            if shape is None or any(isinstance(d, str) for d in shape):
                hint = f"give shapes={{'{spec.name}': (…)}}"
                raise InputError(f"the shape of input '{spec.name}' is open: {_wanted(spec)}", hint=hint)
            if not all(isinstance(d, (int, np.integer)) and not isinstance(d, bool) and d >= 0 for d in shape):
                raise InputError(
                    f"the shape of input '{spec.name}' can't be {tuple(shape)}", hint="sizes are ints from 0 up"
                )
            if spec.dtype is None:
                raise InputError(f"the dtype of input '{spec.name}' is not known", hint="run the model instead")
            try:
                zeros = np.broadcast_to(np.zeros((), spec.dtype), tuple(shape))  # of no memory: nobody reads it
            except ValueError as error:
                raise InputError(f"the shape of input '{spec.name}' can't be {tuple(shape)}: {error}") from None
            arrays.append(self._checked(i, values[spec.name]) if spec.name in values else zeros)
        other = self._other(arrays)
        return (self, arrays) if other is None else other._for(given, values)

    # --- running ---------------------------------------------------------------------------------------------------
    def _run(self, arrays: Sequence[Any], out: Sequence[np.ndarray | None] | None) -> list[np.ndarray]:
        for a, dtype in zip(arrays, self._dtypes):
            if type(a) is not np.ndarray or a.dtype is not dtype or not a.flags.c_contiguous:
                arrays = [self._checked(i, a) for i, a in enumerate(arrays)]
                break
        key = tuple([a.shape for a in arrays])
        if self._valued:
            arrays = taken(arrays, self._valued)
            key += tuple([value_key(arrays[i]) for i in self._valued])
        executable = self._plans.get(key)
        if executable is None:
            other = self._other(arrays)
            if other is not None:
                return self._elsewhere(other, arrays, out)
            executable = self._executable(arrays, key)
        if executable.quick is not None and not self._valued:
            self._quick = executable.quick
        if out is not None:
            self._check_overlap(arrays, out)
        try:
            return executable.run(arrays, out)
        except MemoryError as error:
            _full(error)

    def _executable(self, arrays: Sequence[np.ndarray], key: tuple | None = None) -> Executable:
        if key is None:
            key = (*(a.shape for a in arrays), *(value_key(arrays[i]) for i in self._valued))
        with PLANNING:
            if key not in self._plans:
                types = {n: TensorType(a.dtype, a.shape) for n, a in zip(self._names, arrays)}
                values = {self._names[i]: arrays[i] for i in self._valued}
                try:
                    remember(self._plans, key, self._source.bind(types, values))
                except MemoryError as error:
                    _full(error)
            return self._plans[key]

    def _other(self, arrays: Sequence[np.ndarray]) -> Model | None:
        """The model for another reading of the source, where these arrays need one. Raises InputError where they do not fit."""
        specs = self.inputs[: self._count]
        for spec, want, a in zip(specs, self._input_types, arrays):
            if want is not None and not _fits(a, want):
                raise InputError(
                    f"input '{spec.name}' has shape {a.shape}, the model wants {want}", hint=_remedy(a, want)
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

    def _elsewhere(self, other: Model, arrays: Sequence[np.ndarray], out: Any) -> list[np.ndarray]:
        """What the model for another reading gives."""
        try:
            return other._run(arrays, out)
        except TypeRuleError as error:  # dims of one name have to be equal after all
            found = contradictions(self.inputs[: self._count], arrays)
            if not found:
                raise
            raise self._unequal(found[0], arrays) from error

    def _with_defaults(self, feeds: Mapping[str, Any]) -> Model:
        """The model for the inputs that are given beyond those that must be. Raises InputError for wrong names."""
        names, known = frozenset(self._names), {s.name for s in self.inputs}
        if not isinstance(feeds, Mapping) or not names < feeds.keys() or not feeds.keys() <= known:
            raise self._wrong_names(feeds) from None
        return self._read(given=frozenset(feeds.keys() - names))

    def _checked(self, i: int, a: Any) -> np.ndarray:
        """Input i as a contiguous array of the right dtype. Conversions that could lose anything are refused."""
        spec, want = self.inputs[i], self._dtypes[i]
        strings = want is not None and want.kind == "O"
        try:
            array = np.asarray(a)
        except (
            TypeError,
            ValueError,
            RuntimeError,
            OverflowError,
        ) as error:  # rows of different lengths, a tensor of a GPU
            raise InputError(
                f"input '{spec.name}' can't be made an array: {error}", hint="give a NumPy array"
            ) from None
        if not hasattr(a, "dtype") and want not in (None, array.dtype) and array.dtype.kind in "biuf":
            array = self._exactly(i, a, array)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        if array.dtype == object and want is not None and not strings:
            given = "an array of objects" if isinstance(a, np.ndarray) else type(a).__name__
            hint = self._by_name() if isinstance(a, Mapping) else "give a NumPy array of numbers"
            raise InputError(f"input '{spec.name}' is {given}, the model wants {_wanted(spec)}", hint=hint)
        if want is not None and array.dtype != want and not (strings and array.dtype.kind in "OUS"):
            hint = f"convert it: x.astype('{'str' if strings else dtype_name(want)}')"
            raise InputError(
                f"input '{spec.name}' is {dtype_name(array.dtype)}, the model wants {_wanted(spec)}", hint=hint
            )
        if array.dtype.kind in "US":
            array = array.astype(object)
        return np.ascontiguousarray(array) if array.ndim else array

    def _exactly(self, i: int, a: Any, given: np.ndarray) -> np.ndarray:
        """Numbers of a list, which has no dtype, in the input's, where that can hold each of them."""
        want = self._dtypes[i]
        assert want is not None
        if want.kind == "O" or (want.kind == "b") != (given.dtype.kind == "b"):
            return given
        numbers = np.asarray(a, object)  # compared as Python compares them, without rounding
        try:
            with np.errstate(all="ignore"):
                array = numbers.astype(want)
            same = (array.astype(object) == numbers) | (numbers != numbers)  # NaN stays NaN
        except (OverflowError, ValueError):
            array, same = given, np.zeros(numbers.shape, bool)
        if not same.all():
            wrong = numbers[~same].reshape(-1)
            limits = f"holds {wrong[0]!r}" if len(wrong) < numbers.size or numbers.size == 1 else "holds numbers"
            raise InputError(
                f"input '{self._names[i]}' {limits}, which {dtype_name(want)} can't hold exactly",
                hint=f"round it: numpy.asarray(…, '{dtype_name(want)}')",
            )
        return array

    def _buffers(self, out: Mapping[str, np.ndarray]) -> list[np.ndarray | None]:
        unknown = [n for n in out if n not in self._output_names]
        if unknown:
            raise InputError(f"unknown output '{unknown[0]}'", hint=self._signature())
        for n, a in out.items():
            if not isinstance(a, np.ndarray) or not a.flags.c_contiguous or not a.flags.writeable:
                hint = "make it with numpy.empty(shape, dtype)"
                raise InputError(f"the array for output '{n}' must be a writable, C-contiguous numpy array", hint=hint)
        given = dict(out)  # of results of one name, the last is the one that callers find under it
        return [given.pop(n, None) for n in reversed(self._output_names)][::-1]

    def _check_overlap(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None]) -> None:
        """Kernels read and write in any order: a result may lie neither on an input nor on another result."""
        taken = [(f"input '{n}'", a) for n, a in zip(self._names, arrays)]
        for name, buffer in zip(self._output_names, out):
            if buffer is None:
                continue
            for other, a in taken:
                if np.may_share_memory(buffer, a):  # exact: all are contiguous
                    hint = "give each result memory of its own"
                    raise InputError(f"the array for output '{name}' and {other} share memory", hint=hint)
            taken.append((f"the one for output '{name}'", buffer))

    def _joined(self, args: Sequence[np.ndarray], kwargs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        feeds = {s.name: a for s, a in zip(self.inputs, args)}
        for name in kwargs:
            if name in feeds:
                raise InputError(f"input '{name}' is given twice, by position and by name", hint=self._signature())
        return {**feeds, **kwargs}

    def _by_name(self) -> str:
        """How `run` is called."""
        names = ", ".join(f"'{n}': …" for n in self._names)
        return f"model.run({{{names}}})"

    def _wrong_names(self, feeds: Mapping[str, Any]) -> InputError:
        if feeds is None or isinstance(feeds, (list, tuple)) and all(isinstance(n, str) for n in feeds):
            hint = f"{self._by_name()} gives all outputs by name; pick those that are wanted"
            return InputError("run takes no list of outputs, only the inputs by name", hint=hint)
        if not isinstance(feeds, Mapping):
            hint = f"{self._by_name()}, or call the model with arrays by position: model(…)"
            return InputError(f"run takes the inputs by name, not {type(feeds).__name__}", hint=hint)
        missing = [n for n in self._names if n not in feeds]
        known = {s.name for s in self.inputs}
        extra = [n for n in feeds if n not in known]
        parts = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"unknown: {', '.join(map(str, extra))}"] * bool(
            extra
        )
        return InputError(f"wrong input names ({'; '.join(parts)})", hint=self._signature())

    def _signature(self) -> str:
        return f"inputs: {'; '.join(map(str, self.inputs))} -> outputs: {'; '.join(map(str, self.outputs))}"

    def __repr__(self) -> str:
        lines = [
            f"Model '{self.name}' for {self._recipe.get('target', 'cpu')}, {self._source.signature.operators} operators"
        ]
        lines += [f"  in   {s}" for s in self.inputs] + [f"  out  {s}" for s in self.outputs]
        if self._plans:
            lines.append(f"  {len(self._plans)} plan{'s' if len(self._plans) > 1 else ''}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple:
        """Pickles the source graph and the options; machine code is found in the cache again. Inputs with a default lose it."""
        if self.source_graph.meta.get("partial"):
            message = f"{self.name} has inputs without a shape, and nodes that can't be read without them"
            raise InputError(message, hint="pickle the path of its file instead")
        return self._source.reopen, (self.source_graph, self._recipe)


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


def _full(error: MemoryError) -> NoReturn:
    if isinstance(error, OutOfMemoryError):
        raise error
    raise OutOfMemoryError(f"the machine's memory is full: {error}", hint="smaller inputs, or fewer plans") from error


def _refuse(arrays: Sequence[Any]) -> None:
    """`Executable.quick` of no plan."""


def _wanted(spec: Spec) -> str:
    """A type, as far as it is known."""
    return str(spec.type) if spec.type is not None else str(spec).removeprefix(f"{spec.name}: ")


def _fits(a: np.ndarray, want: TensorType) -> bool:
    return a.ndim == want.rank and all(isinstance(d, Sym) or d == n for d, n in zip(want.shape, a.shape))


def _remedy(a: np.ndarray, want: TensorType) -> str:
    if a.ndim != want.rank:
        return f"it must have {want.rank} dims, not {a.ndim}: reshape it, or add a dim with x[None]"
    wrong = [str(k) for k, (d, n) in enumerate(zip(want.shape, a.shape)) if not isinstance(d, Sym) and d != n]
    return f"dim {', '.join(wrong)} differs; sizes that are numbers are fixed in the model, names may be any size"
