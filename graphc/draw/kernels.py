"""Which nodes of a graph became one kernel, by its plan."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from graphc.draw.kinds import Kind
from graphc.draw.parts import Item, Part, Scope, parts_of
from graphc.draw.text import shortened
from graphc.graph import Value
from graphc.report import StepInfo
from graphc.sizes import hint_of


def steps_of(root: Scope, steps: Sequence[StepInfo]) -> dict[Item, StepInfo | None]:
    """By part, or scope of a node that holds graphs: the step of the plan that computes it, None where there is none.

    Passes replace nodes: one that no step names belongs to the step whose result has its name, else to the one with the most
    arithmetic of those that what it became is in ('attention/FusedAttention_3' of 'attention'), else to the one step that reads it
    ('BatchNormalization' that went into the weights of a convolution).
    """
    units = list(_units(root))
    ports = {unit for unit in units if isinstance(unit, Part) and unit.kind is Kind.PORT}
    names = {unit.name if isinstance(unit, Part) else unit.path for unit in units if unit not in ports}
    step_of = {name: step for step in steps for name in step.nodes}
    step_of |= {step.output: step for step in steps if step.nodes and step.output not in step_of}
    for step in sorted(steps, key=lambda step: -hint_of(step.flops)):
        for name in names.intersection(_replaced(step, names)):
            step_of.setdefault(name, step)
    readers: dict[Value, list[Item]] = defaultdict(list)
    for unit in units:
        for v in (v for part in parts_of(unit) for v in part.reads):
            readers[v].append(unit)
    found: dict[Item, StepInfo | None] = {}
    for unit in reversed(units):
        if unit in ports:  # often named as the value, but computed by nothing
            found[unit] = None
            continue
        of = step_of.get(unit.name if isinstance(unit, Part) else unit.path)
        if of is None and isinstance(unit, Part) and unit.makes and unit.reads:
            after = {found.get(reader) for v in unit.makes for reader in readers[v]}
            of = after.pop() if len(after) == 1 else None
        found[unit] = of
    return {unit: found[unit] for unit in units}


def _replaced(step: StepInfo, names: Collection[str]) -> Iterator[str]:
    """Names before each '/' in those of its nodes that are no node's of the graph."""
    for name in step.nodes:
        if name not in names:
            yield from (name[: found.start()] for found in re.finditer("/", name))


def grouped(root: Scope, steps: Sequence[StepInfo]) -> Scope:
    """The nodes of a graph in a scope for each step of the plan that computes some of them. What belongs to none stands alone."""
    scopes: dict[int, Scope] = {}
    items: list[Item] = []
    for unit, step in steps_of(root, steps).items():
        if step is None:
            items.append(unit)
            continue
        if step.index not in scopes:
            scopes[step.index] = Scope(f"{step.index} {kernel_of(step)}", step.kernel, whole=True)
            items.append(scopes[step.index])
        scopes[step.index].items.append(unit)
    return Scope(root.label, "", items)


def kernel_of(step: StepInfo) -> str:
    """In a word or two: its algorithm, where there is a choice."""
    return "host (NumPy)" if step.host else step.algorithm or shortened(step.kernel, 24)


def _units(scope: Scope) -> Iterator[Item]:
    """Parts, and nodes that hold graphs with all that is in them."""
    for item in scope.items:
        if isinstance(item, Part) or item.whole:
            yield item
        else:
            yield from _units(item)
