"""Graphs that operators hold, specialised: for the types of what the node gives them, with what is constant within."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from threading import local

import numpy as np

from graphc.bind import bind
from graphc.errors import GraphcError
from graphc.graph import Graph
from graphc.types import TensorType

Key = tuple[Graph, tuple["TensorType | None", ...], tuple["int | None", ...]]
Found = tuple["Graph | GraphcError", Sequence["np.ndarray | None"]]  # with the arrays whose ids are in the key


class _Kept(local):
    """What was found since the outermost inference of a held graph began; None outside of one."""

    found: dict[Key, Found] | None = None


_kept = _Kept()


@contextmanager
def keeping() -> Iterator[dict[Key, Found]]:
    """While this lasts, a held graph is specialised once for the same operands.

    A Loop infers its body until the types of its states hold, so twice or more: without this, of Loops within each other
    the innermost would be inferred 2^depth times.
    """
    if _kept.found is not None:
        yield _kept.found
        return
    _kept.found = {}
    try:
        yield _kept.found
    finally:
        _kept.found = None


def specialise(graph: Graph, types: Sequence[TensorType | None], data: Sequence[np.ndarray | None]) -> Graph:
    """The held graph for inputs of those types (None: not known), with inputs whose value is known made constants.

    Raises GraphcError where it is not valid for them."""
    new = {v.name: t for v, t in zip(graph.inputs, types) if t != v.type}
    fixed = {v.name: a for v, a in zip(graph.inputs, data) if a is not None}
    if not new and not fixed:
        return graph
    with keeping() as kept:
        key = graph, tuple(types), tuple(None if a is None else id(a) for a in data)
        if key not in kept:
            kept[key] = _specialised(graph, new, fixed), data
        found = kept[key][0]
    if isinstance(found, GraphcError):
        raise copy(found)
    return found


def _specialised(
    graph: Graph, types: dict[str, TensorType | None], fixed: dict[str, np.ndarray]
) -> Graph | GraphcError:
    try:
        return bind(graph, types, fixed)
    except GraphcError as error:
        return error
