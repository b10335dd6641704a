"""Tensor types: an element dtype and a shape of ints and symbolic dims."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

# In a union, stands for None where the code around it knows that there is a value (typeshed's name): a type checker asks for no
# test there, and checks the rest.
MaybeNone: TypeAlias = Any

_LONGEST = 256  # characters of an expression


@dataclass(frozen=True)
class Sym:
    """A dim known by name only, or an expression of such names ('batch', '(h + 1)//2').

    Arithmetic gives new symbols whose text is the expression; two dims are the same when their texts are. Nothing is
    ever computed from the text: binding a graph to numbers infers every type again. A long text is a digest of itself.
    """

    text: str

    def __post_init__(self) -> None:
        if len(self.text) > _LONGEST:  # concatenations of concatenations double it each time
            mark = "?" if "?" in self.text else ""
            short = f"<{hashlib.sha256(self.text.encode()).hexdigest()[:24]}{mark}>"
            object.__setattr__(self, "text", short)

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def __add__(self, other: Dim) -> Dim:
        return self if other == 0 else Sym(f"{_term(self)} + {_term(other)}")

    __radd__ = __add__

    def __sub__(self, other: Dim) -> Dim:
        if other == 0:
            return self
        return 0 if other == self else Sym(f"{_term(self)} - {_term(other)}")

    def __rsub__(self, other: Dim) -> Dim:
        return Sym(f"{_term(other)} - {_term(self)}")

    def __mul__(self, other: Dim) -> Dim:
        if other == 1:
            return self
        return 0 if other == 0 else Sym(f"{_term(self)}*{_term(other)}")

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        if other == 1:
            return self
        return 1 if other == self else Sym(f"{_term(self)}//{_term(other)}")

    def __rfloordiv__(self, other: Dim) -> Dim:
        return Sym(f"{_term(other)}//{_term(self)}")

    def __neg__(self) -> Dim:
        return Sym(f"-{_term(self)}")


def _term(d: Dim) -> str:
    text = str(d)
    return f"({text})" if " " in text else text


Dim = Union[int, Sym]
Shape = tuple[Dim, ...]
UNKNOWN = Sym("?")


def prod(dims: Iterable[Dim]) -> Dim:
    """Product of dims; the ints are multiplied first, so that a symbolic product reads '6*batch'."""
    dims = list(dims)
    known = math.prod(d for d in dims if isinstance(d, int))
    total: Dim = known
    for d in dims:
        if isinstance(d, Sym):
            total = d * total
    return total


def may_be(d: Dim, *sizes: int) -> bool:
    """Is the dim one of the sizes, or not known yet?"""
    return isinstance(d, Sym) or d in sizes


def number(d: Dim) -> int:
    """A dim that must be known by now."""
    if isinstance(d, Sym):
        raise TypeError(f"dim '{d}' is not known")
    return d


def numbers(dims: Iterable[Dim]) -> tuple[int, ...]:
    return tuple(map(number, dims))


def is_static(shape: Sequence[Dim]) -> bool:
    return all(isinstance(d, int) for d in shape)


@dataclass(frozen=True)
class Blocked:
    """Channel-blocked activations: [N, C/c, H, W, c] in memory, every row with `left`/`right` columns of zeros around it."""

    c: int
    left: int = 0
    right: int = 0

    def __str__(self) -> str:
        halo = f" halo {self.left},{self.right}" if self.left or self.right else ""
        return f"NCHW{self.c}c{halo}"


def _dim(d: Dim | str) -> Dim:
    return d if isinstance(d, Sym) else Sym(d) if isinstance(d, str) else int(d)


@dataclass(frozen=True)
class TensorType:
    """dtype (a numpy dtype; object for strings), logical shape, and layout (None is dense row-major).

    A str in the shape becomes a symbol.
    """

    dtype: np.dtype
    shape: Shape
    layout: Blocked | None = None

    if TYPE_CHECKING:  # what __post_init__ converts

        def __init__(self, dtype: DTypeLike, shape: Sequence[Dim | str], layout: Blocked | None = None) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        object.__setattr__(self, "shape", tuple(map(_dim, self.shape)))

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Dim:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the logical elements. Needs a static shape."""
        return number(self.size) * self.dtype.itemsize

    @property
    def is_static(self) -> bool:
        return is_static(self.shape)

    def with_shape(self, shape: Sequence[Dim | str]) -> TensorType:
        return TensorType(self.dtype, shape, self.layout)

    def with_dtype(self, dtype: DTypeLike) -> TensorType:
        return replace(self, dtype=np.dtype(dtype))

    def __str__(self) -> str:
        dims = ", ".join(str(d) for d in self.shape)
        return f"{dtype_name(self.dtype)}[{dims}]" + (f" {self.layout}" if self.layout else "")


def dtype_name(dtype: DTypeLike) -> str:
    dtype = np.dtype(dtype)
    return "string" if dtype.kind in "OUS" else dtype.name


def dtype_from_name(name: str) -> np.dtype:
    """The inverse of `numpy.dtype.name`, also for the dtypes of ml_dtypes (bfloat16 …)."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def broadcast(*shapes: Sequence[Dim]) -> Shape:
    """NumPy broadcasting on shapes that may hold symbols. Raises ValueError where known dims disagree.

    A symbol against an int above 1 takes the int: binding checks it. Two symbols give a new one, since either may be 1.
    """
    rank = max((len(s) for s in shapes), default=0)
    return tuple(_broadcast_dim([s[axis] for s in shapes if len(s) >= -axis], shapes, axis) for axis in range(-rank, 0))


def _broadcast_dim(dims: Sequence[Dim], shapes: Sequence[Sequence[Dim]], axis: int) -> Dim:
    found = list(dict.fromkeys(d for d in dims if d != 1))
    known = [d for d in found if isinstance(d, int)]
    if len(known) > 1:
        raise ValueError(f"shapes {' and '.join(str(tuple(s)) for s in shapes)} do not broadcast at axis {axis}")
    if known:
        return known[0]
    return found[0] if len(found) == 1 else Sym(f"broadcast({', '.join(map(str, found))})") if found else 1
