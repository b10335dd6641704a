"""Which nodes of a graph became one kernel, by its plan."""

from __future__ import annotations

from collections import defaultdict

from graphc.draw.parts import Item, Part, Scope
from graphc.draw.text import shortened
from graphc.report import StepInfo


def grouped(root: Scope, steps: tuple[StepInfo, ...]) -> Scope:
    """The parts of a graph in a scope for each step of the plan that computes some of them.

    Passes replace nodes: one that no step names belongs to the step whose result has its name, else to the one step that
    reads it ('BatchNormalization' that went into the weights of a convolution). What belongs to none stands alone.
    """
    step_of = {name: step for step in steps for name in step.nodes}
    step_of |= {step.output: step for step in steps if step.nodes and step.output not in step_of}
    parts = list(root.parts())
    readers: dict[object, list[Part]] = defaultdict(list)
    for part in parts:
        for v in part.reads:
            readers[v].append(part)
    found: dict[Part, StepInfo | None] = {}
    for part in reversed(parts):
        of = step_of.get(part.name)
        if of is None and part.makes and part.reads:
            after = {found.get(reader) for v in part.makes for reader in readers[v]}
            of = after.pop() if len(after) == 1 else None
        found[part] = of
    scopes: dict[int, Scope] = {}
    items: list[Item] = []
    for part in parts:
        step = found[part]
        if step is None:
            items.append(part)
            continue
        if step.index not in scopes:
            what = "host (NumPy)" if step.host else step.algorithm or shortened(step.kernel, 24)
            scopes[step.index] = Scope(f"{step.index} {what}", step.kernel, whole=True)
            items.append(scopes[step.index])
        scopes[step.index].items.append(part)
    return Scope(root.label, "", items)
