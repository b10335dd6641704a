"""Programs for the GPU on the CPU: the table of argument blocks in host memory, each launch in the emulator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from graphc.backends.cuda.codegen.arch import Arch
from graphc.backends.cuda.codegen.build import emulated
from graphc.interpret import run_node
from graphc.lower.program import HostCall
from graphc.lower.storage import aligned_empty

if TYPE_CHECKING:
    from graphc.backends.cuda.stages import Draft

WORD = 8


class EmulatedRun:
    """Runs the program of a draft: arrays in order to results in order."""

    def __init__(self, d: Draft, arch: Arch, cache: bool = True) -> None:
        self._table = d.assembled
        self._kernels = [emulated(k, arch, cache=cache) for k in d.kernels]

    def __call__(
        self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None
    ) -> list[np.ndarray]:
        t = self._table
        externs: list[np.ndarray] = [np.zeros(0)] * len(t.externs)
        for i, array in zip(t.inputs, arrays):
            externs[i] = array if array.flags.c_contiguous else array.copy()  # which keeps a scalar one
        for i, given in zip(t.outputs, out or ()):
            if given is not None and isinstance(i, int) and given.flags.c_contiguous:
                externs[i] = given
        for i, e in enumerate(t.externs):
            if i not in t.inputs and externs[i].size == 0:
                externs[i] = np.empty(e.shape, e.dtype)
        arena, words = aligned_empty(t.arena), t.words.copy()
        for slots, addresses in (
            (t.constant_slots, [c.address for c in t.constants]),
            (t.arena_slots, [arena.ctypes.data]),
            (t.extern_slots, [e.ctypes.data for e in externs]),
        ):
            for at, what, offset in zip(*slots):
                words[at] = addresses[what] + offset
        for run in t.runs:
            if isinstance(run, HostCall):
                operands = [externs[i] if isinstance(i, int) else i for i in run.inputs]
                for i, result in zip(run.outputs, run_node(run.node, operands)):
                    externs[i][...] = result
                continue
            for kernel, first, _ in t.blocks[run[0] : sum(run)].tolist():
                if words[first] > 0:
                    self._kernels[kernel].launch(int(words[first]), words.ctypes.data + WORD * first)
        for where, check in t.checks:
            if words[where][0]:
                raise check(int(words[where][0]) - 1, int(words[where][1]))
        results = [externs[i] if isinstance(i, int) else i.copy() for i in t.outputs]
        for k, given in enumerate(out or ()):
            if given is not None and results[k] is not given:
                given[...] = results[k]
                results[k] = given
        return results
