"""The CPU: LLVM micro-kernels and Numba loop nests around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphc.backend import Backend, Request

TARGETS = ("cpu", "cpu:avx512", "cpu:avx2", "cpu:portable")


def open_backend(request: Request) -> Backend:
    """Raises InputError for options that it does not take, UnsupportedError where this CPU lacks the instruction set."""
    from graphc.backends.cpu.backend import CpuBackend
    from graphc.backends.cpu.options import CpuOptions

    return CpuBackend(CpuOptions.parse(request), request.cache, request.progress)
