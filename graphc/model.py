"""The compiled model: call it, run it by names, look at its plans."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from graphc.errors import InputError
from graphc.report import Plan
from graphc.types import Sym, TensorType, dtype_from_name, dtype_name

if TYPE_CHECKING:
    from pathlib import Path

    from graphc.graph import Graph

# Held while a plan is made, and across fork: a child never finds a compiler that another thread left half way.
PLANNING = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=PLANNING.acquire, after_in_parent=PLANNING.release, after_in_child=PLANNING.release)

MAX_PLANS = 64  # of one model; the oldest is forgotten, so that a stream of new shapes does not fill the memory


class Executable:
    """What a backend gives for one binding of the inputs: `run` takes and gives arrays in order; `plan` is its report.

    quick: `run` with a check of its own, which gives results by name, or None where there is none. It returns None, and has
    done nothing, where the inputs are not contiguous arrays of exactly the dtypes and shapes that were bound.
    """

    plan: Plan
    quick: Callable[[Sequence[Any]], dict[str, np.ndarray] | None] | None = None

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        raise NotImplementedError


@dataclass(frozen=True)
class Spec:
    """Signature of an input or output: shape entries are ints or names of symbolic dims; None while unknown."""

    name: str
    dtype: np.dtype | None
    shape: tuple[int | str, ...] | None

    def __str__(self) -> str:
        if self.dtype is None or self.shape is None:
            return f"{self.name}: ?"
        return f"{self.name}: {dtype_name(self.dtype)}[{', '.join(map(str, self.shape))}]"


def _spec(name: str, t: TensorType | None) -> Spec:
    if t is None:
        return Spec(name, None, None)
    return Spec(name, t.dtype, tuple(str(d) if isinstance(d, Sym) else d for d in t.shape))


@dataclass(frozen=True)
class Signature:
    """What calling a model needs to know. valued: inputs whose values decide shapes; operators: how many the graph has."""

    name: str
    inputs: tuple[tuple[str, TensorType], ...]
    outputs: tuple[tuple[str, TensorType | None], ...]
    valued: tuple[str, ...]
    operators: int

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "inputs": [_to_json(*pair) for pair in self.inputs],
            "outputs": [_to_json(*pair) for pair in self.outputs],
            "valued": list(self.valued),
            "operators": self.operators,
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Signature:
        inputs, outputs = (tuple(map(_from_json, content[k])) for k in ("inputs", "outputs"))
        return Signature(content["name"], inputs, outputs, tuple(content["valued"]), content["operators"])


def _to_json(name: str, t: TensorType | None) -> list:
    return [name, None if t is None else [t.dtype.name, [str(d) if isinstance(d, Sym) else d for d in t.shape]]]


def _from_json(pair: Sequence) -> tuple[str, TensorType | None]:
    name, t = pair
    return name, None if t is None else TensorType(dtype_from_name(t[0]), tuple(t[1]))


class Source(Protocol):
    """What a model's plans and graphs come from: graphc.compiler.Compilation."""

    signature: Signature
    files: tuple[Path, ...]
    loaded: Graph
    graph: Graph

    def bind(self, types: Mapping[str, TensorType], values: Mapping[str, np.ndarray]) -> Executable: ...


