"""Programs that are compiled for a GPU which is not here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from graphc.errors import UnsupportedError

if TYPE_CHECKING:
    from graphc.backends.cuda.codegen.cubin import Cubin
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
    steps: Sequence[StepInfo], kernels: Sequence[int | None], taken: Mapping[int, tuple[Cubin, float]]
) -> tuple[StepInfo, ...]:
    """The steps, with what each kernel takes of a multiprocessor. kernels: of the steps, by index; None of those that launch none.
    taken: the code and the occupancy of each."""

    def described(info: StepInfo, cubin: Cubin, occupancy: float) -> StepInfo:
        spilled = f"{cubin.spilled} bytes spilled" if cubin.spilled else ""
        said = ", ".join(filter(None, [f"{cubin.registers} registers", spilled, f"occupancy {occupancy:.0%}"]))
        return replace(info, reason="; ".join(filter(None, [info.reason, said])), occupancy=occupancy)

    return tuple(s if i is None else described(s, *taken[i]) for s, i in zip(steps, kernels))
