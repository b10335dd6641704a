"""Programs for the GPU on the CPU: the table of argument blocks in host memory, each launch in the emulator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from graphc.backends.cuda.codegen.build import emulated
from graphc.backends.cuda.runtime.bound import Bindings
from graphc.interpret import run_node
from graphc.lower.program import HostCall
from graphc.lower.storage import aligned_empty

if TYPE_CHECKING:
    from graphc.lower.kernel import Kernel
    from graphc.lower.plans import CompiledPlan

WORD = 8


class EmulatedRun:
    """Runs a plan: arrays in order to results in order. kernels: by index; those that sizes choose are made when they do."""

    def __init__(
        self,
        plan: CompiledPlan,
        kernels: Sequence[Kernel],
        bindings: Bindings,
        arch: tuple[int, int],
        cache: bool = True,
    ) -> None:
        self._table, self._bindings = plan.assembled, bindings
        self._kernels, self._arch, self._cache = kernels, arch, cache
        for kernel in dict.fromkeys(kernels[i] for i in plan.assembled.blocks[:, 0].tolist()):
            emulated(kernel, arch, cache=cache)

    def __call__(
        self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None
    ) -> list[np.ndarray]:
        t, bound = self._table, self._bindings.of(arrays)
        externs: list[np.ndarray] = [np.zeros(0)] * len(t.externs)
        for i, array in zip(t.inputs, arrays):
            externs[i] = array if array.flags.c_contiguous else array.copy()  # which keeps a scalar one
        for where, given in zip(t.outputs, out or ()):
            if given is not None and isinstance(where, int) and given.flags.c_contiguous:
                externs[where] = given
        for i, e in enumerate(bound.shapes):
            if i not in t.inputs and externs[i].size == 0:
                externs[i] = np.empty(e.shape, e.dtype)
        arena, words = aligned_empty(bound.nbytes), bound.words.copy()
        for slots, addresses in (
            (bound.constants, [c.address for c in t.constants]),
            (bound.arena, [arena.ctypes.data]),
            (bound.externs, [e.ctypes.data for e in externs]),
        ):
            for at, what, offset in zip(*slots):
                words[at] = addresses[what] + offset
        for run in bound.runs:
            if isinstance(run, HostCall):
                operands = [externs[i] if isinstance(i, int) else i for i in run.inputs]
                for i, result in zip(run.outputs, run_node(run.node, operands)):
                    externs[i][...] = result
                continue
            for index, first, grid in bound.launches[run[0] : sum(run)].tolist():
                if grid > 0:
                    code = emulated(self._kernels[index], self._arch, cache=self._cache)
                    code.launch(grid, words.ctypes.data + WORD * first)
        for at, check in bound.checks:
            if words[at][0]:
                raise check(int(words[at][0]) - 1, int(words[at][1]))
        results = [externs[i] if isinstance(i, int) else i.copy() for i in t.outputs]
        for k, given in enumerate(out or ()):
            if given is not None and results[k] is not given:
                given[...] = results[k]
                results[k] = given
        return results
