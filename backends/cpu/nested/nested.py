"""Emission of steps that run a program of their own: see nested/nested_driver.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.nested.nested_block import INNER_STEP, NESTED, SHIFT, Nested
from graphc.backends.cpu.sizes import lines
from graphc.lower.aligned import ALIGNMENT
from graphc.lower.kernel import Kernel
from graphc.lower.memory import Lifetime, plan
from graphc.lower.program import Made, Program, Step, Word, lives
from graphc.lower.storage import Buffer, Ref
from graphc.report import StepInfo

WORD = 8


@dataclass(frozen=True)
class Outside:
    """What an inner program calls a buffer is memory of the outer one, `stride` bytes further with each sample."""

    ref: Ref
    stride: int


def emit_unrolled(
    lo: CpuLowering, inner: Program, samples: range, outside: Mapping[Buffer, Outside], name: str
) -> None:
    """The inner steps for one sample after the other, each of them shared by the threads. `outside`: as in `emit_nested`."""
    places: dict[Buffer, Ref] = {}
    if not lo.checked:
        offsets, nbytes = _planned(lo, inner, outside)
        memory = Ref(Buffer(f"{name}/sample", nbytes))
        places = {b: memory + offset for b, offset in offsets.items()}

    def at(ref: Ref, sample: int) -> Ref:
        if ref.buffer in outside:
            there = outside[ref.buffer]
            return there.ref + (ref.offset + sample * there.stride)
        return places[ref.buffer] + ref.offset if ref.buffer in places else ref

    def moved(word: Word, sample: int) -> Word:
        return at(word, sample) if isinstance(word, Ref) else word

    for sample in samples:
        if lo.checked:  # each buffer by itself, and new for each sample
            places = {b: Ref(replace(b)) for b in lives(inner.steps, outside)}
        before = len(lo.program.steps)
        for step in _native(inner):
            writes, reads = ([at(Ref(b), sample) for b in buffers] for buffers in (step.writes, step.reads))
            lo.emit(step.kernel, [moved(word, sample) for word in step.args], step.info, writes=writes, reads=reads)
        for m in inner.made:
            there = replace(m.storage, ref=at(m.storage.ref, sample))
            lo.program.made.append(replace(m, steps=before + m.steps, storage=there))


def emit_nested(
    lo: CpuLowering,
    inner: Program,
    samples: int,
    outside: Mapping[Buffer, Outside],
    info: StepInfo,
) -> None:
    """A step that runs the inner steps for each sample, in any order; every thread takes whole samples.

    The steps were lowered for one thread, and values of theirs do not outlive a sample. outside: buffers of the steps that
    are not theirs.
    """
    words: list[Word] = []
    rows: list[int | Kernel] = []
    shifts: list[int] = []
    starts = []
    for step in _native(inner):
        words += [0] * (-len(words) % (ALIGNMENT // WORD))
        starts.append(len(words))
        words += step.args
    scratch, stride, places = _scratch(lo, inner, outside, len(words) * WORD, info.output)
    for at, word in enumerate(words):
        if not isinstance(word, Ref):
            continue
        if word.buffer in outside:
            there = outside[word.buffer]
            words[at] = there.ref + word.offset
            if there.stride:
                shifts += SHIFT(word=at, per_sample=there.stride, in_scratch=0)
        elif word.buffer in places:
            words[at] = scratch + places[word.buffer] + word.offset
            shifts += SHIFT(word=at, per_sample=0, in_scratch=1)
    for step, start in zip(_native(inner), starts):
        rows += INNER_STEP(driver=step.kernel, block=start)
    shifts_at = NESTED.size + len(rows)
    head = NESTED(
        samples=samples, steps=len(inner.steps), shifts=len(shifts) // SHIFT.size, words=len(words), scratch=scratch,
        stride=stride, steps_at=NESTED.size, shifts_at=shifts_at, words_at=shifts_at + len(shifts),
    )  # fmt: skip
    inside = tuple((s.info.label, s.info.kernel, s.info.algorithm, s.info.reason, s.info.flops) for s in inner.steps)
    writes, reads = _around(inner, outside, places)
    lo.emit(Nested(), [*head, *rows, *shifts, *words], replace(info, inside=inside), writes=writes, reads=reads)
    for m in inner.made:
        ref = m.storage.ref
        if ref.buffer not in places:
            continue
        for mine in (scratch + thread * stride for thread in range(lo.threads)):
            storage = replace(m.storage, ref=mine + places[ref.buffer] + ref.offset)
            lo.program.made.append(Made(len(lo.program.steps), m.name, storage, mine))


def _native(inner: Program) -> list[Step]:
    """Its steps, none of which runs on the host."""
    steps = [s for s in inner.steps if isinstance(s, Step)]
    assert len(steps) == len(inner.steps)
    return steps


def _around(
    inner: Program, outside: Mapping[Buffer, Outside], places: Mapping[Buffer, int]
) -> tuple[list[Ref], list[Ref]]:
    """What the inner steps write of memory that is not their own, and what they read that none of them has written before:
    memory of their own only by mistake."""
    writes: dict[Buffer, None] = {}
    reads: dict[Buffer, None] = {}
    for step in inner.steps:
        reads |= dict.fromkeys(b for b in step.reads if b not in writes)
        writes |= dict.fromkeys(step.writes)

    def outer(b: Buffer) -> Ref:
        return outside[b].ref if b in outside else Ref(b)

    return [outer(b) for b in writes if b not in places], [outer(b) for b in reads]


def _scratch(
    lo: CpuLowering, inner: Program, outside: Mapping[Buffer, Outside], head: int, name: str
) -> tuple[Ref, int, dict[Buffer, int]]:
    """Memory of each thread: `head` bytes, then the inner buffers. Address, bytes from thread to thread, offsets."""
    if lo.checked:
        own = list(lives(inner.steps, outside))
        ref, stride, (_, *offsets) = lo.spread_scratch(name, [head, *(b.nbytes for b in own)])
        return ref, stride, dict(zip(own, offsets))
    start = lines(head)
    places, nbytes = _planned(lo, inner, outside)
    return *lo.scratch(name, start + nbytes), {b: start + at for b, at in places.items()}


def _planned(lo: CpuLowering, inner: Program, outside: Mapping[Buffer, Outside]) -> tuple[dict[Buffer, int], int]:
    """Offsets of the inner buffers, and the bytes of all."""
    live = lives(inner.steps, outside)
    lifetimes = [Lifetime(b.name, b.nbytes, *steps) for b, steps in live.items()]
    arena = plan(lifetimes, ALIGNMENT, reuse=lo.policy.uses("arena_reuse"))
    return dict(zip(live, arena.offsets)), arena.nbytes
