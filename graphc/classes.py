"""Plans for classes of shapes: which dims of the inputs stand for many, and how a plan finds their sizes in arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.dims import Sym
from graphc.records import record
from graphc.sizes import LEAST, MOST, Known, Size, Trace, array_of
from graphc.types import TensorType

if TYPE_CHECKING:
    from graphc.graph import Value
    from graphc.signature import Growth, Spec

CAPACITY = "capacity of states"


class CantServeMany(Exception):
    """A plan for many sizes met some that it can't go on with: they get a plan of their own."""


STRICT = False  # raise what keeps a plan from standing for many, where else one for the shapes alone is made: for tests


@record(frozen=True)
class Sources:
    """Which sizes the inputs give.

    dims    (input, axis, size, number): which size the dim is, or where that is negative the number that it must be
    values  (input, position, size, number): elements of inputs whose values decide shapes, in the same way
    fixed   (input, text): inputs whose values decide and are no whole numbers, and what they must be
    ranks   of the inputs
    count   of sizes
    """

    dims: tuple[tuple[int, int, int, int], ...]
    values: tuple[tuple[int, int, int, int], ...]
    fixed: tuple[tuple[int, str], ...]
    ranks: tuple[int, ...]
    count: int

    def sizes(self, arrays: Sequence[np.ndarray]) -> tuple[int, ...] | None:
        """In the trace's order; None where the arrays are for another plan."""
        found = [-1] * self.count
        if any(arrays[i].ndim != rank for i, rank in enumerate(self.ranks)):
            return None
        for i, axis, size, number in self.dims:
            n = arrays[i].shape[axis]
            if size < 0:
                if n != number:
                    return None
            elif found[size] != n:
                if found[size] >= 0:
                    return None
                found[size] = n
        for i, at, size, number in self.values:
            n = int(arrays[i].item(at))
            if size < 0:
                if n != number:
                    return None
            elif found[size] != n:
                if found[size] >= 0 or n < LEAST:
                    return None
                found[size] = n
        if any(_text(arrays[i]) != text for i, text in self.fixed):
            return None
        return tuple(found)


def _text(a: np.ndarray) -> str:
    return f"{a.shape} {a.tolist()!r}"


