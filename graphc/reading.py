"""How a source is read, where its callers decide what the file leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from graphc.records import record
from graphc.signature import Spec
from graphc.types import TensorType


@record(frozen=True)
class Reading:
    """A source may be read in several ways, each of which becomes a graph and plans of its own.

    given: inputs with a default whose values the caller gives; the others are constants
    types: of inputs, in the place of those that the file declares, or does not
    params: of a description that has such, by name
    net: of a description that has several, by name; else the first
    preprocess: with the steps that a description prepares its inputs by
    fitting: the weights of a file must be those of its description; else zeros stand for those that are not
    """

    given: frozenset[str] = frozenset()
    types: tuple[tuple[str, TensorType], ...] = ()
    params: tuple[tuple[str, bool | int | float | str], ...] = ()
    net: str | None = None
    preprocess: bool = True
    fitting: bool = True

    @property
    def declared(self) -> bool:
        """Are all inputs as the file declares them?"""
        return not self.given and not self.types

    def also(self, given: frozenset[str] = frozenset(), types: Mapping[str, TensorType] | None = None) -> Reading:
        return replace(self, given=self.given | given, types=tuple({**dict(self.types), **(types or {})}.items()))


AS_IT_IS = Reading()


def open_type(name: str, array: np.ndarray) -> TensorType:
    """The type of an input whose rank only its array tells."""
    return TensorType(array.dtype, [dim_name(name, i) for i in range(array.ndim)])


def dim_name(name: str, axis: int) -> str:
    """What a dim is called that has no name."""
    return f"{name}_d{axis}"


@record(frozen=True, eq=False)
class Contradiction:
    """A named dim that has one size in an input, and another in the same or a later one."""

    dim: str
    size: int
    where: str
    other: str

    def __str__(self) -> str:
        return f"dim '{self.dim}' is {self.size} in input '{self.where}'"


def contradictions(specs: Sequence[Spec], arrays: Sequence[np.ndarray]) -> list[Contradiction]:
    """Of the arrays, which fit otherwise. One per name."""
    seen: dict[str, tuple[int, str]] = {}
    found: dict[str, Contradiction] = {}
    for spec, array in zip(specs, arrays):
        for d, n in zip(spec.shape or (), array.shape):
            if isinstance(d, str) and seen.setdefault(d, (n, spec.name))[0] != n:
                found.setdefault(d, Contradiction(d, *seen[d], spec.name))
    return list(found.values())


def told_apart(specs: Sequence[Spec], found: Sequence[Contradiction]) -> dict[str, TensorType]:
    """Types of the inputs in which each dim that has one of these names gets a name of its own."""
    names = {c.dim for c in found}
    types: dict[str, TensorType] = {}
    for spec in specs:
        shape, declared = spec.shape or (), spec.type
        if names & set(shape):
            assert declared is not None
            types[spec.name] = declared.with_shape(
                [dim_name(spec.name, i) if d in names else d for i, d in enumerate(shape)]
            )
    return types
