"""A plan bound to sizes: everything that a run needs but addresses. A plan for its shapes alone is bound to them from the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from graphc.lower.binding import node_with_numbers, with_numbers
from graphc.lower.program import Extern, HostCall, Slots
from graphc.memory_limit import require

if TYPE_CHECKING:
    from graphc.lower.binder import Binding
    from graphc.lower.checks import Check
    from graphc.lower.plans import CompiledPlan
    from graphc.types import TensorType

KEPT = 16  # bound programs of a plan


@dataclass(frozen=True, eq=False)
class Bound:
    """A program for some sizes.

    words      the argument blocks, without addresses
    constants  where addresses go: the word, the index of the constant, and what is added to its address
    arena      the same of the arena
    externs    the same of the arrays of the caller
    launches   [native steps, 3]: the index of the kernel, the first word of its block, the grid, which may be 0
    nbytes     of the arena
    shapes     of the arrays of the caller
    results    names and types
    runs       (first, count) of launches, with host calls between
    checks     words of reports, and what they mean
    """

    words: np.ndarray
    constants: Slots
    arena: Slots
    externs: Slots
    launches: np.ndarray
    nbytes: int
    shapes: tuple[Extern, ...]
    results: tuple[tuple[str, TensorType], ...]
    runs: tuple[tuple[int, int] | HostCall, ...]
    checks: tuple[tuple[slice, Check], ...]


class Bindings:
    """What a plan is for the sizes that it met last."""

    def __init__(self, plan: CompiledPlan) -> None:
        assert not len(plan.assembled.kernel_slots.at), "kernels are no words of the table"
        self._plan = plan
        self._registers: dict[tuple[int, ...], list[int] | None] = {}
        self._bound: dict[tuple[int, ...], Bound] = {}

    def holds(self, arrays: Sequence[np.ndarray]) -> bool:
        """Is the plan for arrays of these shapes?"""
        sizes = self._sizes(arrays)
        return sizes is not None and (sizes in self._bound or self._computed(sizes) is not None)

    def of(self, arrays: Sequence[np.ndarray]) -> Bound:
        """For arrays of shapes that it is for. Raises InputError where these want more memory than there may be."""
        sizes = self._sizes(arrays)
        assert sizes is not None, "inputs of another plan"
        found = self._bound.get(sizes)
        if found is None:
            registers = self._computed(sizes)
            assert registers is not None, "inputs of another plan"
            found = bound(self._plan, registers)
            require(found.nbytes, f"values between the steps for sizes {', '.join(map(str, sizes))}")
            for name, t in found.results:
                require(t.nbytes, f"'{name}' of shape {t.shape}")
            _keep(self._bound, sizes, found)
        return found

    def _sizes(self, arrays: Sequence[np.ndarray]) -> tuple[int, ...] | None:
        return () if self._plan.sources is None else self._plan.sources.sizes(arrays)

    def _computed(self, sizes: tuple[int, ...]) -> list[int] | None:
        binding = self._plan.assembled.binding
        if binding is None:
            return []
        if sizes not in self._registers:
            _keep(self._registers, sizes, binding.program.run(sizes))
        return self._registers[sizes]


def _keep(kept: dict, sizes: tuple[int, ...], value: object) -> None:
    """And forget the oldest of too many."""
    kept[sizes] = value
    for old in list(kept)[:-KEPT]:
        kept.pop(old, None)  # another thread may have done it


def bound(plan: CompiledPlan, registers: Sequence[int]) -> Bound:
    """A plan with the numbers of its registers; there are none of a plan for its shapes alone."""
    a, b = plan.assembled, plan.assembled.binding
    launches = np.column_stack([a.blocks[:, :2], np.zeros(len(a.blocks), np.int64)])
    if b is None:
        words = a.words
        slots, shapes, results, runs, checks = _slots(plan), a.externs, plan.results, a.runs, a.checks
        nbytes = a.arena
    else:
        r = np.array(registers, np.int64)
        words = a.words.copy()
        words[b.words[:, 0]] = r[b.words[:, 1]]
        for step, register, first in b.kernels.tolist():
            launches[step, 0] = b.variants[first + registers[register]]
        slots, nbytes = _bound_slots(plan, b, r), registers[b.arena]
        shapes = tuple(e._replace(shape=with_numbers(e.shape, registers)) for e in a.externs)
        results = with_numbers(plan.results, registers)
        runs = tuple(
            replace(x, node=node_with_numbers(x.node, registers)) if isinstance(x, HostCall) else x for x in a.runs
        )
        checks = tuple((where, with_numbers(check, registers)) for where, check in a.checks)
    launches[:, 2] = words[launches[:, 1]]
    return Bound(words, *slots, launches, nbytes, shapes, results, runs, checks)


def _slots(plan: CompiledPlan) -> tuple[Slots, Slots, Slots]:
    """Of constants, the arena, arrays of the caller."""
    a = plan.assembled
    return a.constant_slots, a.arena_slots, a.extern_slots


def _bound_slots(plan: CompiledPlan, b: Binding, r: np.ndarray) -> tuple[Slots, Slots, Slots]:
    constants, _, externs = _slots(plan)
    places = Slots(b.places[:, 0], np.zeros(len(b.places), np.int64), r[b.places[:, 1]])
    return _with_offsets(constants, b.constants, r), places, _with_offsets(externs, b.externs, r)


def _with_offsets(slots: Slots, rows: np.ndarray, r: np.ndarray) -> Slots:
    """rows: word, register of its offset, index."""
    offset, of_word = slots.offset.copy(), {int(at): i for i, at in enumerate(slots.at)}
    for at, register, _ in rows.tolist():
        offset[of_word[at]] = r[register]
    return slots._replace(offset=offset)