@record(eq=False)
class Many:
    """The sizes of a graph that stands for many, and where they come from.

    known    what its plan has asked, when it is made
    growing  states that are appended to in place; capacity: positions that their arrays have
    """

    trace: Trace
    sources: Sources
    names: tuple[str, ...]
    known: Known = Known({}, {})
    growing: tuple[Growth, ...] = ()
    capacity: Any = 0

    def settle(self) -> None:
        """The plan is made."""
        self.known = self.trace.known

    @contextmanager
    def going_on(self, arrays: Sequence[np.ndarray]) -> Iterator[None]:
        """Plan what comes behind, with arrays as the example whose first ones are the inputs."""
        sizes = self.sources.sizes(arrays)
        assert sizes is not None, "inputs of another plan"
        with self.trace.going_on(self.known, dict(zip(self.names, sizes))):
            yield

    def digest(self) -> str:
        """Tells plans of the same inputs apart: by their guards."""
        text = repr([(g.relation, str(g.expr), g.outcome) for g in self.known.guards])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Pattern:
    """Inputs with sizes in the place of what is open of them: dims, and the elements of those whose values decide shapes.

    Sizes that are 0 or 1 stand for themselves, as do values below LEAST: there is nothing to do, or something is repeated.

    A state that grows in place has an array of more positions than it has; how many it has, the last array tells.

    key     what arrays of one pattern have in common, as text
    types   by input, and values: constants by input, with sizes inside
    """

    def __init__(
        self,
        inputs: Sequence[Value | Spec],
        arrays: Sequence[np.ndarray],
        valued: Collection[int],
        begun: Many | None = None,
        growing: Sequence[Growth] = (),
    ) -> None:
        """arrays: the example. begun: the sizes of the first of the inputs, where these are a graph's to which others came.
        growing: inputs that grow in place; then a last array has their lengths."""
        self.trace = Trace() if begun is None else begun.trace
        self._begun = Sources((), (), (), (), 0) if begun is None else begun.sources
        self.names = [] if begun is None else list(begun.names)
        self._ranks = tuple(a.ndim for a in arrays)
        self.types: dict[str, TensorType] = {}
        self.values: dict[str, np.ndarray] = {}
        self._dims: list[tuple[int, int, int, int]] = []
        self._values: list[tuple[int, int, int, int]] = []
        self._fixed: list[tuple[int, str]] = []
        self._named: dict[str, Any] = {}
        self._position = {name: i for i, name in enumerate(self.names)}
        self.growing = tuple(growing)
        self._grown = {(g.input, g.axis): k for k, g in enumerate(growing)}
        self._lengths = arrays[-1].tolist() if growing else []
        self._capacity: Any = 0
        for i, (v, a) in enumerate(zip(inputs, arrays)):
            rank = range(a.ndim)
            shape = [None] * a.ndim if v.type is None else v.type.shape
            if i in valued:  # one element more or less decides as their values do
                shape = a.shape
            dims = [self._dim(i, axis, v.name, d, a.shape[axis]) for axis, d in zip(rank, shape)]
            self.types[v.name] = TensorType(a.dtype if v.type is None else v.type.dtype, dims)
            if i in valued:
                self.values[v.name] = self._elements(i, v.name, a)

    @property
    def open(self) -> bool:
        """Does anything stand for many?"""
        return bool(self.names)

    @property
    def key(self) -> str:
        types = [(n, t.dtype.name, [str(d) for d in t.shape]) for n, t in self.types.items()]
        values = [(n, [str(x) for x in a.reshape(-1)], a.shape) for n, a in self.values.items()]
        return repr((types, values, [(g.input, g.axis) for g in self.growing]))

    @property
    def many(self) -> Many:
        b = self._begun
        dims, values, fixed = (*b.dims, *self._dims), (*b.values, *self._values), (*b.fixed, *self._fixed)
        sources = Sources(dims, values, fixed, self._ranks, len(self.names))
        return Many(self.trace, sources, tuple(self.names), growing=self.growing, capacity=self._capacity)

    def _dim(self, i: int, axis: int, name: str, declared: object, n: int) -> Any:
        if (name, axis) in self._grown:
            return self._length(i, axis, name, declared, n)
        if type(declared) is Size:
            return declared
        if isinstance(declared, int):
            self._dims.append((i, axis, -1, declared))
            return declared
        dim = self._size(_size_name(axis, name, declared), n)
        self._dims.append((i, axis, *self._source(dim)))
        return dim

    def _length(self, i: int, axis: int, name: str, declared: object, capacity: int) -> Any:
        """Of a state that grows in place: the last array tells it, where its own dim tells the capacity."""
        at = self._grown[name, axis]
        dim = self._size(_size_name(axis, name, declared), self._lengths[at])
        self._values.append((len(self._ranks) - 1, at, *self._source(dim)))
        self._capacity = self._size(CAPACITY, capacity)
        self._dims.append((i, axis, *self._source(self._capacity)))
        return dim

    def _source(self, dim: Any) -> tuple[int, int]:
        """As `Sources` has it."""
        return (self._position[str(dim)], 0) if type(dim) is Size else (-1, dim)

    def _size(self, name: str, n: int) -> Any:
        if name not in self._named:
            if not LEAST <= n <= MOST:
                self._named[name] = n
            else:
                fresh = name if name not in self.trace.hints else f"{name}'{len(self.trace.names)}"
                self._position[fresh] = len(self.names)
                self._named[name] = self.trace.size(fresh, n)
                self.names.append(fresh)
        return self._named[name]

    def _elements(self, i: int, name: str, a: np.ndarray) -> np.ndarray:
        if a.dtype.kind not in "iu":
            self._fixed.append((i, _text(a)))
            return a
        elements = []
        for k, n in enumerate(a.reshape(-1).tolist()):
            d = self._size(f"{name.replace('?', '_')}({k})", n) if LEAST <= n <= MOST else n
            self._values.append((i, k, *self._source(d)))
            elements.append(d)
        flat = array_of(elements, a.dtype)
        return flat.reshape(a.shape) if elements else a


def _size_name(axis: int, name: str, declared: object) -> str:
    """Dims of one name are one size."""
    plain = isinstance(declared, Sym) and declared == Sym(str(declared)) and not declared.unknown
    return str(declared) if plain else f"{name.replace('?', '_')}[{axis}]"
