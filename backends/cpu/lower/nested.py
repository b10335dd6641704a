"""Emission of steps that run a program of their own: see drivers/nested.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from graphc.backends.cpu.blocks import NESTED_HEAD
from graphc.backends.cpu.lower.core import Lowering
from graphc.backends.cpu.program import ALIGNMENT, Buffer, Ref, Step
from graphc.backends.cpu.toolchain import Kernel
from graphc.memory import Buffer as Lifetime
from graphc.memory import plan
from graphc.report import StepInfo

WORD = 8


@dataclass(frozen=True)
class Outside:
    """What an inner program calls a buffer is memory of the outer one, `stride` bytes further with each image."""

    ref: Ref
    stride: int


def emit_unrolled(
    lo: Lowering, steps: Sequence[Step], images: range, outside: Mapping[Buffer, Outside], name: str
) -> None:
    """The steps for one image after the other, each of them shared by the threads. `outside`: as in `emit_nested`."""
    offsets, nbytes = _memory(steps, outside)
    memory = Ref(Buffer(f"{name}/image", nbytes))

    def moved(word: int | Ref | Kernel, image: int) -> int | Ref | Kernel:
        if not isinstance(word, Ref):
            return word
        if word.buffer in outside:
            there = outside[word.buffer]
            return there.ref + (word.offset + image * there.stride)
        return memory + (offsets[word.buffer] + word.offset) if word.buffer in offsets else word

    for image in images:
        for step in steps:
            lo.emit(step.kernel, [moved(word, image) for word in step.args], step.info)


def emit_nested(
    lo: Lowering,
    steps: Sequence[Step],
    images: int,
    outside: Mapping[Buffer, Outside],
    info: StepInfo,
) -> None:
    """A step that runs `steps` for each image, in any order; every thread takes whole images.

    The steps were lowered for one thread, and values of theirs do not outlive an image. outside: buffers of the steps that
    are not theirs.
    """
    offsets, nbytes = _memory(steps, outside)
    words: list[int | Ref | Kernel] = []
    rows: list[int | Kernel] = []
    shifts: list[int] = []
    starts = []
    for step in steps:
        words += [0] * (-len(words) % (ALIGNMENT // WORD))
        starts.append(len(words))
        words += step.args
    memory_at = -(-len(words) * WORD // ALIGNMENT) * ALIGNMENT
    scratch, stride = lo.scratch(info.output, memory_at + nbytes)
    for at, word in enumerate(words):
        if not isinstance(word, Ref):
            continue
        if word.buffer in outside:
            there = outside[word.buffer]
            words[at] = there.ref + word.offset
            if there.stride:
                shifts += [at, there.stride, 0]
        elif word.buffer in offsets:
            words[at] = scratch + memory_at + offsets[word.buffer] + word.offset
            shifts += [at, 0, 1]
    for step, start in zip(steps, starts):
        rows += [step.kernel, start]
    shifts_at = NESTED_HEAD + len(rows)
    words_at = shifts_at + len(shifts)
    head = [images, len(steps), len(shifts) // 3, len(words), scratch, stride, NESTED_HEAD, shifts_at, words_at]
    inside = tuple((s.info.label, s.info.kernel, s.info.algorithm, s.info.reason, s.info.flops) for s in steps)
    lo.emit(Kernel("nested"), [*head, *rows, *shifts, *words], replace(info, inside=inside))


def _memory(steps: Sequence[Step], outside: Mapping[Buffer, Outside]) -> tuple[dict[Buffer, int], int]:
    """Offsets of the buffers that live inside, and the bytes of all."""
    live: dict[Buffer, list[int]] = {}
    for i, step in enumerate(steps):
        for b in step.buffers():
            if b.kind in ("arena", "scratch") and b not in outside:
                live.setdefault(b, [i, i])[1] = i
    arena = plan([Lifetime(b.name, b.nbytes, first, last) for b, (first, last) in live.items()], ALIGNMENT)
    return dict(zip(live, arena.offsets)), arena.nbytes
