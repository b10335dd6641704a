"""Results against the expected ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphc.types import dtype_name

from . import exact
from .case import Case
from .draws import is_float
from .engines import RUNTIME, Results
from .evaluate import Tensor


@dataclass(frozen=True)
class Difference:
    """One result that is not what it must be. ratio: the largest error over its tolerance."""

    world: int
    name: str
    what: str
    ratio: float = np.inf

    def __str__(self) -> str:
        where = f" (sizes {self.world})" if self.world else ""
        return f"{self.name}{where}: {self.what}"


@dataclass
class Comparison:
    """What was compared: results and elements, and the largest error over its tolerance."""

    values: int = 0
    elements: int = 0
    ratio: float = 0.0


def compare(case: Case, engine: str, results: Results, count: Comparison) -> list[Difference]:
    """Every result of every world, and that the first world's came out the same again."""
    found = []
    for w, made in enumerate(results[:-1]):
        for name in dict.fromkeys(case.outputs):
            tensor = case.tensors[name]
            signs = engine != RUNTIME and tensor.signed and tensor.certain
            what, ratio = difference(tensor, w, made.get(name), signs)
            count.values += 1
            count.elements += tensor.worlds[w][0].size
            if what:
                found.append(Difference(w, name, what, ratio))
            else:
                count.ratio = max(count.ratio, ratio)
    return found or again(results)


def again(results: Results) -> list[Difference]:
    first, last = results[0], results[-1]
    return [
        Difference(0, n, "another result of the same call")
        for n in first
        if not exact.same(np.asarray(first[n]), np.asarray(last[n]))
    ]


def difference(want: Tensor, world: int, got: np.ndarray | None, signs: bool) -> tuple[str, float]:
    """What is wrong ('' if nothing), and the largest error over its tolerance."""
    if got is None:
        return "missing", np.inf
    got = np.asarray(got)
    expected = want.worlds[world][0]
    if dtype_name(got.dtype) != dtype_name(want.dtype):
        return f"is {got.dtype}, not {want.dtype}", np.inf
    if got.shape != expected.shape:
        return f"has shape {got.shape}, not {expected.shape}", np.inf
    if not is_float(want.dtype):
        wrong = got != expected
        return (table("differs", wrong, expected, got), np.inf) if wrong.any() else ("", 0.0)
    got = exact.widened(got)
    finite = np.isfinite(expected)
    wrong = ~finite & ~((got == expected) | (np.isnan(got) & np.isnan(expected))) | finite & ~np.isfinite(got)
    if wrong.any():
        return table("NaN or infinity", wrong, expected, got), np.inf
    error = np.abs(np.where(finite, got, 0.0) - np.where(finite, expected, 0.0))
    bound = np.broadcast_to(want.bound(world), error.shape)
    ratio = np.divide(error, bound, out=np.where(error > 0, np.inf, 0.0), where=bound > 0)
    if (ratio > 1).any():
        worst = float(ratio.max())
        text = f"error {error.max():.3g}, {'exact' if want.certain else f'{worst:.3g} times the tolerance'}"
        return table(text, ratio > 1, expected, got), worst
    if signs:
        wrong = (expected == 0) & (np.signbit(expected) != np.signbit(got))
        if wrong.any():
            return table("sign of zero", wrong, expected, got), np.inf
    return "", float(ratio.max(initial=0.0))


def table(what: str, wrong: np.ndarray, expected: np.ndarray, got: np.ndarray, most: int = 6) -> str:
    """The first elements that are wrong."""
    places = np.argwhere(wrong)[:most]
    lines = [f"{what}; {int(wrong.sum())} of {wrong.size} elements of shape {list(wrong.shape)}"]
    lines += [
        f"    [{', '.join(map(str, p))}]  expected {expected[tuple(p)]!s:>24}  got {got[tuple(p)]!s:>24}"
        for p in places
    ]
    return "\n".join(lines)


def summary(differences: list[Difference], most: int = 4) -> str:
    shown = [str(d) for d in differences[:most]]
    return "\n".join(shown + ([f"and {len(differences) - most} more results"] if len(differences) > most else []))
