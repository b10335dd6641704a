"""The GPU: Numba CUDA kernels with scalar code of LLVM in them, and an emulator that runs them on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphc.backend import Backend, Request

TARGETS = ("cuda", "cuda:emulate")


def open_backend(request: Request) -> Backend:
    """Raises InputError for options that it does not take, UnsupportedError where the packages or the GPU are missing."""
    from graphc.backends.cuda.backend import CudaBackend
    from graphc.backends.cuda.options import CudaOptions

    return CudaBackend(CudaOptions.parse(request), request.cache, request.progress)
