"""Values that are no tensors: sequences, optionals and maps.

They live on the host. While a model runs such a value is a *box*: a 0-d array of one Python object, which is a list, what an
optional holds (or None), or a dict. So whatever carries an array of strings carries it, and kernels never see it. Elements are
not changed once they are in a box; operators make new lists. Callers give and get the objects themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Union

import numpy as np

from graphc.records import record
from graphc.sizes import is_size
from graphc.types import Dim, Sym, TensorType, dtype_from_name, dtype_name

Kind = Literal["sequence", "optional", "map"]


@record(frozen=True)
class Loose:
    """Tensors of a dtype (None: not known either) whose rank is not known. nothing: there is none, as in an empty sequence."""

    dtype: np.dtype | None = None
    nothing: bool = False

    def __str__(self) -> str:
        return "?" if self.dtype is None else dtype_name(self.dtype) + ("" if self.nothing else "[...]")


Content = Union[TensorType, Loose]


@record(frozen=True)
class ObjectType(TensorType):
    """The type of a box. of: what a sequence or an optional holds, and the values of a map, whose keys are of dtype `key`.

    To code that only carries arrays it is the type of one object, object[].
    """

    dtype: np.dtype = np.dtype(object)
    shape: tuple[Dim, ...] = ()
    layout: None = None
    kind: Kind = "sequence"
    of: Content = Loose()
    key: np.dtype | None = None

    if TYPE_CHECKING:

        def __init__(self, *, kind: Kind, of: Content, key: np.dtype | None = None) -> None: ...

    def __post_init__(self) -> None:  # its dtype and shape are what they are
        pass

    def with_shape(self, shape: Sequence[Dim | str]) -> ObjectType:
        if tuple(shape):
            raise TypeError(f"{self} has no shape {tuple(shape)}")
        return self

    def holds(self, value: Any) -> bool:
        """Is it an object of this type?"""
        if self.kind == "sequence":
            return isinstance(value, list) and all(_fits(item, self.of) for item in value)
        if self.kind == "optional":
            return value is None or _fits(value, self.of)
        return isinstance(value, dict) and all(_fits(np.asarray(item), self.of) for item in value.values())

    def __str__(self) -> str:
        key = "" if self.key is None else f"{dtype_name(self.key)}, "
        return f"{self.kind}({key}{self.of})"


def sequence(of: Content) -> ObjectType:
    return ObjectType(kind="sequence", of=of)


def optional(of: Content) -> ObjectType:
    return ObjectType(kind="optional", of=of)


def mapping(key: Any, of: Content) -> ObjectType:
    """key: int64 or object (strings)."""
    return ObjectType(kind="map", of=of, key=np.dtype(key))


def is_object(t: TensorType | None) -> bool:
    return isinstance(t, ObjectType)


def box(value: Any) -> np.ndarray:
    made = np.empty((), object)
    made[()] = value
    return made


def unbox(a: np.ndarray) -> Any:
    """The object of a box; a tensor stays as it is."""
    if a.dtype != object or a.ndim:
        return a
    inside = a[()]
    return inside if inside is None or isinstance(inside, (list, dict, np.ndarray)) else a  # a string is a tensor


def boxed(value: Any) -> np.ndarray:
    """A box of what callers give, nothing of which is checked: what it holds becomes arrays."""
    return box(_as_arrays(unbox(value) if isinstance(value, np.ndarray) else value))


def as_input(value: Any, t: TensorType) -> np.ndarray:
    """What plans take: a contiguous array, or a box."""
    return boxed(value) if is_object(t) else np.ascontiguousarray(value).reshape(np.shape(value))


def _as_arrays(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_as_arrays(item) for item in value]
    if isinstance(value, dict):
        return {key: np.asarray(item) for key, item in value.items()}
    return value if value is None else np.asarray(value)


def tensors_of(name: str, value: Any) -> dict[str, np.ndarray]:
    """The tensors that an object consists of, called after it: 's[0]', 's[1]'; of a map its values."""
    if isinstance(value, (list, tuple)):
        parts = [tensors_of(f"{name}[{i}]", item) for i, item in enumerate(value)]
    elif isinstance(value, dict):
        parts = [tensors_of(f"{name}[{key!r}]", item) for key, item in value.items()]
    else:
        return {} if value is None else {name: np.asarray(value)}
    return {key: a for part in parts for key, a in part.items()}


def own(a: np.ndarray) -> np.ndarray:
    """The array; a box of an object that shares memory with nothing where it is a box."""
    inside = unbox(a)
    return a if inside is a else box(_copied(inside))


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied(item) for item in value]
    if isinstance(value, dict):
        return {key: item.copy() for key, item in value.items()}
    return value if value is None else value.copy()


def given_back(value: Any) -> Any:
    """What callers get. Values of maps are Python's numbers."""
    if isinstance(value, list):
        return [given_back(item) for item in value]
    if isinstance(value, dict):
        return {key: np.asarray(item).item() if np.ndim(item) == 0 else item for key, item in value.items()}
    return value


