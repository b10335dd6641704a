"""Tensor types: an element dtype and a shape of ints and symbolic dims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from graphc.dims import Dim as Dim
from graphc.dims import Sym as Sym
from graphc.dims import broadcast_dims
from graphc.records import record

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

# In a union, stands for None where the code around it knows that there is a value (typeshed's name): a type checker asks for no
# test there, and checks the rest.
MaybeNone: TypeAlias = Any

Shape = tuple[Dim, ...]


def prod(dims: Iterable[Dim]) -> Dim:
    total: Dim = 1
    for d in dims:
        total = total * d
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
    return tuple([d if isinstance(d, int) else number(d) for d in dims])


def is_static(shape: Sequence[Dim]) -> bool:
    return all(isinstance(d, int) for d in shape)


@record(frozen=True)
class Blocked:
    """Channel-blocked activations: [N, C/c, H, W, c] in memory, every row with `left`/`right` columns of zeros around it."""

    c: int
    left: int = 0
    right: int = 0

    def __str__(self) -> str:
        halo = f" halo {self.left},{self.right}" if self.left or self.right else ""
        return f"NCHW{self.c}c{halo}"


def _dim(d: Dim | str) -> Dim:
    return d if isinstance(d, (int, Sym)) and type(d) is not bool else Sym(d) if isinstance(d, str) else int(d)


@record(frozen=True)
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
    def extents(self) -> tuple[int, ...]:
        """The shape of a type whose dims are all known, as in a bound graph. Raises TypeError with the dim that is open."""
        return numbers(self.shape)

    @property
    def elements(self) -> int:
        """`size` of a type whose dims are all known. Raises TypeError with the dims that are open."""
        return number(self.size)

    @property
    def blocks(self) -> Blocked:
        """The layout of a type that is channel-blocked. Raises TypeError if it is dense."""
        if self.layout is None:
            raise TypeError(f"{self} is not channel-blocked")
        return self.layout

    @property
    def nbytes(self) -> int:
        """Bytes of the logical elements. Needs a static shape."""
        return self.elements * self.dtype.itemsize

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
    dims: list[Dim] = []
    for axis in range(-rank, 0):
        try:
            dims.append(broadcast_dims(*(s[axis] for s in shapes if len(s) >= -axis)))
        except ValueError:
            names = " and ".join(str(tuple(s)) for s in shapes)
            raise ValueError(f"shapes {names} do not broadcast at axis {axis}") from None
    return tuple(dims)
