"""A lowered model: steps over buffers, and its assembled form, a flat table of addresses.

Lowering emits `Step`s whose arguments are ints, `Ref`s into buffers and `Kernel`s. Assembling plans the arena from the
steps themselves (a buffer lives from the first step that names it to the last) and turns every argument into an int64.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from backends.cpu.toolchain import Kernel

if TYPE_CHECKING:
    from graphc.graph import Node
    from graphc.report import StepInfo

ALIGNMENT = 64
LINE = ALIGNMENT // 8  # words of a cache line


@dataclass(frozen=True, eq=False)
class Buffer:
    """A piece of memory. kind: 'arena' (planned), 'scratch' (one step only, planned too), 'extern' (an input or a result
    that the caller owns, or a value of a host step) or 'const' (`data`)."""

    name: str
    nbytes: int
    kind: str = "arena"
    data: np.ndarray | None = None


@dataclass(frozen=True)
class Ref:
    """An address: `offset` bytes into a buffer."""

    buffer: Buffer
    offset: int = 0

    def __add__(self, nbytes: int) -> Ref:
        return Ref(self.buffer, self.offset + nbytes)


@dataclass(frozen=True, eq=False)
class Step:
    """One call of a driver: its argument block, and what a person wants to know of it.

    check: for a driver that reads positions from data. The last words of its block are two for each thread, zero, into
    which it writes the first position out of range: 1 + its number among the positions, and its value. check(number,
    value) is the error to raise for it after the run.
    """

    kernel: Kernel
    args: tuple[int | Ref | Kernel, ...]
    info: StepInfo
    check: Callable[[int, int], Exception] | None = None

    def buffers(self) -> list[Buffer]:
        return list(dict.fromkeys(a.buffer for a in self.args if isinstance(a, Ref)))


@dataclass(frozen=True, eq=False)
class HostStep:
    """A node that runs in Python through its reference; its operands and results are 'extern' buffers or constants."""

    node: Node
    inputs: tuple[Buffer | np.ndarray | None, ...]
    outputs: tuple[Buffer, ...]
    info: StepInfo

    def buffers(self) -> list[Buffer]:
        return list(dict.fromkeys(b for b in (*self.inputs, *self.outputs) if isinstance(b, Buffer)))


@dataclass
class Program:
    """Steps in order, with the buffers that the caller provides."""

    steps: list[Step | HostStep] = field(default_factory=list)
    inputs: dict[str, Buffer] = field(default_factory=dict)
    outputs: dict[str, Buffer | np.ndarray] = field(default_factory=dict)

    def kernels(self) -> list[Kernel]:
        """Every native function that the program calls."""
        found: dict[Kernel, None] = {}
        for s in self.steps:
            if isinstance(s, Step):
                found[s.kernel] = None
                found.update((a, None) for a in s.args if isinstance(a, Kernel))
        return list(found)


def aligned_empty(nbytes: int) -> np.ndarray:
    """Uninitialised (zero at first touch) bytes on a page boundary, in huge pages where the system has them."""
    if nbytes < 1 << 21:
        raw = np.zeros(nbytes + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + nbytes]
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)


class Assembled:
    """A program with its arena planned, as templates from which instances are made."""

    def __init__(self, program: Program, addresses: dict[Kernel, int], threads: int = 1) -> None:
        from graphc.memory import Buffer as Interval
        from graphc.memory import plan

        self.program = program
        live: dict[Buffer, list[int]] = {}
        for i, step in enumerate(program.steps):
            for b in step.buffers():
                if b.kind in ("arena", "scratch"):
                    live.setdefault(b, [i, i])[1] = i
        self.intervals = [Interval(b.name, b.nbytes, first, last) for b, (first, last) in live.items()]
        self.arena = plan(self.intervals, ALIGNMENT)
        offsets = dict(zip(live, self.arena.offsets))

        self.externs: list[Buffer] = list(dict.fromkeys(
            [*program.inputs.values(), *(b for b in program.outputs.values() if isinstance(b, Buffer))]
            + [b for s in program.steps for b in s.buffers() if b.kind == "extern"]
        ))  # fmt: skip
        number = {b: i for i, b in enumerate(self.externs)}

        table: list[int] = []
        self.blocks: list[tuple[int, int]] = []  # (driver address, index of the first argument), native steps only
        self.checks: list[tuple[slice, Callable[[int, int], Exception]]] = []  # words of reports, and what they mean
        arena_at, arena_offset = [], []
        extern_at: list[list[int]] = [[] for _ in self.externs]
        extern_offset: list[list[int]] = [[] for _ in self.externs]
        for step in program.steps:
            if isinstance(step, HostStep):
                continue
            table += [0] * (-len(table) % LINE + LINE)  # the counter of the threads' turns: see drivers/work.py
            self.blocks.append((addresses[step.kernel], len(table)))
            for a in step.args:
                if isinstance(a, Ref):
                    b = a.buffer
                    if b.kind == "const":
                        table.append(b.data.ctypes.data + a.offset)
                        continue
                    if b.kind == "extern":
                        extern_at[number[b]].append(len(table))
                        extern_offset[number[b]].append(a.offset)
                    else:
                        arena_at.append(len(table))
                        arena_offset.append(offsets[b] + a.offset)
                    table.append(0)
                else:
                    table.append(addresses[a] if isinstance(a, Kernel) else int(a))
            if step.check is not None:
                self.checks.append((slice(len(table) - 2 * threads, len(table)), step.check))
        self.table = np.array(table, np.int64)
        self.arena_relocations = np.array(arena_at, np.intp), np.array(arena_offset, np.int64)
        self.extern_relocations = [
            (np.array(at, np.intp), np.array(off, np.int64)) for at, off in zip(extern_at, extern_offset)
        ]
        self.segments = self._segments()

    def _segments(self) -> list[tuple[int, int] | HostStep]:
        """Runs of native steps as (first, count), with the host steps between them."""
        out: list[tuple[int, int] | HostStep] = []
        native = 0
        for step in self.program.steps:
            if isinstance(step, HostStep):
                out.append(step)
            else:
                if out and isinstance(out[-1], tuple):
                    out[-1] = (out[-1][0], out[-1][1] + 1)
                else:
                    out.append((native, 1))
                native += 1
        return out


class Instance:
    """Memory and addresses for one run at a time of an assembled program.

    `staged`: arrays of its own for the small externs that `stage` names. Copying a few values in and out is cheaper than
    asking NumPy for the address of an array and pointing the program there.
    """

    def __init__(self, assembled: Assembled, stage: Sequence[int] = ()) -> None:
        self.assembled = assembled
        self.table = aligned_empty(assembled.table.nbytes).view(np.int64)
        self.table[:] = assembled.table
        self._arena = aligned_empty(max(assembled.arena.nbytes, 1))
        at, offset = assembled.arena_relocations
        self.table[at] = offset + self._arena.ctypes.data
        base = self.table.ctypes.data
        self.steps = np.array([(fn, base + 8 * start) for fn, start in assembled.blocks], np.int64).reshape(-1, 2)
        self._steps_address = self.steps.ctypes.data
        self._bound = [0] * len(assembled.externs)
        self.staged: list[np.ndarray | None] = [None] * len(assembled.externs)
        for index in stage:
            buffer = assembled.externs[index]
            self.staged[index] = np.empty(buffer.shape, buffer.dtype)
            self.bind(index, self.staged[index].ctypes.data)

    def bind(self, index: int, address: int) -> None:
        """Point extern buffer `index` at memory."""
        if self._bound[index] != address:
            at, offset = self.assembled.extern_relocations[index]
            if len(at) == 1:
                self.table[at[0]] = address + int(offset[0])
            elif len(at):
                self.table[at] = offset + address
            self._bound[index] = address

    def run(self, execute: Callable[[int, int], None], host: Callable[[HostStep], None]) -> None:
        for segment in self.assembled.segments:
            if isinstance(segment, tuple):
                execute(self._steps_address + 16 * segment[0], segment[1])
            else:
                host(segment)

    def failure(self) -> Exception | None:
        """The error for the first position out of range that a driver has met since the last call."""
        found = None
        for words, error in self.assembled.checks:
            reports = self.table[words].reshape(-1, 2)
            bad = reports[reports[:, 0] > 0]
            if len(bad):
                number, value = bad[bad[:, 0].argmin()]
                found = found or error(int(number) - 1, int(value))
                self.table[words] = 0
        return found

    def step_addresses(self) -> Sequence[int]:
        """Address of each native step's table entry (for profiling one at a time)."""
        return [self._steps_address + 16 * i for i in range(len(self.steps))]
