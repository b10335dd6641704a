"""Which images [N, C, *spatial] have their channels innermost in memory: those that convolutions read, and what is between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from graphc.graph import Node, Value
from graphc.lower.fuse import Group
from graphc.lower.lowering import Lowering
from graphc.types import TensorType

Gains = Callable[[Node], bool]  # does an anchor gain by it?


def assign_channels_last(lo: Lowering, groups: Sequence[Group], compiled: Sequence[bool], gains: Gains) -> None:
    """Decide from the last group to the first: a value is what its readers want it to be. Those that are placed already are
    dense. compiled: which groups run as kernels."""
    near = _behind_windows(lo, groups, compiled, gains)
    wanted: set[Value] = set()  # by a convolution, directly or through others
    dense: set[Value] = set()  # wanted by a kernel that knows no other order
    for group, native in zip(reversed(groups), reversed(compiled)):
        found = _walks(lo, group) if native else ""
        for v in group.nodes[-1].outputs:
            can = found in ("write", "packed", "any") and v not in lo.storage and _is_image(v.type)
            if can and (v in wanted or (v in near and v not in dense)):
                lo.channels_last.add(v)
        wants = _is_window(group, gains) or bool(lo.channels_last & {*group.nodes[-1].outputs})
        images = set(_images(group))
        for v in group.inputs:
            if found in ("", "write") or v not in images:
                dense.add(v)
            elif found != "read" and wants:
                wanted.add(v)


def _behind_windows(lo: Lowering, groups: Sequence[Group], compiled: Sequence[bool], gains: Gains) -> set[Value]:
    """What convolutions make, directly or through others."""
    found: set[Value] = set()
    for group, native in zip(groups, compiled):
        if native and _walks(lo, group) and (_is_window(group, gains) or not found.isdisjoint(_images(group))):
            found.update(group.nodes[-1].outputs)
    return found


def _walks(lo: Lowering, group: Group) -> str:
    """As `Rule.channels_last`."""
    if group.anchor is None:
        placed = any(v in lo.storage and not lo.storage[v].channels_last for v in _images(group))
        fixed = placed or any(_leaves_gaps(v, group.output) for v in group.operands)
        return "" if fixed and not lo.any_strides else "any"
    rule = lo.rules.rule_of(group.anchor)
    return "" if rule is None else rule.channels_last(group.anchor)


def _is_window(group: Group, gains: Gains) -> bool:
    return group.anchor is not None and gains(group.anchor)


def _images(group: Group) -> Iterator[Value]:
    """What the kernel reads as images: not weights, not vectors."""
    if group.anchor is None or group.anchor.op.name == "Concat":
        yield from (v for v in group.inputs if v.shape == group.output.shape or group.anchor is not None)
        return
    yield from group.anchor.inputs[:1]
    yield from (v for v in group.operands if v.shape == group.output.shape)


def _leaves_gaps(v: Value, out: Value) -> bool:
    """Is it an operand that is broadcast, and whose channels would not lie side by side? Copies in another order are made of whole
    images only."""
    shape = (*[1] * (len(out.shape) - len(v.shape)), *v.shape)
    return shape != tuple(out.shape) and len(shape) > 2 and shape[1] != 1 and any(d != 1 for d in shape[2:])


def _is_image(t: TensorType) -> bool:
    """Is there a difference?"""
    return t.layout is None and t.rank > 2 and t.shape[1] != 1 and any(d != 1 for d in t.shape[2:])
