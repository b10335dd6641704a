"""A lowered model in its assembled form: a flat table that only lacks addresses, so it can be kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, Union

import numpy as np

from graphc.records import record

if TYPE_CHECKING:
    from graphc.graph import Node
    from graphc.lower.checks import Check
    from graphc.lower.registers import Binding
    from graphc.lower.storage import Place


class Slots(NamedTuple):
    """Fields of the table, at `at[i]`, that take the address of index `what[i]` plus `offset[i]`."""

    at: np.ndarray
    what: np.ndarray
    offset: np.ndarray

    @classmethod
    def of(cls, entries: Sequence[tuple[int, int, int]]) -> Slots:
        columns = np.array(entries, np.int64).reshape(-1, 3).T
        return cls(columns[0].astype(np.intp), columns[1].astype(np.intp), columns[2])


class Extern(NamedTuple):
    """An array that Python provides."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype


@record(frozen=True, eq=False)
class HostCall:
    """A host step: operands are constants or indices of externs, results indices of externs. Where types or attributes of the
    node hold sizes, these are registers (graphc/lower/binding.py)."""

    node: Node
    inputs: tuple[int | np.ndarray | None, ...]
    outputs: tuple[int, ...]


@record(frozen=True, eq=False)
class JumpCall:
    """A jump. word: of the table, with the address of its condition, or None. to: the run that follows, by its number. reports: of
    the steps that it goes back over: their first words in the table."""

    word: int | None
    when: int
    times: int
    to: int
    reports: tuple[int, ...] = ()


Part: TypeAlias = Union[
    tuple[int, int], HostCall, JumpCall
]  # of a run: (first, count) of native steps, or what is between such


@record(frozen=True, eq=False)
class Assembled:
    """A program without addresses.

    words     the argument blocks, one after the other
    blocks    [native steps, 3]: index of the step's kernel, of its first argument, its cost (see `Form`)
    arena     bytes
    *_slots   the words that addresses go into, by index of kernel, constant and extern
    inputs    extern of each input; outputs: extern of each result, or the array that it is always
    checks    words of reports, and what they mean
    runs      (first, count) of native steps, with host calls and jumps between
    binding   what depends on sizes, of a program for many; then `arena` is that of the example
    """

    words: np.ndarray
    blocks: np.ndarray
    arena: int
    constants: tuple[Place, ...]
    externs: tuple[Extern, ...]
    kernel_slots: Slots
    constant_slots: Slots
    arena_slots: Slots
    extern_slots: Slots
    inputs: tuple[int, ...]
    outputs: tuple[int | np.ndarray, ...]
    checks: tuple[tuple[slice, Check], ...]
    runs: tuple[Part, ...]
    binding: Binding | None = None
