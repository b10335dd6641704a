"""Programs that are compiled for a GPU which is not here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from graphc.backends.cuda.codegen.cubin import Cubin, cubin_of
from graphc.errors import UnsupportedError
from graphc.lower.program import Step

if TYPE_CHECKING:
    from graphc.backend import Progress
    from graphc.backends.cuda.stages import Draft
    from graphc.lower.kernel import Kernel
    from graphc.report import StepInfo


class AheadRun:
    """The cubins of a program's kernels, which are kept on disk. It does not run."""

    def __init__(
        self, d: Draft, infos: Sequence[StepInfo], arch: tuple[int, int], cache: bool, progress: Progress | None
    ) -> None:
        """infos: of the steps."""
        self.cubins: dict[Kernel, Cubin] = {}
        for i, kernel in enumerate(d.kernels):
            if progress:
                progress("compiling", i, len(d.kernels))
            self.cubins[kernel] = cubin_of(kernel, arch, cache)
        if progress:
            progress("compiling", len(d.kernels), len(d.kernels))
        self.steps: tuple[StepInfo, ...] = tuple(
            replace(info, reason=self._described(s, info.reason)) if isinstance(s, Step) else info
            for s, info in zip(d.lowering.program.steps, infos)
        )

    def _described(self, step: Step, reason: str) -> str:
        c = self.cubins[step.kernel]
        what = f"{c.registers} registers" + (f", {c.spilled} bytes spilled" if c.spilled else "")
        return "; ".join(filter(None, [reason, what]))

    def __call__(
        self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None
    ) -> list[np.ndarray]:
        raise UnsupportedError(
            "it is compiled for a GPU, on which graphc does not run programs yet",
            hint="target='cuda:emulate' runs the same kernels on the CPU",
        )
