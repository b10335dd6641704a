"""Elements that stand in a row and are alike: drawn once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from graphc.draw.boxes import Box, Element, Frame, boxes_of, covered
from graphc.draw.parts import Part
from graphc.graph import Value

Late = dict[Part, set[Element]]  # a part that is drawn by another, alike: the runs of which it is in no first copy


def fold_runs(elements: Sequence[Element], late: Late, among: Callable[[Element], bool]) -> list[Element]:
    """Of each run the first element, with the number of its copies. among: what may be in one."""
    out: list[Element] = []
    i = 0
    while i < len(elements):
        n = _length(elements[i:]) if among(elements[i]) else 1
        out.append(_once(elements[i : i + n], late) if n > 1 else elements[i])
        i += n
    return out


def _length(elements: Sequence[Element]) -> int:
    """How many at the beginning are alike, each reading what the one before it makes in the same way."""
    first, alike, how = elements[0], _shape(elements[0]), None
    for n, (before, element) in enumerate(pairwise(elements), 1):
        if element.count != first.count or _shape(element) != alike:
            return n
        link = _link(before, element)
        if link is None or link != (how or link):
            return n
        how = link
    return len(elements)


def _outside(element: Element) -> list[Value]:
    """What it reads of others, in order."""
    parts = covered(element)
    made = {v for part in parts for v in part.makes}
    return list(dict.fromkeys(v for part in parts for v in part.reads if v not in made))


def _made(element: Element) -> list[Value]:
    return [v for part in covered(element) for v in part.makes]


def _link(before: Element, element: Element) -> tuple[int | None, ...] | None:
    """Which result of the one before each outside value is, None for what both read. None where it reads something else, or
    nothing of the one before."""
    made = {v: i for i, v in enumerate(_made(before))}
    link = []
    for old, new in zip(_outside(before), _outside(element)):
        if new not in made and new is not old:
            return None
        link.append(made.get(new))
    return tuple(link) if any(i is not None for i in link) else None


def _shape(element: Element) -> tuple[Any, ...]:
    """The same for elements that look alike: boxes, what they say, and what reads what."""
    places: dict[Value, int] = {}
    rows = []
    for part in covered(element):
        reads = tuple(places.setdefault(v, len(places)) for v in part.reads)
        makes = tuple(places.setdefault(v, len(places)) for v in part.makes)
        rows.append((part.label, reads, makes))
    return _outline(element), tuple(rows)


def _outline(element: Element) -> tuple[Any, ...]:
    if isinstance(element, Box):
        return (element.label, len(element.rows), element.count)
    return (element.stem, element.count, *map(_outline, element.items))


def _once(elements: Sequence[Element], late: Late) -> Element:
    first = elements[0]
    if first.count > 1:  # a run of runs
        run: Element = Frame("", [first], len(elements), first.name)
    else:
        run = first
        first.count = len(elements)
    for other in elements[1:]:
        for part in covered(other):
            late.setdefault(part, set()).add(run)
        for box, copy in zip(boxes_of(first), boxes_of(other)):
            box.covers += copy.covers
    return run
