"""A lowered model: steps over buffers, and its assembled form, a flat table that only lacks addresses.

Lowering emits `Step`s whose arguments are ints, `Ref`s into buffers and `Kernel`s. Assembling plans the arena from the
steps themselves (a buffer lives from the first step that names it to the last) and turns every argument into an int64,
or into the note which address belongs there: so a table can be kept on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from graphc.lower.checks import Check
from graphc.lower.kernel import Kernel
from graphc.lower.storage import ALIGNMENT, Buffer, ExternBuffer, Place, Ref, Storage

if TYPE_CHECKING:
    from graphc.graph import Node
    from graphc.report import MemoryReport, StepInfo


@dataclass(frozen=True, eq=False)
class Step:
    """One call of a kernel: its argument block, and what a person wants to know of it.

    writes: buffers that it changes, its scratch memory among them. reads: buffers whose contents it depends on. A buffer that
    several values share (a concatenation and its parts) may be both.
    check: for a kernel that reads positions from data. The last words of its block are pairs, zero, into which it writes
    the first position out of range: 1 + its number among the positions, and its value. check(number, value) is the error
    to raise for it after the run.
    """

    kernel: Kernel
    args: tuple[int | Ref | Kernel, ...]
    info: StepInfo
    writes: tuple[Buffer, ...]
    reads: tuple[Buffer, ...]
    check: Check | None = None

    def buffers(self) -> list[Buffer]:
        return list(dict.fromkeys(a.buffer for a in self.args if isinstance(a, Ref)))


@dataclass(frozen=True, eq=False)
class HostStep:
    """A node that runs in Python through its reference; its operands and results are 'extern' buffers or constants."""

    node: Node
    inputs: tuple[ExternBuffer | np.ndarray | None, ...]
    outputs: tuple[ExternBuffer, ...]
    info: StepInfo

    @property
    def writes(self) -> tuple[Buffer, ...]:
        return self.outputs

    @property
    def reads(self) -> tuple[Buffer, ...]:
        return tuple(b for b in self.inputs if isinstance(b, Buffer))

    def buffers(self) -> list[Buffer]:
        return list(dict.fromkeys(b for b in (*self.inputs, *self.outputs) if isinstance(b, Buffer)))


@dataclass(frozen=True)
class Made:
    """A value that is complete after so many steps, and where it lies. taken_part: a word that a thread has written if it
    has made a value of its own there."""

    steps: int
    name: str
    storage: Storage
    taken_part: Ref | None = None


@dataclass
class Program:
    """Steps in order, with the buffers that the caller provides: one per input, and per result its buffer or constant. made:
    of checked runs."""

    steps: list[Step | HostStep] = field(default_factory=list)
    inputs: list[ExternBuffer] = field(default_factory=list)
    outputs: list[ExternBuffer | np.ndarray] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)


class Slots(NamedTuple):
    """Words of the table that take address number `what[i]` plus `offset[i]`, at `at[i]`."""

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


@dataclass(frozen=True, eq=False)
class HostCall:
    """A host step: operands are constants or numbers of externs, results numbers of externs."""

    node: Node
    inputs: tuple[int | np.ndarray | None, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Assembled:
    """A program without addresses.

    words     the argument blocks, one after the other
    blocks    [native steps, 3]: number of the step's kernel, index of the first argument, its cost (see `Form`)
    arena     bytes
    *_slots   the words that addresses go into, by number of kernel, constant and extern
    inputs    extern of each input; outputs: extern of each result, or the array that it is always
    checks    words of reports, and what they mean
    runs      (first, count) of native steps, with host calls between
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
    runs: tuple[tuple[int, int] | HostCall, ...]


@dataclass(frozen=True)
class Form:
    """What a backend wants of the table.

    cost         of a step, in a unit of the backend's own
    check_words  at the end of the block of a step that checks positions
    line         words: a block begins at a multiple of so many, behind at least as many that are zero
    reuse        may buffers that live at different times share memory?
    """

    cost: Callable[[StepInfo], int]
    check_words: int = 2
    line: int = 0
    reuse: bool = True


