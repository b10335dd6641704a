"""Graphs that were cut, on disk: documents that name the plans of their parts. The keys of a suffix's plans follow from the whole's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from graphc.executable import Executable, value_key
from graphc.segmented import Segmented

if TYPE_CHECKING:
    from graphc.backend import Backend

Again: TypeAlias = "Callable[[Sequence[np.ndarray]], Executable | None]"  # what is on disk, made now for such inputs


def find(backend: Backend, key: str, again: Again) -> Executable | None:
    """What was kept of a graph that was cut. again: is needed where shapes turn up that its suffix has no plan for."""
    document = backend.load_cut(key)
    return None if document is None else _segmented(backend, key, document, again)


def find_many(backend: Backend, key: str, again: Again, arrays: Sequence[np.ndarray]) -> Executable | None:
    """The same of one for many sizes, these among them."""
    for whole, document in backend.load_cuts(key):
        found = _segmented(backend, whole, document, again)
        if found is not None and found.holds(arrays):
            return found
    return None


def _segmented(backend: Backend, key: str, document: dict[str, Any], again: Again) -> Segmented | None:
    def anew(values: Sequence[np.ndarray], apart: bool) -> tuple[Executable, bool]:
        whole = again(values[: document["inputs"]])
        assert isinstance(whole, Segmented), "the same graph is cut"
        return whole.plans.bind(values, apart)

    def bind(values: Sequence[np.ndarray], apart: bool) -> tuple[Executable, bool]:
        def suffix(values: Sequence[np.ndarray]) -> Executable:
            return anew(values, apart)[0]

        alone, many = suffix_key(key, values, document["valued"]), suffixes_key(key)
        found = backend.load(alone) or find(backend, alone, suffix)
        if found is not None:
            return found, False
        found = None if apart else backend.load_many(many, values) or find_many(backend, many, suffix, values)
        return anew(values, apart) if found is None else (found, True)

    return Segmented.from_document(document, backend.load, bind)


def part_key(key: str, part: int) -> str:
    """Of the program of the prefix, 0, or of a loop behind it."""
    return _digest(f"{key} part {part}")


def suffix_key(key: str, values: Sequence[np.ndarray], valued: Collection[int]) -> str:
    """Of a suffix for these shapes alone."""
    decide = [value_key(values[i]) for i in valued]
    return _digest(f"{key} suffix {[(a.dtype.str, a.shape) for a in values]} {decide}")


def suffixes_key(key: str, pattern: str = "") -> str:
    """Of a suffix for many sizes, as `Pattern.key` tells; without one, what the keys of all begin with."""
    return f"many-{_digest(f'{key} suffix')[:16]}" + (f"-{_digest(pattern)[:16]}" if pattern else "")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
