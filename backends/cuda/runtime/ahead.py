"""Programs that are compiled for a GPU which is not here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from graphc.errors import UnsupportedError
from graphc.lower.program import Step

if TYPE_CHECKING:
    from graphc.backends.cuda.codegen.cubin import Cubin
    from graphc.lower.kernel import Kernel
    from graphc.lower.program import Program
    from graphc.report import StepInfo


class AheadRun:
    """What stands where a program would run."""

    def run(self, arrays: Sequence[Any], out: Any = None, stream: Any = None) -> NoReturn:
        raise UnsupportedError(
            "it is compiled for a GPU, and not to be run here",
            hint="without arch it runs on the GPU of this machine; target='cuda:emulate' runs the same kernels on the CPU",
        )

    def measure(self, arrays: Sequence[Any], rounds: int) -> NoReturn:
        self.run(arrays)


def with_occupancy(
    program: Program, cubins: Mapping[Kernel, Cubin], occupancies: Mapping[Kernel, float]
) -> tuple[StepInfo, ...]:
    """The steps, with what each kernel takes of a multiprocessor."""

    def described(step: Step) -> StepInfo:
        cubin, occupancy = cubins[step.kernel], occupancies[step.kernel]
        spilled = f"{cubin.spilled} bytes spilled" if cubin.spilled else ""
        said = ", ".join(filter(None, [f"{cubin.registers} registers", spilled, f"occupancy {occupancy:.0%}"]))
        reason = "; ".join(filter(None, [step.info.reason, said]))
        return replace(step.info, reason=reason, occupancy=occupancy)

    return tuple(described(s) if isinstance(s, Step) else s.info for s in program.steps)
