"""A plan bound to sizes: everything that a run needs but addresses. A plan for its shapes alone is bound to them from the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from graphc.lower.assembled import Extern, HostCall, JumpCall, Part, Slots
from graphc.lower.binding import compiled
from graphc.lower.registers import node_with_numbers, with_numbers
from graphc.memory_limit import require

if TYPE_CHECKING:
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
    lengths    of states that grow in place, after the run
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
    lengths: tuple[int, ...]
    runs: tuple[Part, ...]
    checks: tuple[tuple[slice, Check], ...]


class Bindings:
    """What a plan is for the sizes that it met last."""

    def __init__(self, plan: CompiledPlan) -> None:
        a, b = plan.assembled, plan.assembled.binding
        assert not len(a.kernel_slots.at), "kernels are no words of the table"
        self._plan = plan
        self._registers: dict[tuple[int, ...], list[int] | None] = {}
        self._bound: dict[tuple[int, ...], Bound] = {}
        if b is None:
            self._bound[()] = self._alone()
        else:
            places = np.zeros(len(b.places), np.int64)
            self._arena = Slots(b.places[:, 0], places, places)
            self._run = compiled(b.program)
            # where the offsets stand that depend on sizes
            self._offsets = [_positions(a.constant_slots, b.constants), _positions(a.extern_slots, b.externs)]

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
            found = self._with(registers)
            require(found.nbytes, f"values between the steps for sizes {', '.join(map(str, sizes))}")
            for name, t in found.results:
                require(t.nbytes, f"'{name}' of shape {t.shape}")
            _keep(self._bound, sizes, found)
        return found

    def _sizes(self, arrays: Sequence[np.ndarray]) -> tuple[int, ...] | None:
        return () if self._plan.sources is None else self._plan.sources.sizes(arrays)

    def _computed(self, sizes: tuple[int, ...]) -> list[int] | None:
        if sizes not in self._registers:
            _keep(self._registers, sizes, self._run(*sizes))
        return self._registers[sizes]

    def _alone(self) -> Bound:
        a = self._plan.assembled
        launches = np.column_stack([a.blocks[:, :2], a.words[a.blocks[:, 1]]])
        slots = a.constant_slots, a.arena_slots, a.extern_slots
        return Bound(a.words, *slots, launches, a.arena, a.externs, self._plan.results, (), a.runs, a.checks)

    def _with(self, registers: Sequence[int]) -> Bound:
        a, b = self._plan.assembled, self._plan.assembled.binding
        assert b is not None
        r, words = np.array(registers, np.int64), a.words.copy()
        words[b.words[:, 0]] = r[b.words[:, 1]]
        launches = np.empty((len(a.blocks), 3), np.int64)
        launches[:, :2] = a.blocks[:, :2]
        launches[:, 2] = words[a.blocks[:, 1]]
        launches[b.kernels[:, 0], 0] = b.variants[b.kernels[:, 2] + r[b.kernels[:, 1]]]
        slots = [
            slots._replace(offset=_filled(slots.offset, at, r[rows[:, 1]]))
            for slots, rows, at in zip((a.constant_slots, a.extern_slots), (b.constants, b.externs), self._offsets)
        ]
        return Bound(
            words,
            slots[0],
            self._arena._replace(offset=r[b.places[:, 1]]),
            slots[1],
            launches,
            registers[b.arena],
            tuple(e._replace(shape=with_numbers(e.shape, registers)) for e in a.externs),
            with_numbers(self._plan.results, registers),
            with_numbers(self._plan.lengths, registers),
            tuple(_call(run, registers) for run in a.runs),
            tuple((where, with_numbers(check, registers)) for where, check in a.checks),
        )


def _keep(kept: dict, sizes: tuple[int, ...], value: object) -> None:
    """And forget the oldest of too many."""
    kept[sizes] = value
    for old in list(kept)[:-KEPT]:
        kept.pop(old, None)  # another thread may have done it


def _positions(slots: Slots, rows: np.ndarray) -> np.ndarray:
    """Where the slots of the rows' words stand among all."""
    order = np.argsort(slots.at)
    found: np.ndarray = order[np.searchsorted(slots.at, rows[:, 0], sorter=order)]
    return found


def _filled(numbers: np.ndarray, at: np.ndarray, values: np.ndarray) -> np.ndarray:
    if len(at):
        numbers = numbers.copy()
        numbers[at] = values
    return numbers


def _call(run: Part, registers: Sequence[int]) -> Part:
    if isinstance(run, HostCall):
        return replace(run, node=node_with_numbers(run.node, registers))
    return with_numbers(run, registers) if isinstance(run, JumpCall) else run
