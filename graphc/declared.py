"""Results whose types are not those that the model's file declares: it was edited, or exported wrongly, or graphc is wrong. All of
these a person wants to know of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphc.objects import ObjectType
from graphc.signature import Spec
from graphc.types import Sym, TensorType

NOTE = "graphc's follows from the operators, and the file's may be an error of what wrote it"


def unproved(declared: Mapping[str, TensorType], results: Mapping[str, TensorType | None]) -> dict[str, TensorType]:
    """The declared types that do not follow from what is known of the results before a run."""
    return {n: t for n, t in declared.items() if n in results and not _implied(t, results[n])}


def contradictions(declared: Mapping[str, TensorType], results: Mapping[str, TensorType | None]) -> list[str]:
    """What can't be, whatever the inputs are, for people."""
    found = []
    for name, want in declared.items():
        made = results.get(name)
        if made is not None and not isinstance(made, ObjectType) and _differ(want, made):
            found.append(_difference(name, want, made))
    return found


def sizes_of(inputs: Sequence[Spec], shapes: Sequence[Sequence[int]]) -> dict[str, int]:
    """Sizes of the inputs' dims that have a name."""
    return {d: n for spec, shape in zip(inputs, shapes) for d, n in zip(spec.shape or (), shape) if isinstance(d, str)}


def contradiction(name: str, want: TensorType, made: TensorType, sizes: Mapping[str, int]) -> str | None:
    """How a result of a run differs from what was declared, for people. sizes: of dims by name."""
    known = want.with_shape([sizes.get(str(d), d) if isinstance(d, Sym) else d for d in want.shape])
    return _difference(name, want, made) if _differ(known, made) else None


def _implied(want: TensorType, made: TensorType | None) -> bool:
    if made is None or isinstance(made, ObjectType) or want.dtype != made.dtype or want.rank != made.rank:
        return isinstance(made, ObjectType)
    return all(a == b for a, b in zip(want.shape, made.shape))


def _differ(want: TensorType, made: TensorType) -> bool:
    if want.dtype != made.dtype or want.rank != made.rank:
        return True
    return any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(want.shape, made.shape))


def _difference(name: str, want: TensorType, made: TensorType) -> str:
    return f"output '{name}' is {made}, the file declares {want}: {NOTE}"
