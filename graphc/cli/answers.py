"""What results say, in words: the best classes by their names, and short texts of others."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphc.cli.console import many
from graphc.errors import InputError
from graphc.objects import tensors_of
from graphc.signature import Spec
from graphc.types import dtype_name

TOP = 5  # best classes shown
ROWS = 4  # of so many rows of a batch
NAMES = 'one a line, or JSON: [first, second] or {"0": first, …}'
FEW = 6  # elements that are written out


def read_names(path: str) -> tuple[str, ...]:
    """Names of classes in a file: one a line, or a list or dict of JSON. Raises InputError."""
    from graphc.class_names import in_order, names_of

    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"'{path}' is no text, and so no names of classes", hint=NAMES) from None
    except OSError as error:
        raise InputError(f"can't read '{path}': {error.strerror or error}") from None
    if Path(path).suffix.lower() == ".json" or text.lstrip()[:1] in ("[", "{"):
        names = names_of(text)
    else:
        lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
        names = in_order(lines) if lines != [""] else None
    if names is None:
        raise InputError(f"'{path}' holds no names of classes", hint=NAMES)
    return names


@dataclass(frozen=True)
class Scored:
    """A class, by its number and its name if it has one."""

    number: int
    label: str | None
    score: float

    def __str__(self) -> str:
        return f"class {self.number}" if self.label is None else self.label


@dataclass(frozen=True)
class Classes:
    """Which results are scores of classes, and what these are called.

    labels: names by output, of the model
    scores: outputs that have scores along axis 1 whether these have names or not
    given:  names from `source`, for all outputs that have as many entries
    """

    labels: Mapping[str, Sequence[str]]
    scores: Sequence[str]
    given: Sequence[str] | None = None
    source: str = ""
    top: int = TOP

    def require_output(self, outputs: Sequence[Spec]) -> None:
        """Raises InputError where no output can have so many entries as there are names."""
        if self.given is None:
            return
        count = len(self.given)
        if all(s.content is None and s.shape is not None and not _may_hold(s.shape, count) for s in outputs):
            sizes = "; ".join(map(str, outputs))
            raise InputError(f"'{self.source}' has {many(count, 'name')}, and no output has as many entries: {sizes}")

    def of(self, output: str, value: Any) -> tuple[np.ndarray, Sequence[str] | None] | None:
        """(scores [..., classes], names of the classes or None) of an output that has such."""
        if isinstance(value, list):
            return scored_entries(value)
        if not isinstance(value, np.ndarray):
            return None
        array = value
        for names in (self.given, self.labels.get(output)):
            if names is not None and array.dtype.kind in "biufV":
                if array.ndim and array.shape[-1] == len(names):
                    return array, names
                if array.ndim > 2 and array.shape[1] == len(names) and math.prod(array.shape[2:]) == 1:
                    return array.reshape(array.shape[:2]), names
        if output in self.scores and _looks_like_scores(array):
            return array.reshape(array.shape[:2]), None
        return None

    # --- one line per row of a file ---------------------------------------------------------------------------------
    def lines(self, name: str, results: Mapping[str, Any]) -> list[str]:
        """'cat.jpg  tabby 0.71, tiger cat 0.12, …': one line, or one for each row where classes are told of several."""
        rows = {output: self.ranked(output, value) for output, value in results.items()}
        count = max((len(r) for r in rows.values() if r is not None), default=1)
        lines = []
        for i in range(count):
            parts = {}
            for output, value in results.items():
                ranked = rows[output]
                if ranked is not None:
                    parts[output] = ", ".join(f"{c} {c.score:.3g}" for c in ranked[min(i, len(ranked) - 1)])
                else:
                    parts[output] = text_of(_row(value, i, count))
            said = next(iter(parts.values())) if len(parts) == 1 else "; ".join(f"{n}: {p}" for n, p in parts.items())
            lines.append(f"{name}{f'[{i}]' if count > 1 else ''}  {said}")
        return lines

    def ranked(self, output: str, value: Any) -> list[list[Scored]] | None:
        """The best classes of each row, best first; None of what is no scores, or has some of each position too."""
        found = self.of(output, value)
        if found is None or math.prod(found[0].shape[1:-1]) != 1:
            return None
        return list(self.best(*found))

    def best(self, scores: np.ndarray, names: Sequence[str] | None) -> Iterator[list[Scored]]:
        """The best classes along the last axis, best first, of each row."""
        for row in scores.reshape(math.prod(scores.shape[:-1]), scores.shape[-1]).astype(np.float64):
            order = np.argsort(-row, kind="stable")[: self.top].tolist()
            yield [Scored(c, None if names is None else names[c], float(row[c])) for c in order]

    # --- the first rows of a result ---------------------------------------------------------------------------------
    def told(self, output: str, value: Any) -> list[str]:
        """'output[row] top 5: name (score) …' of the first rows, and how many more there are."""
        found = self.of(output, value)
        if found is None:
            return []
        scores, names = found
        rows = math.prod(scores.shape[:-1])
        lines = []
        for at, best in itertools.islice(zip(np.ndindex(scores.shape[:-1]), self.best(scores, names)), ROWS):
            place = f"[{', '.join(map(str, at))}]" if at else ""
            lines.append(f"{output}{place} top {len(best)}: " + ", ".join(f"{c} ({c.score:.4g})" for c in best))
        return [*lines, f"{output}: … and {many(rows - ROWS, 'more row')}"] if rows > ROWS else lines


def _may_hold(shape: Sequence[int | str], count: int) -> bool:
    return bool(shape) and any(not isinstance(d, int) or d == count for d in (shape[-1], *shape[1:2]))


def _looks_like_scores(array: np.ndarray) -> bool:
    """Floats [N, classes], ones behind."""
    floats = array.dtype.kind in "fV"
    return floats and array.ndim > 1 and array.shape[1] > 1 and math.prod(array.shape[2:]) == 1


def scored_entries(value: list) -> tuple[np.ndarray, list[str]] | None:
    """(scores [rows, entries], names) of a sequence of maps from the same keys to floats."""
    if not value or not all(isinstance(m, dict) for m in value):
        return None
    keys = list(value[0])
    if len(keys) < 2 or not all(list(m) == keys and all(isinstance(x, float) for x in m.values()) for m in value):
        return None
    return np.array([list(m.values()) for m in value]), list(map(str, keys))


def text_of(value: Any) -> str:
    """A value in a few words: its elements where they are few."""
    if not isinstance(value, np.ndarray):
        parts = tensors_of("", value)
        return many(len(parts), "tensor") if parts else "no value" if value is None else "empty"
    if value.size <= FEW:
        flat = [str(x) if value.dtype.kind in "OUSb" else f"{x:.6g}" for x in value.reshape(-1).tolist()]
        return flat[0] if value.size == 1 else f"[{', '.join(flat)}]"
    said = f"{dtype_name(value.dtype)}[{', '.join(map(str, value.shape))}]"
    if value.dtype.kind not in "biufV":
        return said
    numbers = value.astype(np.float64)
    missing = int(np.isnan(numbers).sum())
    if missing == numbers.size:
        return f"{said}, all NaN"
    return f"{said} from {np.nanmin(numbers):.4g} to {np.nanmax(numbers):.4g}{f', {missing} NaN' if missing else ''}"


def _row(value: Any, i: int, count: int) -> Any:
    """Row i, of a value that has so many."""
    if count > 1 and isinstance(value, (np.ndarray, list)) and np.ndim(value) and len(value) == count:
        return value[i : i + 1] if isinstance(value, np.ndarray) else [value[i]]
    return value
