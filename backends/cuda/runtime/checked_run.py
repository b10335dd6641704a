"""Checked runs of programs in the emulator: every buffer is memory of its own, and a kernel may touch only what its step
names, and write only what its step says it writes."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import string_at
from typing import TYPE_CHECKING

import numpy as np

from graphc.backends.cuda.codegen.arch import Arch
from graphc.backends.cuda.codegen.build import emulated
from graphc.backends.cuda.emulator import Range
from graphc.backends.cuda.runtime.turns import Turns
from graphc.errors import UnsupportedError
from graphc.interpret import run_node
from graphc.lower.aligned import ALIGNMENT
from graphc.lower.program import HostStep, Jump, Step
from graphc.lower.storage import Buffer, ExternBuffer, Ref

if TYPE_CHECKING:
    from graphc.backends.cuda.stages import Draft
    from graphc.lower.program import Word

GUARD = 4096  # bytes around each buffer that are nobody's
FILL = 0xFF  # NaN in every float format


class CheckedRun:
    """Runs the program of a draft in the emulator: arrays in order to results in order."""

    def __init__(self, d: Draft, arch: Arch, cache: bool = True) -> None:
        self._program = d.lowering.program
        native = [s for s in self._program.steps if isinstance(s, Step)]
        self._kernels = {k: emulated(k, arch, True, cache) for k in dict.fromkeys(s.kernel for s in native)}
        constants = dict.fromkeys(b for s in native for b in s.buffers() if b.kind == "const")
        self._constants = _Memory({})
        for b in constants:
            place = d.weights.place_of(b)  # which may own the memory
            self._constants.put(b, string_at(place.address, b.nbytes))

    def run(
        self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None, stream: object = None
    ) -> list[np.ndarray]:
        memory = _Memory(self._constants.held)
        for b, array in zip(self._program.inputs, arrays):
            memory.array(b)[...] = array
        steps, at, turns = self._program.steps, 0, Turns()
        while at < len(steps):
            step = steps[at]
            at += 1
            if isinstance(step, Jump):
                if memory.flag(step.condition) == bool(step.when) if step.condition else turns.go_on(step):
                    at += step.distance
                continue
            if isinstance(step, HostStep):
                operands = [memory.array(i) if isinstance(i, ExternBuffer) else i for i in step.inputs]
                for to, result in zip(step.outputs, run_node(step.node, operands)):
                    memory.array(to)[...] = result
                continue
            words = np.array([memory.word(a) for a in step.args], np.int64)
            if words[0] > 0:
                ranges = memory.ranges(step, words)
                self._kernels[step.kernel].launch(int(words[0]), words.ctypes.data, ranges)
            if step.check is not None and words[-2]:
                raise step.check(int(words[-2]) - 1, int(words[-1]))
        results = [memory.array(o) if isinstance(o, ExternBuffer) else o.copy() for o in self._program.outputs]
        for k, given in enumerate(out or ()):
            if given is not None:
                given[...] = results[k]
                results[k] = given
        return results

    def measure(self, arrays: Sequence[np.ndarray], rounds: int) -> list[float]:
        raise UnsupportedError("runs that are watched have no profile", hint="unset GRAPHC_CHECK")


class _Memory:
    """Buffers, each with its bytes; those of `held` are there already."""

    def __init__(self, held: dict[Buffer, np.ndarray]) -> None:
        self.held = dict(held)

    def _bytes(self, b: Buffer) -> np.ndarray:
        if b not in self.held:
            raw = np.full(b.nbytes + 2 * GUARD + ALIGNMENT, FILL, np.uint8)
            first = GUARD + -(raw.ctypes.data + GUARD) % ALIGNMENT
            self.held[b] = raw[first : first + b.nbytes]
        return self.held[b]

    def put(self, b: Buffer, data: bytes) -> None:
        self._bytes(b)[...] = np.frombuffer(data, np.uint8)

    def array(self, b: ExternBuffer) -> np.ndarray:
        return self._bytes(b).view(b.dtype).reshape(b.shape)

    def address(self, b: Buffer) -> int:
        return int(self._bytes(b).ctypes.data)

    def word(self, a: Word) -> int:
        return self.address(a.buffer) + a.offset if isinstance(a, Ref) else int(a)  # type: ignore[arg-type]

    def flag(self, r: Ref) -> bool:
        """The byte there."""
        return bool(self._bytes(r.buffer)[r.offset])

    def ranges(self, step: Step, words: np.ndarray) -> list[Range]:
        """What the step's kernel may touch."""
        first = words.ctypes.data
        found = [Range(first, first + words.nbytes, 8, "the argument block", step.check is not None)]
        for b in step.buffers():
            if b.nbytes:
                first = self.address(b)
                found.append(Range(first, first + b.nbytes, 1, b.name, b in step.writes))
        return found