def assemble(
    program: Program, form: Form, place_of: Callable[[Buffer], Place]
) -> tuple[Assembled, tuple[Kernel, ...], MemoryReport]:
    """Plan the arena and lay out the table. Also the kernels by number, and the bytes but
    those of the weights."""
    from graphc.lower.memory import Lifetime, plan
    from graphc.report import Interval, MemoryReport

    live: dict[Buffer, list[int]] = {}
    for i, step in enumerate(program.steps):
        for b in step.buffers():
            if b.kind in ("arena", "scratch"):
                live.setdefault(b, [i, i])[1] = i
    lifetimes = [Lifetime(b.name, b.nbytes, first, last) for b, (first, last) in live.items()]
    arena = plan(lifetimes, ALIGNMENT, reuse=form.reuse)
    offsets = dict(zip(live, arena.offsets))

    externs = dict.fromkeys(
        [*program.inputs, *(b for b in program.outputs if isinstance(b, ExternBuffer))]
        + [b for s in program.steps for b in s.buffers() if isinstance(b, ExternBuffer)]
    )
    number: dict[Buffer, int] = {b: i for i, b in enumerate(externs)}
    constants: dict[Buffer, int] = {}
    kernels: dict[Kernel, int] = {}
    words: list[int] = []
    blocks: list[tuple[int, int, int]] = []
    checks: list[tuple[slice, Check]] = []
    kernel_slots, constant_slots, arena_slots, extern_slots = [], [], [], []
    for step in program.steps:
        if isinstance(step, HostStep):
            continue
        if form.line:
            words += [0] * (-len(words) % form.line + form.line)
        blocks.append((kernels.setdefault(step.kernel, len(kernels)), len(words), form.cost(step.info)))
        for a in step.args:
            at = len(words)
            words.append(a if isinstance(a, int) else 0)
            if isinstance(a, Kernel):
                kernel_slots.append((at, kernels.setdefault(a, len(kernels)), 0))
            elif not isinstance(a, Ref):
                words[at] = int(a)
            elif a.buffer.kind == "const":
                constant_slots.append((at, constants.setdefault(a.buffer, len(constants)), a.offset))
            elif a.buffer.kind == "extern":
                extern_slots.append((at, number[a.buffer], a.offset))
            else:
                arena_slots.append((at, 0, offsets[a.buffer] + a.offset))
        if step.check is not None:
            checks.append((slice(len(words) - form.check_words, len(words)), step.check))
    assembled = Assembled(
        words=np.array(words, np.int64),
        blocks=np.array(blocks, np.int64).reshape(-1, 3),
        arena=arena.nbytes,
        constants=tuple(map(place_of, constants)),
        externs=tuple(Extern(b.name, b.shape, b.dtype) for b in externs),
        kernel_slots=Slots.of(kernel_slots),
        constant_slots=Slots.of(constant_slots),
        arena_slots=Slots.of(arena_slots),
        extern_slots=Slots.of(extern_slots),
        inputs=tuple(number[b] for b in program.inputs),
        outputs=tuple(number[b] if isinstance(b, Buffer) else b for b in program.outputs),
        checks=tuple(checks),
        runs=tuple(_runs(program, number)),
    )
    intervals = tuple(Interval(b.name, offsets[b], b.nbytes, first, last) for b, (first, last) in live.items())
    return assembled, tuple(kernels), MemoryReport(arena.nbytes, arena.lower_bound, arena.total, 0, intervals)


def _runs(program: Program, number: dict[Buffer, int]) -> list[tuple[int, int] | HostCall]:
    out: list[tuple[int, int] | HostCall] = []
    native = 0
    for step in program.steps:
        if isinstance(step, HostStep):
            inputs = tuple(number[b] if isinstance(b, Buffer) else b for b in step.inputs)
            out.append(HostCall(step.node, inputs, tuple(number[b] for b in step.outputs)))
        else:
            run = out[-1] if out else None
            if isinstance(run, tuple):
                out[-1] = run[0], run[1] + 1
            else:
                out.append((native, 1))
            native += 1
    return out