def matches(a: np.ndarray, want: TensorType) -> bool:
    """Has the array the dtype, the rank and the dims that are numbers? Of a box: is its object of the type?"""
    if isinstance(want, ObjectType):
        return a.dtype == object and a.ndim == 0 and want.holds(a[()])
    same = a.dtype == want.dtype or dtype_name(a.dtype) == dtype_name(want.dtype) == "string"
    numbers = ((d, n) for d, n in zip(want.shape, a.shape) if not (isinstance(d, Sym) or is_size(d)))
    return same and a.ndim == want.rank and all(d == n for d, n in numbers)


def _fits(item: Any, want: Content) -> bool:
    if isinstance(want, ObjectType):
        return want.holds(item)
    if not isinstance(item, np.ndarray):
        return False
    if isinstance(want, Loose):
        return want.dtype is None or dtype_name(item.dtype) == dtype_name(want.dtype)
    return matches(item, want)


# --- types from types ---------------------------------------------------------------------------------------------------
def common(a: Content, b: Content) -> Content | None:
    """What both are: dims and ranks that differ are left open. None where there is no such type."""
    if a == b:
        return a
    if isinstance(a, ObjectType) or isinstance(b, ObjectType):
        for one, other in ((a, b), (b, a)):
            if isinstance(one, Loose) and (one.nothing or one.dtype is None):
                return other if one.nothing else one
        if not isinstance(a, ObjectType) or not isinstance(b, ObjectType):
            return None
        if a.kind != b.kind and "optional" in (a.kind, b.kind):  # a list is an optional one, too
            one, other = (a, b) if a.kind == "optional" else (b, a)
            of = common(one.of, other)
            return None if of is None else optional(of)
        if (a.kind, a.key) != (b.kind, b.key):
            return None
        of = common(a.of, b.of)
        return None if of is None else ObjectType(kind=a.kind, of=of, key=a.key)
    if a.dtype is None or b.dtype is None:
        known = b.dtype if a.dtype is None else a.dtype
        return Loose(known)
    if dtype_name(a.dtype) != dtype_name(b.dtype):
        return None
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Loose):
            return other if one.nothing else Loose(one.dtype)
    assert isinstance(a, TensorType) and isinstance(b, TensorType)
    if a.rank != b.rank:
        return Loose(a.dtype)
    return a.with_shape([d if d == e else Sym("?") for d, e in zip(a.shape, b.shape)])


def content_of(t: TensorType | None) -> Content:
    """What a value of that type is as an element."""
    return Loose() if t is None else t


# --- on disk ------------------------------------------------------------------------------------------------------------
def to_json(of: Content) -> list[Any]:
    if isinstance(of, ObjectType):
        return [of.kind, to_json(of.of), None if of.key is None else dtype_name(of.key)]
    if isinstance(of, Loose):
        return ["loose", None if of.dtype is None else dtype_name(of.dtype), of.nothing]
    return ["tensor", dtype_name(of.dtype), [str(d) if isinstance(d, Sym) else int(d) for d in of.shape]]


def from_json(content: Sequence[Any]) -> Content:
    kind, first, second = content
    if kind == "tensor":
        return TensorType(_dtype(first), second)
    if kind == "loose":
        return Loose(None if first is None else _dtype(first), second)
    return ObjectType(kind=kind, of=from_json(first), key=None if second is None else _dtype(second))


def _dtype(name: str) -> np.dtype:
    return np.dtype(object) if name == "string" else dtype_from_name(name)
