"""A graph as a tree of groups that a reader folds and unfolds: blocks by the names of nodes, in them kernels, in them nodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Union

from graphc.draw.kernels import kernel_of, steps_of
from graphc.draw.labels import type_text
from graphc.draw.parts import Item, Part, Scope, scopes_of
from graphc.graph import Graph, Value
from graphc.report import StepInfo

MOST = 40  # items of a group; more are cut into groups of their own


@dataclass(eq=False)
class Group:
    """role: 'block', 'kernel' (step: which), 'graph' of a node that holds graphs (path: its name), 'part' of a long group."""

    title: str
    path: str
    role: str
    items: list[Element] = field(default_factory=list)
    step: StepInfo | None = None

    def parts(self) -> Iterator[Part]:
        for item in self.items:
            if isinstance(item, Part):
                yield item
            else:
                yield from item.parts()


Element = Union[Group, Part]


@dataclass(frozen=True)
class Edge:
    """From the part that makes a value to one that reads it."""

    source: Part
    target: Part
    value: Value

    @property
    def label(self) -> str:
        return type_text(self.value)


@dataclass(frozen=True)
class Outline:
    """step_of: of parts outside graphs that nodes hold, and of those inside the step of that node."""

    root: Group
    edges: list[Edge]
    step_of: dict[Part, StepInfo]


def outline(graph: Graph, steps: Sequence[StepInfo]) -> Outline:
    """The tree. No group has more than MOST items; one with a single item is none, but for the root."""
    scope = scopes_of(graph)
    found = steps_of(scope, steps)
    edges = list(_edges(scope))
    root = _tree(scope, found)
    _simplify(root)
    place = {part: i for i, part in enumerate(scope.parts())}
    _cut(root, place, edges)
    step_of = {
        part: s for unit, s in found.items() if s for part in ([unit] if isinstance(unit, Part) else unit.parts())
    }
    return Outline(root, edges, step_of)


def _edges(root: Scope) -> Iterator[Edge]:
    parts = list(root.parts())
    makers: dict[Value, list[Part]] = defaultdict(list)  # both ways of an If make its results
    for part in parts:
        for v in part.makes:
            makers[v].append(part)
    for part in parts:
        yield from (Edge(source, part, v) for v in part.reads for source in makers[v] if source is not part)


def _tree(root: Scope, found: dict[Item, StepInfo | None]) -> Group:
    """A kernel stands in the innermost block that holds all of its nodes."""
    around = dict(_around(root, ()))
    shared: dict[int, tuple[Scope, ...]] = {}
    counts: dict[int, int] = defaultdict(int)
    for unit, step in found.items():
        if step is not None:
            before = shared.get(step.index, around[unit])
            shared[step.index] = tuple(
                a for a, _ in takewhile(lambda pair: pair[0] is pair[1], zip(before, around[unit]))
            )
            counts[step.index] += 1
    groups: dict[Scope | int, Group] = {root: Group(root.label, "", "block")}

    def group_of(scopes: tuple[Scope, ...]) -> Group:
        last = scopes[-1]
        if last not in groups:
            groups[last] = Group(last.label or last.path, last.path, "block")
            group_of(scopes[:-1]).items.append(groups[last])
        return groups[last]

    for unit, step in found.items():
        element = unit if isinstance(unit, Part) else _held(unit)
        if step is None or counts[step.index] == 1:
            if isinstance(element, Group):
                element.step = step
            group_of(around[unit]).items.append(element)
            continue
        if step.index not in groups:
            groups[step.index] = Group(kernel_of(step), step.kernel, "kernel", step=step)
            group_of(shared[step.index]).items.append(groups[step.index])
        groups[step.index].items.append(element)
    return groups[root]


def _around(scope: Scope, above: tuple[Scope, ...]) -> Iterator[tuple[Item, tuple[Scope, ...]]]:
    scopes = (*above, scope)
    for item in scope.items:
        if isinstance(item, Part) or item.whole:
            yield item, scopes
        else:
            yield from _around(item, scopes)


def _held(scope: Scope) -> Group:
    """Graphs that a node holds, and blocks in them."""
    items: list[Element] = [item if isinstance(item, Part) else _held(item) for item in scope.items]
    return Group(scope.label or scope.path, scope.path, "graph" if scope.whole else "block", items)


def _simplify(group: Group) -> None:
    out: list[Element] = []
    for item in group.items:
        if isinstance(item, Group):
            _simplify(item)
            if len(item.items) == 1 and item.role != "graph":
                out += item.items
                continue
            if not item.items:
                continue
        out.append(item)
    group.items = out


def _cut(group: Group, place: dict[Part, int], edges: Sequence[Edge]) -> None:
    """Cut long groups where the fewest values cross."""
    for item in group.items:
        if isinstance(item, Group):
            _cut(item, place, edges)
    while len(group.items) > MOST:
        group.items = _pieces(group, place, edges)


def _pieces(group: Group, place: dict[Part, int], edges: Sequence[Edge]) -> list[Element]:
    firsts = {item: place[item if isinstance(item, Part) else next(item.parts())] for item in group.items}
    items = sorted(group.items, key=firsts.__getitem__)
    at = {part: i for i, item in enumerate(items) for part in ([item] if isinstance(item, Part) else item.parts())}
    crossing = [0] * (len(items) + 1)  # values between items before i and from i on, as differences first
    for edge in edges:
        if edge.source in at and edge.target in at:
            first, last = sorted((at[edge.source], at[edge.target]))
            crossing[first + 1] += 1
            crossing[last + 1] -= 1
    for i in range(1, len(crossing)):
        crossing[i] += crossing[i - 1]
    out: list[Element] = []
    start = 0
    while start < len(items):
        left = len(items) - start
        end = len(items)
        if left > MOST:
            end = min(range(start + MOST // 2, min(start + MOST, len(items) - 1) + 1), key=lambda i: (crossing[i], -i))
        some = items[start:end]
        names = [_name(some[0]), _name(some[-1])]
        out.append(Group(" … ".join(names), "", "part", some) if len(some) > 1 else some[0])
        start = end
    return out


def _name(element: Element) -> str:
    if isinstance(element, Part):
        return element.name
    return element.path if element.role == "block" else _name(element.items[0])
