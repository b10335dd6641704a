"""What a caller may ask of the CUDA backend."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from graphc.backend import Request
from graphc.backends.cuda.codegen.arch import WITH_GROUPS, Arch
from graphc.errors import InputError, UnsupportedError

WITHOUT_GPU = (
    "arch='sm_90' (--arch sm_90) compiles ahead, without one; target='cuda:emulate' runs the kernels on the CPU, slowly, to "
    "test models; target='cpu' is what is fast here"
)
ARCHITECTURES = (80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121)  # that tensor cores of this code and CUDA 13.0 have
BOUNDS = ("threads", "winograd")  # of the CPU; kept here whatever they are: no threads of it, and no Winograd
PRECISIONS = ("float32", "tf32")


@dataclass(frozen=True)
class CudaOptions:
    """emulate: run kernels on the CPU. host: may nodes without a CUDA kernel run on the CPU? arch: compute capability that kernels
    are compiled for ahead, and not run; None to run them on GPU number `device`. precision: the digits of float32 operands of
    products on tensor cores. tune: choose tiles by measuring them; with arch, kernels of all that could be chosen are compiled."""

    emulate: bool
    host: bool = False
    arch: Arch | None = None
    device: int = 0
    precision: str = PRECISIONS[0]
    tune: bool = False

    @classmethod
    def parse(cls, request: Request) -> CudaOptions:
        """Raises InputError for a value that an option does not take."""
        given = {name: value for name, value in request.options.items() if name not in BOUNDS}
        host, arch, tune = given.pop("host", False), given.pop("arch", None), given.pop("tune", False)
        device, precision = given.pop("device", 0), given.pop("precision", PRECISIONS[0])
        if given:
            hint = "it has: arch, device, host, precision, tune"
            raise InputError(f"target 'cuda' has no option '{next(iter(given))}'", hint=hint)
        if not isinstance(host, bool):
            raise InputError(f"host must be True or False, not {host!r}")
        if precision not in PRECISIONS:
            hint = "tf32 multiplies float32 with 11 digits of its 24, float32 with all of them"
            raise InputError(f"precision must be 'float32' or 'tf32', not {precision!r}", hint=hint)
        if not isinstance(tune, bool):
            raise InputError(f"tune must be True or False, not {tune!r}")
        if tune and request.variant == "emulate":
            raise UnsupportedError(
                "target 'cuda:emulate' can't be tuned: times of the emulator say nothing about a GPU",
                hint="leave out tune, or tune with target 'cuda' on a GPU",
            )
        if isinstance(device, bool) or not isinstance(device, int) or device < 0:
            raise InputError(f"device must be the number of a GPU, from 0 on, not {device!r}")
        emulate = request.variant == "emulate"
        return cls(emulate, host, None if arch is None else capability(arch), device, precision, tune)

    def identity(self) -> list[Any]:
        return ["cuda", self.emulate, self.host, list(self.arch or ()), self.precision, self.tune]


def capability(arch: object) -> Arch:
    """'sm_90' -> (9, 0), 'sm_90a' -> (9, 0, 'a'). Raises InputError for anything else, and for what is too old or unknown."""
    if arch == "sm_90a":
        return WITH_GROUPS
    found = re.fullmatch(r"sm_(\d+)", arch) if isinstance(arch, str) else None
    if found is None or int(found[1]) not in ARCHITECTURES:
        known = [*(f"sm_{n}" for n in ARCHITECTURES), "sm_90a"]
        meant = re.sub(r"\D*(\d+)(a?)$", r"sm_\1\2", str(arch).lower())
        hint = (
            f"did you mean {meant}?"
            if meant in known
            else f"there are: {', '.join(known)} (A100: sm_80; H100, H200: sm_90a)"
        )
        raise InputError(f"arch must be the name of a GPU's architecture, not {arch!r}", hint=hint)
    return divmod(int(found[1]), 10)