class Model:
    """A compiled model. Made by `graphc.compile`.

    >>> y = model(x)                              # one array, or a tuple when there are several outputs
    >>> results = model.run({"x": x})             # by name
    >>> model.run({"x": x}, out={"y": buffer})    # into your own array

    Safe to call from several threads. Shapes that have not been seen before are planned at the first call.
    """

    def __init__(self, source: Source, recipe: Mapping[str, Any]) -> None:
        self._source, self._recipe, signature = source, dict(recipe), source.signature
        self._names = tuple(n for n, _ in signature.inputs)
        self._input_types = tuple(t for _, t in signature.inputs)
        self._valued = tuple(i for i, n in enumerate(self._names) if n in set(signature.valued))
        self._plans: dict[tuple, Executable] = {}
        self._quick = _refuse  # of the plan that was used last
        self._count = len(self._names)
        names = self._names  # not self: a model that refers to itself would outlive its last reference
        self._in_order = itemgetter(*names) if len(names) > 1 else lambda feeds: [feeds[n] for n in names]
        self._dtypes = tuple(t.dtype for t in self._input_types)
        self.inputs = tuple(_spec(*pair) for pair in signature.inputs)
        self.outputs = tuple(_spec(*pair) for pair in signature.outputs)
        self._output_names = tuple(n for n, _ in signature.outputs)

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
        if "out" in kwargs and "out" not in self._names:
            buffers = ", ".join(f"'{n}': …" for n in self._output_names)
            raise InputError(
                "'out' is an argument of run, not of a call", hint=f"{self._by_name()[:-1]}, out={{{buffers}}})"
            )
        if len(args) > self._count or not kwargs:
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
            raise self._wrong_names(feeds) from None
        if out is not None:
            return dict(zip(self._output_names, self._run(arrays, self._buffers(out))))
        results = self._quick(arrays)
        return dict(zip(self._output_names, self._run(arrays, None))) if results is None else results

    def plan(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Plan:
        """The plan for input shapes (by name; static shapes need none): steps, memory, why things fused.

        Raises InputError where a symbolic dim is left open or shape-like inputs have no value.
        """
        given, arrays = dict(shapes or {}), []
        unknown = [n for n in given if n not in self._names]
        if unknown:
            raise InputError(f"a shape is given for '{unknown[0]}', which is no input", hint=self._signature())
        for name, t in zip(self._names, self._input_types):
            shape = tuple(given.get(name, t.shape))
            if any(isinstance(d, Sym) for d in shape):
                raise InputError(f"the shape of input '{name}' is open: {t}", hint=f"give shapes={{'{name}': (…)}}")
            if not all(isinstance(d, (int, np.integer)) and d >= 0 for d in shape):
                raise InputError(f"the shape of input '{name}' can't be {shape}", hint="sizes are ints from 0 up")
            arrays.append(np.zeros(shape, t.dtype))
        if self._valued:
            names = ", ".join(f"'{self._names[i]}'" for i in self._valued)
            raise InputError(f"shapes follow from the values of {names}", hint="run the model instead")
        return self._executable([self._checked(i, a) for i, a in enumerate(arrays)]).plan

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
            executable = self._executable(arrays, key)
        if executable.quick is not None and not self._valued:
            self._quick = executable.quick
        if out is not None:
            self._check_overlap(arrays, out)
        return executable.run(arrays, out)

    def _executable(self, arrays: Sequence[np.ndarray], key: tuple | None = None) -> Executable:
        if key is None:
            key = tuple(a.shape for a in arrays)  # a plan ahead of the first run: no input's value decides a shape
        with PLANNING:
            if key not in self._plans:
                self._check_shapes(arrays)
                types = {n: TensorType(a.dtype, a.shape) for n, a in zip(self._names, arrays)}
                values = {self._names[i]: arrays[i] for i in self._valued}
                remember(self._plans, key, self._source.bind(types, values))
            return self._plans[key]

    def _checked(self, i: int, a: Any) -> np.ndarray:
        """Input i as a contiguous array of the right dtype. Conversions that could lose anything are refused."""
        want = self._input_types[i]
        try:
            array = np.asarray(a)
        except (
            TypeError,
            ValueError,
            RuntimeError,
            OverflowError,
        ) as error:  # rows of different lengths, a tensor of a GPU
            raise InputError(
                f"input '{self._names[i]}' can't be made an array: {error}", hint="give a NumPy array"
            ) from None
        if not hasattr(a, "dtype") and array.dtype != want.dtype and array.dtype.kind in "biuf":
            array = self._exactly(i, a, array)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        if array.dtype == object and want.dtype != object:
            given = "an array of objects" if isinstance(a, np.ndarray) else type(a).__name__
            hint = self._by_name() if isinstance(a, Mapping) else "give a NumPy array of numbers"
            raise InputError(f"input '{self._names[i]}' is {given}, the model wants {want}", hint=hint)
        if array.dtype != want.dtype and not (want.dtype == object and array.dtype.kind in "OUS"):
            hint = f"convert it: x.astype('{'str' if want.dtype == object else dtype_name(want.dtype)}')"
            raise InputError(
                f"input '{self._names[i]}' is {dtype_name(array.dtype)}, the model wants {want}", hint=hint
            )
        if want.dtype == object:
            array = array.astype(object)
        return np.ascontiguousarray(array) if array.ndim else array

    def _exactly(self, i: int, a: Any, given: np.ndarray) -> np.ndarray:
        """Numbers of a list, which has no dtype, in the input's, where that can hold each of them."""
        want = self._input_types[i].dtype
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

    def _check_shapes(self, arrays: Sequence[np.ndarray]) -> None:
        bound: dict[Sym, tuple[int, str]] = {}
        for name, want, a in zip(self._names, self._input_types, arrays):
            fits = a.ndim == want.rank and all(isinstance(d, Sym) or d == n for d, n in zip(want.shape, a.shape))
            if not fits:
                raise InputError(f"input '{name}' has shape {a.shape}, the model wants {want}", hint=_remedy(a, want))
            for d, n in zip(want.shape, a.shape):
                if isinstance(d, Sym) and bound.setdefault(d, (n, name))[0] != n:
                    other, where = bound[d]
                    hint = f"dim '{d}' is {other} in input '{where}': dims of one name must be equal"
                    raise InputError(f"input '{name}' has shape {a.shape}, the model wants {want}", hint=hint)

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
        feeds = dict(zip(self._names, args))
        for name in kwargs:
            if name in feeds:
                raise InputError(f"input '{name}' is given twice, by position and by name", hint=self._signature())
        return feeds | kwargs

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
        extra = [n for n in feeds if n not in self._names]
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
        """Pickles the source graph and the options; machine code is found in the cache again."""
        return _unpickle, (self.source_graph, self._recipe)


def _detached(graph: Graph) -> Graph:
    """The graph with copies of those constants that are views of mapped files."""
    from graphc.files import mapping_of
    from graphc.graph import Rewriter, constant

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


def value_key(a: np.ndarray) -> bytes | tuple:
    """What tells arrays of one shape and dtype apart."""
    return tuple(a.ravel().tolist()) if a.dtype == object else a.tobytes()


def taken(arrays: Sequence[np.ndarray], valued: Collection[int]) -> list[np.ndarray]:
    """The arrays, with copies of those whose values decide shapes: a plan's key, the plan and the run must see the same values
    though another thread writes to the caller's array."""
    return [a.copy() if i in valued else a for i, a in enumerate(arrays)]


def remember(plans: dict[tuple, Executable], key: tuple, executable: Executable) -> None:
    """Keep a plan; forget the oldest of more than MAX_PLANS. Who runs it still holds it."""
    plans[key] = executable
    if len(plans) > MAX_PLANS:
        del plans[next(iter(plans))]


def _remedy(a: np.ndarray, want: TensorType) -> str:
    if a.ndim != want.rank:
        return f"it must have {want.rank} dims, not {a.ndim}: reshape it, or add a dim with x[None]"
    wrong = [str(k) for k, (d, n) in enumerate(zip(want.shape, a.shape)) if not isinstance(d, Sym) and d != n]
    return f"dim {', '.join(wrong)} differs; sizes that are numbers are fixed in the model, names may be any size"


def _unpickle(graph: Graph, recipe: Mapping[str, Any]) -> Model:
    from graphc.compiler import compile as run

    return run(graph, **recipe)
