"""A program for many sizes: which words of its table are computed when it is bound, and where its buffers lie then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import product
from typing import Any

import numpy as np

from graphc.classes import Many
from graphc.lower.aligned import ALIGNMENT
from graphc.lower.binding import Writer
from graphc.lower.kernel import Kernel, Variants, one_of
from graphc.lower.memory import Lifetime, plan
from graphc.lower.registers import Binding
from graphc.lower.storage import Buffer
from graphc.sizes import Size, hint_of, holds_sizes, is_size

MOST_VARIANTS = 16  # of a kernel, among which sizes choose


class Binder:
    """Collects what depends on sizes while a table is written."""

    def __init__(self, many: Many, live: Mapping[Buffer, tuple[int, int]], reuse: bool) -> None:
        self.writer = Writer(many.trace, many.names)  # every question has been asked by now
        self.starts, self.arena = self._stack(*_order(live, reuse))
        self.rows: dict[str, list[tuple[int, ...]]] = {
            kind: [] for kind in ("words", "places", "constants", "externs", "choices", "kernels")
        }
        self.variants: list[int] = []
        self.costs: list[int] = []

    def _stack(self, order: Sequence[Buffer], below: Mapping[Buffer, list[Buffer]]) -> tuple[dict[Buffer, int], int]:
        """Each buffer lies above those that are below it, whatever their sizes are: so no two meet that live at one time."""
        starts: dict[Buffer, int] = {}
        ends: dict[Buffer, int] = {}
        for b in order:
            starts[b] = self.writer.largest(ends[other] for other in below[b])
            size = -(-b.nbytes // ALIGNMENT) * ALIGNMENT
            ends[b] = self.writer.add(starts[b], self.writer.of(size))
        return starts, self.writer.largest(ends.values())

    def word(self, at: int, value: Any) -> None:
        self.rows["words"].append((at, self.writer.of(value)))

    def place(self, at: int, buffer: Buffer, offset: Any) -> None:
        start = self.starts[buffer]
        register = self.writer.add(start, self.writer.of(offset)) if is_size(offset) or offset else start
        self.rows["places"].append((at, register))

    def offset(self, kind: str, at: int, index: int, offset: Any) -> None:
        """kind: 'constants' or 'externs'."""
        self.rows[kind].append((at, self.writer.of(offset), index))

    def choice(self, at: int, index: Any, kernels: Sequence[int]) -> None:
        self._choice("choices", at, index, kernels)

    def kernel(self, step: int, index: Any, kernels: Sequence[int]) -> None:
        """Of a native step, by its number."""
        self._choice("kernels", step, index, kernels)

    def _choice(self, kind: str, at: int, index: Any, kernels: Sequence[int]) -> None:
        self.rows[kind].append((at, self.writer.of(index), len(self.variants)))
        self.variants += kernels

    def cost(self, cost: Any) -> None:
        self.costs.append(self.writer.of(cost))

    def binding(self) -> Binding:
        """When everything has been asked for, reports too."""
        widths = {"words": 2, "places": 2, "constants": 3, "externs": 3, "choices": 3, "kernels": 3}
        rows = {k: np.array(self.rows[k], np.int64).reshape(-1, n) for k, n in widths.items()}
        numbers = {"variants": np.array(self.variants, np.int64), "costs": np.array(self.costs, np.int64)}
        return Binding(program=self.writer.program, **rows, **numbers, arena=self.arena)


def _order(live: Mapping[Buffer, tuple[int, int]], reuse: bool) -> tuple[list[Buffer], dict[Buffer, list[Buffer]]]:
    """The buffers from the lowest up as they lie in the example, and those that lie directly below each of those that live when
    it does."""
    buffers = list(live)
    arena = plan([Lifetime(b.name, hint_of(b.nbytes), *live[b]) for b in buffers], ALIGNMENT, reuse=reuse)
    order = sorted(range(len(buffers)), key=lambda i: (arena.offsets[i], i))
    below: dict[Buffer, list[Buffer]] = {}
    under: dict[int, set[int]] = {}  # all that lie below, directly or not
    for k, i in enumerate(order):
        first, last = live[buffers[i]]
        direct: list[int] = []
        seen: set[int] = set()
        for j in reversed(order[:k]):
            meets = not reuse or (live[buffers[j]][0] <= last and first <= live[buffers[j]][1])
            if meets and j not in seen:
                direct.append(j)
                seen |= {j} | under[j]
        under[i] = seen
        below[buffers[i]] = [buffers[j] for j in direct]
    return [buffers[i] for i in order], below


def resolved(kernel: Kernel | Variants) -> tuple[Kernel, Variants | None]:
    """The kernel of the example, and those among which sizes choose, where these are several."""
    chosen = kernel if isinstance(kernel, Variants) else one_of(*variants(kernel))
    if isinstance(chosen, Kernel):
        return chosen, None
    return chosen.kernels[hint_of(chosen.index)], chosen


def variants(kernel: Kernel) -> tuple[Any, list[Kernel]]:
    """The kernels that a kernel whose fields hold sizes stands for, and which of them it is, as a value. Sizes that may be many
    numbers are only what they are in the example."""
    inside: list[Size] = []

    def visit(value: Any) -> None:
        if type(value) is Size:
            if all(value.expr != s.expr for s in inside):
                inside.append(value)
        elif type(value) is tuple:
            for v in value:
                visit(v)

    for f in fields(kernel):
        visit(getattr(kernel, f.name))
    if not inside:
        return 0, [kernel]
    choices: list[Sequence[int]] = []
    index: Any = 0
    for s in inside:
        values = possible(s)
        choices.append(values)
        index = index * len(values) + (s.__index__() * 0 if len(values) == 1 else _rank(s, values))
    made = []
    for numbers in product(*choices):
        known = dict(zip((s.expr for s in inside), numbers))
        made.append(_with(kernel, known))
    return index, made


def possible(size: Size) -> Sequence[int]:
    """The numbers that a size may be, where they are few; else the one that it is, which is asked."""
    least, most = size.trace.bounds(size.expr)
    looked_up = size.trace.values_of(size)
    if looked_up is not None and len(looked_up) <= MOST_VARIANTS:
        return looked_up
    if most - least < MOST_VARIANTS:
        return range(int(least), int(most) + 1)
    return (size.__index__(),)


def _rank(size: Size, values: Sequence[int]) -> Any:
    """The number of a size among its values, as a value."""
    if isinstance(values, range):
        return size - values.start
    return size.trace.rank(size, tuple(values))


def _with(value: Any, known: Mapping[Any, int]) -> Any:
    if type(value) is Size:
        return known[value.expr]
    if type(value) is tuple:
        return tuple(_with(v, known) for v in value)
    if isinstance(value, Kernel) and any(holds_sizes(getattr(value, f.name)) for f in fields(value)):
        return type(value)(**{f.name: _with(getattr(value, f.name), known) for f in fields(value)})
    return value
