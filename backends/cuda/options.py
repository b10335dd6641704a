"""What a caller may ask of the CUDA backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphc.backend import Request
from graphc.errors import InputError, UnsupportedError

WITHOUT_GPU = "kernels run on the CPU with target='cuda:emulate' (slow: to test models and kernels); target='cpu' is what is fast here"


@dataclass(frozen=True)
class CudaOptions:
    """emulate: run kernels on the CPU. host: may nodes without a CUDA kernel run on the CPU? arch: compute capability that
    kernels are compiled for."""

    emulate: bool
    host: bool = False
    arch: tuple[int, int] = (9, 0)

    @classmethod
    def parse(cls, request: Request) -> CudaOptions:
        """Raises InputError for a value that an option does not take, UnsupportedError where kernels can't run."""
        given = dict(request.options)
        given.pop("threads", None)  # of the CPU: they change nothing here
        host = given.pop("host", False)
        if given:
            raise InputError(f"target 'cuda' has no option '{next(iter(given))}'", hint="it has: host")
        if not isinstance(host, bool):
            raise InputError(f"host must be True or False, not {host!r}")
        if request.variant != "emulate":
            raise UnsupportedError(
                "graphc can't run on a GPU yet: target 'cuda' compiles kernels only", hint=WITHOUT_GPU
            )
        return cls(True, host)

    def identity(self) -> list[Any]:
        return ["cuda", self.emulate, self.host, list(self.arch)]
