"""What values that are no tensors consist of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Union

import numpy as np

from graphc.objects import Content, ObjectType
from graphc.types import Sym, TensorType

# What a value consists of: a tensor, elements, nothing (an optional that is empty).
Structure = Union[TensorType, "tuple[Structure, ...]", None]
Structures = tuple[tuple[str, Structure], ...]  # by input
# What is put together from tensors: which of them it is, lists of such, None.
Made = Union[int, list["Made"], None]

MOST_TENSORS = 64  # that inputs are taken apart into


class Whole(Exception):
    """It can't be taken apart."""


def form(value: Any) -> Any:
    """What values of one structure have in common, hashable."""
    if isinstance(value, list):
        return (len(value), *map(form, value))
    return value if value is None else (value.dtype.str, value.ndim)


def structure(name: str, value: Any, of: Content) -> Structure:
    """Of a value in a box of that type. Sizes that the type leaves open are open, each by a name of its own. Raises Whole."""
    if isinstance(of, ObjectType):
        if of.kind == "optional":
            return None if value is None else structure(name, value, of.of)
        if of.kind != "sequence" or not value and (isinstance(of.of, ObjectType) or of.of.dtype is None):
            raise Whole
        return tuple(structure(f"{name}[{i}]", item, of.of) for i, item in enumerate(value))
    declared = of.shape if isinstance(of, TensorType) else [None] * value.ndim
    return TensorType(value.dtype, [d if isinstance(d, int) else Sym(f"{name}_d{i}") for i, d in enumerate(declared)])


def tensors(value: Any) -> Iterator[np.ndarray]:
    """What a value consists of, in order."""
    if isinstance(value, list):
        for item in value:
            yield from tensors(item)
    elif value is not None:
        yield value


def put_together(made: Made, arrays: Sequence[Any]) -> Any:
    """The object, or the tensor, that a result is."""
    if isinstance(made, list):
        return [put_together(m, arrays) for m in made]
    return None if made is None else arrays[made]
