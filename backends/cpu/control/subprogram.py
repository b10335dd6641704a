"""Programs as words of a step's argument block: see control/subprogram_njit.py."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from graphc.backends.cpu.control.subprogram_block import CHECK, SUBPROGRAM
from graphc.backends.cpu.costs import nanoseconds
from graphc.backends.cpu.executor.program_block import PROGRAM_STEP
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.runtime.run import SHARED_STEP
from graphc.backends.cpu.sizes import CACHE_LINE
from graphc.lower.aligned import ALIGNMENT
from graphc.lower.checks import Among, Check
from graphc.lower.memory import Lifetime, plan
from graphc.lower.program import Program, Step, Word, lives
from graphc.lower.storage import Buffer, Ref
from graphc.report import StepInfo, type_of
from graphc.sizes import hint_of, is_size

WORD = 8
LINE = CACHE_LINE // WORD
Row = tuple[str, str, str, str, int]  # of `StepInfo.inside`


@dataclass(eq=False)
class Memory:
    """Memory of a step's own: of buffers of programs that do not run at the same time."""

    buffer: Ref | None
    places: dict[Buffer, int] = field(default_factory=dict)

    def at(self, ref: Ref) -> Ref:
        if self.buffer is None or ref.buffer not in self.places:
            return ref
        return self.buffer + self.places[ref.buffer] + ref.offset


def memory_of(lo: CpuLowering, programs: Sequence[Program], outside: Collection[Buffer], name: str) -> Memory:
    """Of the programs' buffers but those from outside. For checked runs each is left by itself; where sizes stand for many, the
    outer plan gives each its place."""
    if lo.checked or any(is_size(b.nbytes) for p in programs for b in lives(p.steps, outside)):
        return Memory(None)
    places: dict[Buffer, int] = {}
    nbytes = 0
    for program in programs:
        live = lives(program.steps, outside)
        lifetimes = [Lifetime(b.name, b.nbytes, *steps) for b, steps in live.items()]
        arena = plan(lifetimes, ALIGNMENT, reuse=lo.policy.uses("arena_reuse"))
        places.update(zip(live, arena.offsets))
        nbytes = max(nbytes, arena.nbytes)
    return Memory(Ref(Buffer(f"{name}/values", nbytes, "scratch")), places)


@dataclass(eq=False)
class Subprogram:
    """A program's words: rows of the executor's table, then argument blocks. patches: (word, place), of words that are offsets
    from a place whose address changes. checks: of its steps, and the word of each one's reports."""

    steps: list[Step]
    words: list[Word]
    patches: list[tuple[int, int]]
    checks: list[tuple[int, Check]]

    @property
    def nbytes(self) -> int:
        return WORD * len(self.words)

    @property
    def team(self) -> bool:
        """Is a step worth the work of several threads?"""
        return any(worth_sharing(s.info) for s in self.steps)

    @property
    def flops(self) -> int:
        return sum(s.info.flops for s in self.steps)

    @property
    def moved(self) -> int:
        """Bytes, as `StepInfo.nbytes`."""
        return sum(s.info.nbytes for s in self.steps)

    @property
    def type(self) -> str:
        """As `StepInfo.type`."""
        return type_of(s.info for s in self.steps)

    @property
    def inside(self) -> tuple[Row, ...]:
        """For `StepInfo.inside`."""
        rows: list[Row] = []
        for s in self.steps:
            rows.append((s.info.label, s.info.kernel, s.info.algorithm, s.info.reason, s.info.flops))
            rows += [(f"  {label}", k, algorithm, why, flops) for label, k, algorithm, why, flops in s.info.inside]
        return tuple(rows)

    def records(self, lo: CpuLowering, first: int) -> list[int]:
        """Of its checks, the first of which has this number."""
        pairs = lo.check_words // 2
        return [w for i, (word, _) in enumerate(self.checks) for w in CHECK(word=word, pairs=pairs, number=first + i)]

    def head(self, copy: Ref, words_at: int, checks_at: int) -> list[Word]:
        return SUBPROGRAM(
            steps=len(self.steps), words=len(self.words), words_at=words_at, copy=copy, checks=len(self.checks),
            checks_at=checks_at,
        )  # fmt: skip


def worth_sharing(info: StepInfo) -> bool:
    return hint_of(nanoseconds(info)) >= SHARED_STEP


def subprogram(lo: CpuLowering, program: Program, memory: Memory, moving: Mapping[Buffer, int]) -> Subprogram:
    """moving: buffers whose address changes from run to run, and the number of its place."""
    steps = [s for s in program.steps if isinstance(s, Step)]
    assert len(steps) == len(program.steps)
    words: list[Word] = [0] * (PROGRAM_STEP.size * len(steps))
    patches: list[tuple[int, int]] = []
    checks: list[tuple[int, Check]] = []
    for i, step in enumerate(steps):
        words += [0] * (-len(words) % LINE + LINE)  # before each block is the counter of the threads' turns
        row = PROGRAM_STEP(driver=step.kernel, block=len(words), shared=int(worth_sharing(step.info)))
        words[PROGRAM_STEP.size * i : PROGRAM_STEP.size * (i + 1)] = row
        for word in step.args:
            if isinstance(word, Ref) and word.buffer in moving:
                patches.append((len(words), moving[word.buffer]))
                word = word.offset
            words.append(memory.at(word) if isinstance(word, Ref) else word)
        if step.check is not None:
            checks.append((len(words) - lo.check_words, step.check))
    return Subprogram(steps, words, patches, checks)


def among(programs: Sequence[Subprogram]) -> Check | None:
    """What a report of one of them means."""
    checks = tuple(check for p in programs for _, check in p.checks)
    return Among(checks) if checks else None


def touched(programs: Sequence[Program], outside: Collection[Buffer]) -> tuple[list[Ref], list[Ref]]:
    """What their steps write and what they read. Of buffers from outside only those are named that are written, or read."""
    writes = dict.fromkeys(b for p in programs for s in p.steps for b in s.writes)
    reads = dict.fromkeys(b for p in programs for s in p.steps for b in s.reads if b in outside and b not in writes)
    return [Ref(b) for b in writes], [Ref(b) for b in reads]
