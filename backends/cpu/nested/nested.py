"""Emission of steps that run a program of their own: see nested/nested_driver.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.nested.nested_block import INNER_STEP, NESTED, SHIFT
from graphc.backends.cpu.sizes import lines
from graphc.lower.kernel import Kernel
from graphc.lower.memory import Lifetime, plan
from graphc.lower.program import Made, Program, lives
from graphc.lower.storage import ALIGNMENT, Buffer, Ref
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
        places = {b: memory + at for b, at in offsets.items()}

    def moved(word: int | Ref | Kernel, sample: int) -> int | Ref | Kernel:
        if not isinstance(word, Ref):
            return word
        if word.buffer in outside:
            there = outside[word.buffer]
            return there.ref + (word.offset + sample * there.stride)
        return places[word.buffer] + word.offset if word.buffer in places else word

    for sample in samples:
        if lo.checked:  # each buffer by itself, and new for each sample
            places = {b: Ref(replace(b)) for b in lives(inner.steps, outside)}
        before = len(lo.program.steps)
        for step in inner.steps:
            lo.emit(step.kernel, [moved(word, sample) for word in step.args], step.info)
        for m in inner.made:
            there = replace(m.storage, ref=moved(m.storage.ref, sample))
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
    words: list[int | Ref | Kernel] = []
    rows: list[int | Kernel] = []
    shifts: list[int] = []
    starts = []
    for step in inner.steps:
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
    for step, start in zip(inner.steps, starts):
        rows += INNER_STEP(driver=step.kernel, block=start)
    shifts_at = NESTED.size + len(rows)
    head = NESTED(
        samples=samples, steps=len(inner.steps), shifts=len(shifts) // SHIFT.size, words=len(words), scratch=scratch,
        stride=stride, steps_at=NESTED.size, shifts_at=shifts_at, words_at=shifts_at + len(shifts),
    )  # fmt: skip
    inside = tuple((s.info.label, s.info.kernel, s.info.algorithm, s.info.reason, s.info.flops) for s in inner.steps)
    lo.emit(Kernel("nested"), [*head, *rows, *shifts, *words], replace(info, inside=inside))
    for m in inner.made:
        at = places.get(m.storage.ref.buffer)
        for mine in [scratch + thread * stride for thread in range(lo.threads)] if at is not None else []:
            there = replace(m.storage, ref=mine + at + m.storage.ref.offset)
            lo.program.made.append(Made(len(lo.program.steps), m.name, there, mine))


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
