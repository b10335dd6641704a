"""A lowered model: steps over buffers, and how they are assembled (see assembled.py).

Lowering emits `Step`s whose arguments are ints, `Ref`s into buffers and `Kernel`s. Assembling plans the arena from the
steps themselves (a buffer lives from the first step that names it to the last) and turns every argument into an int64,
or into the note which address belongs there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphc.classes import Many
from graphc.lower.aligned import ALIGNMENT
from graphc.lower.assembled import Assembled, Extern, HostCall, JumpCall, Part, Slots
from graphc.lower.binder import Binder, variants
from graphc.lower.checks import Check
from graphc.lower.kernel import Kernel, Variants, one_of
from graphc.lower.registers import Register
from graphc.lower.storage import Buffer, ExternBuffer, Place, Ref, Storage
from graphc.sizes import hint_of, is_size

if TYPE_CHECKING:
    from graphc.graph import Node
    from graphc.report import MemoryReport, StepInfo


Word = int | Ref | Kernel | Variants  # of an argument block


@dataclass(frozen=True, eq=False)
class Step:
    """One call of a kernel: its argument block, and what a person wants to know of it.

    writes: buffers that it changes, its scratch memory among them. reads: buffers whose contents it depends on. A buffer that
    several values share (a concatenation and its parts) may be both.
    check: for a kernel that reads positions from data. The last words of its block are pairs, zero, into which it writes
    the first position out of range: 1 + its index among the positions, and its value. check(index, value) is the error
    to raise for it after the run.
    choice: the kernels among which sizes choose, where these are several; then `kernel` is that of the example.
    """

    kernel: Kernel
    args: tuple[Word, ...]
    info: StepInfo
    writes: tuple[Buffer, ...]
    reads: tuple[Buffer, ...]
    check: Check | None = None
    choice: Variants | None = None

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


@dataclass(frozen=True, eq=False)
class Jump:
    """Go on behind so many further steps, or that many back.

    condition: where the byte is that must be `when` (0 or 1), or None for always. times: with no condition, so often; the next time
    the program goes on here, and counts anew. holds: of a jump backwards, buffers whose contents come from before what is
    repeated, or outlast one turn of it.
    """

    distance: int
    info: StepInfo
    condition: Ref | None = None
    when: int = 1
    times: int = 0
    holds: tuple[Buffer, ...] = ()
    writes: ClassVar[tuple[Buffer, ...]] = ()

    @property
    def reads(self) -> tuple[Buffer, ...]:
        return () if self.condition is None else (self.condition.buffer,)

    def buffers(self) -> list[Buffer]:
        return list(dict.fromkeys((*self.reads, *self.holds)))


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

    steps: list[Step | HostStep | Jump] = field(default_factory=list)
    inputs: list[ExternBuffer] = field(default_factory=list)
    outputs: list[ExternBuffer | np.ndarray] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)


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


def lives(steps: Sequence[Step | HostStep | Jump], outside: Collection[Buffer] = ()) -> dict[Buffer, tuple[int, int]]:
    """The first and the last step that names each buffer of the arena, but those from outside."""
    found: dict[Buffer, tuple[int, int]] = {}
    for i, step in enumerate(steps):
        for b in step.buffers():
            if b.kind in ("arena", "scratch") and b not in outside:
                found[b] = found.get(b, (i, i))[0], i
        if isinstance(step, Jump):
            for b in step.holds:
                if b in found:
                    found[b] = min(found[b][0], i + 1 + step.distance), i
    return found


class _Table:
    """The argument blocks of native steps, one after the other, and which address goes into which word."""

    def __init__(
        self, form: Form, arena: Mapping[Buffer, int], externs: Mapping[Buffer, int], binder: Binder | None
    ) -> None:
        """arena: offsets. externs: their indices. binder: of a program for many sizes; it knows the arena then."""
        self.form, self.arena, self.externs, self.binder = form, arena, externs, binder
        self.words: list[int] = []
        self.blocks: list[tuple[int, int, int]] = []
        self.checks: list[tuple[slice, Check]] = []
        self.jumps: dict[Jump, tuple[int | None, tuple[int, ...]]] = {}  # words of the condition and of reports
        self.starts: list[int] = []  # of each step so far, how many checks were before it
        self.kernels: dict[Kernel, int] = {}
        self.constants: dict[Buffer, int] = {}
        self.slots: dict[str, list[tuple[int, int, int]]] = {
            kind: [] for kind in ("kernel", "const", "arena", "extern")
        }

    def add(self, step: Step) -> None:
        line, words = self.form.line, self.words
        if line:
            words += [0] * (-len(words) % line + line)
        cost = self.form.cost(step.info)
        self.blocks.append((self._kernel(step.kernel), len(words), hint_of(cost)))
        if self.binder is not None:
            self.binder.cost(cost)
            if step.choice is not None:
                self.binder.kernel(len(self.blocks) - 1, step.choice.index, [*map(self._kernel, step.choice.kernels)])
        for a in step.args:
            if type(a) is int:  # most are
                words.append(a)
                continue
            words.append(int(a) if not isinstance(a, (Kernel, Ref, Variants)) and not is_size(a) else 0)
            if isinstance(a, Kernel):
                self.slots["kernel"].append((len(words) - 1, self._kernel(a), 0))
            elif isinstance(a, Ref):
                self._address(a)
            elif self.binder is not None and isinstance(a, Variants):
                self.binder.choice(len(words) - 1, a.index, [self._kernel(k) for k in a.kernels])
            elif self.binder is not None and is_size(a):
                self.binder.word(len(words) - 1, a)
        if step.check is not None:
            self.checks.append((slice(len(words) - self.form.check_words, len(words)), step.check))

    def add_jump(self, jump: Jump) -> None:
        word = None
        if jump.condition is not None:
            word = len(self.words)
            self.words.append(0)
            self._address(jump.condition)
        over = self.checks[self.starts[len(self.starts) + jump.distance] :] if jump.distance < 0 else []
        self.jumps[jump] = word, tuple(where.start for where, _ in over)

    def _kernel(self, kernel: Kernel) -> int:
        return self.kernels.setdefault(kernel, len(self.kernels))

    def _address(self, ref: Ref) -> None:
        """Note that the last word is an address."""
        at, b, binder = len(self.words) - 1, ref.buffer, self.binder
        if b.kind in ("const", "extern"):
            known = self.constants if b.kind == "const" else self.externs
            index = self.constants.setdefault(b, len(self.constants)) if b.kind == "const" else self.externs[b]
            self.slots[b.kind].append((at, index, hint_of(ref.offset)))
            if binder is not None and is_size(ref.offset):
                binder.offset("constants" if known is self.constants else "externs", at, index, ref.offset)
        elif binder is not None:
            binder.place(at, b, ref.offset)
        else:
            self.slots["arena"].append((at, 0, self.arena[b] + ref.offset))


def assemble(
    program: Program, form: Form, place_of: Callable[[Buffer], Place], many: Many | None = None
) -> tuple[Assembled, tuple[Kernel, ...], MemoryReport, Binder | None]:
    """Plan the arena and lay out the table. Also the kernels by index, and the bytes.

    many: of a program for many sizes. No question may come after this one; the binder takes what reports need.
    """
    from graphc.lower.memory import Lifetime, plan
    from graphc.report import Interval, MemoryReport

    live = lives(program.steps)
    steps_of = program.steps
    binder, offsets = None, {}
    if many is not None:
        steps_of = [replace(s, args=tuple(map(_chosen, s.args))) if isinstance(s, Step) else s for s in steps_of]
        binder = Binder(many, live, form.reuse)
    arena = plan(
        [Lifetime(b.name, hint_of(b.nbytes), *steps) for b, steps in live.items()], ALIGNMENT, reuse=form.reuse
    )
    offsets = dict(zip(live, arena.offsets))
    externs = dict.fromkeys(
        [*program.inputs, *(b for b in program.outputs if isinstance(b, ExternBuffer))]
        + [b for s in program.steps for b in s.buffers() if isinstance(b, ExternBuffer)]
    )
    indices: dict[Buffer, int] = {b: i for i, b in enumerate(externs)}
    table = _Table(form, offsets, indices, binder)
    for step in steps_of:
        table.starts.append(len(table.checks))
        if isinstance(step, Step):
            table.add(step)
        elif isinstance(step, Jump):
            table.add_jump(step)
    places = [place_of(b) for b in table.constants]
    assembled = Assembled(
        words=np.array(table.words, np.int64),
        blocks=np.array(table.blocks, np.int64).reshape(-1, 3),
        arena=arena.nbytes,
        constants=tuple(places),
        externs=tuple(Extern(b.name, b.shape, b.dtype) for b in externs),
        kernel_slots=Slots.of(table.slots["kernel"]),
        constant_slots=Slots.of(table.slots["const"]),
        arena_slots=Slots.of(table.slots["arena"]),
        extern_slots=Slots.of(table.slots["extern"]),
        inputs=tuple(indices[b] for b in program.inputs),
        outputs=tuple(indices[b] if isinstance(b, Buffer) else b for b in program.outputs),
        checks=tuple(table.checks),
        runs=tuple(_runs(program, indices, table.jumps)),
    )
    starts: Mapping[Buffer, Any] = offsets if binder is None else {b: Register(r) for b, r in binder.starts.items()}
    intervals = tuple(Interval(b.name, starts[b], b.nbytes, *steps) for b, steps in live.items())
    by_type = _by_type(dict(zip(places, table.constants)).values())
    weights = sum(nbytes for _, nbytes in by_type)
    memory = MemoryReport(arena.nbytes, arena.lower_bound, arena.total, weights, intervals, by_type)
    return assembled, tuple(table.kernels), memory, binder


def _by_type(constants: Iterable[Buffer]) -> tuple[tuple[str, int], ...]:
    """Bytes of each element type, most first."""
    found: dict[str, int] = {}
    for b in constants:
        found[b.element.name] = found.get(b.element.name, 0) + hint_of(b.nbytes)
    return tuple(sorted(found.items(), key=lambda pair: -pair[1]))


def _chosen(word: Any) -> Any:
    if not isinstance(word, Kernel):
        return word
    index, kernels = variants(word)
    return one_of(index, kernels)


def _runs(
    program: Program, indices: Mapping[Buffer, int], found: Mapping[Jump, tuple[int | None, tuple[int, ...]]]
) -> list[Part]:
    out: list[Part] = []
    targets = {i + 1 + s.distance: -1 for i, s in enumerate(program.steps) if isinstance(s, Jump)}
    jumps: dict[int, int] = {}  # where each one goes, by its number among the runs
    native = 0
    for i, step in enumerate(program.steps):
        if i in targets:
            targets[i] = len(out)
        if isinstance(step, HostStep):
            inputs = tuple(indices[b] if isinstance(b, Buffer) else b for b in step.inputs)
            out.append(HostCall(step.node, inputs, tuple(indices[b] for b in step.outputs)))
        elif isinstance(step, Jump):
            jumps[len(out)] = i + 1 + step.distance
            word, reports = found[step]
            out.append(JumpCall(word, step.when, step.times, 0, reports))
        else:
            run = out[-1] if out else None
            if isinstance(run, tuple) and i not in targets:
                out[-1] = run[0], run[1] + 1
            else:
                out.append((native, 1))
            native += 1
    for number, target in jumps.items():
        jump = out[number]
        assert isinstance(jump, JumpCall)
        out[number] = replace(jump, to=targets[target] if target < len(program.steps) else len(out))
    return out
