"""numba-cuda's front end: from a Python function to the LLVM IR that libNVVM gets. Needs no GPU and no driver.

All that graphc uses of numba-cuda's insides is here.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from graphc.backends.cuda.codegen.arch import Arch
from graphc.errors import MissingPackageError

OLDEST_NUMBA_CUDA = (0, 30)
REMEDY = "pip install 'graphc[cuda]'"
FIRST_NUMPY_WITHOUT = (
    2,
    5,
)  # it has removed a function that numba-cuda 0.30 registers, with which nothing can be compiled
_lock = threading.RLock()


class DeviceCode(NamedTuple):
    """modules: LLVM IR in the dialect of libNVVM; the first defines `entry`, others what it calls."""

    modules: tuple[str, ...]
    entry: str


def nvvm_ir(function: Callable[..., None], signature: Any, arch: Arch = (9, 0), lines: bool = False) -> DeviceCode:
    """What numba-cuda hands to libNVVM (through its downgrade for libNVVM). `signature`: numba.cuda types. lines: with debug lines.

    Functions that the kernel calls (`cuda.jit(device=True)`) have lines of their own only where their decorator says
    `lineinfo=True`.

    Raises MissingPackageError without numba-cuda, and numba-cuda's errors for functions that it can't compile.
    """
    compiler, dispatcher, nvvm = _numba_cuda()
    with _lock, _device(dispatcher, arch):
        library, _ = compiler._compile_pyfunc_with_fixup(
            function, signature, device=False, abi="numba", cc=arch, lineinfo=lines
        )
    return DeviceCode(tuple(map(nvvm.llvm_replace, library.llvm_strs)), library._entry_name)


def require_numba_cuda() -> None:
    """Raises MissingPackageError where kernels can't be compiled."""
    _numba_cuda()


@lru_cache(maxsize=1)
def _numba_cuda() -> tuple[ModuleType, ModuleType, ModuleType]:
    try:
        found = version("numba-cuda")
    except PackageNotFoundError:
        raise MissingPackageError("CUDA kernels need numba-cuda, which is not installed", hint=REMEDY) from None
    own = _numbers(found)
    if own < OLDEST_NUMBA_CUDA:
        raise MissingPackageError(f"CUDA kernels need numba-cuda 0.30 or newer, and this is {found}", hint=REMEDY)
    if own == OLDEST_NUMBA_CUDA and _numbers(np.__version__) >= FIRST_NUMPY_WITHOUT:
        raise MissingPackageError(
            f"numba-cuda {found} compiles nothing beside NumPy {np.__version__}",
            hint=f"{REMEDY}, or pip install 'numpy<2.5'",
        )
    try:
        from numba.cuda import compiler, dispatcher
        from numba.cuda.core import inline_closurecall, targetconfig
        from numba.cuda.cudadrv import nvvm
    except ImportError as error:
        raise MissingPackageError(f"numba-cuda {found} can't be imported: {error}", hint=REMEDY) from error
    inline_closurecall.copy = SimpleNamespace(copy=copy.copy, deepcopy=_copy_of_block)
    targetconfig.TargetConfig.values = _options
    return compiler, dispatcher, nvvm


def _copy_of_block(block: Any) -> Any:
    """For functions that are inlined: numba-cuda would copy the scope, of all their variables, once more for each block."""
    return copy.deepcopy(block, {id(block.scope): block.scope})


def _options(config: Any) -> dict[str, Any]:
    """Of a configuration, which each call of a function compares: without numba-cuda's checks of their names."""
    given = config._values
    return {name: given.get(name, option.default) for name, option in config.options.items()}


def _numbers(text: str) -> tuple[int, int]:
    """The first two numbers of a version."""
    major, minor, *_ = text.split(".")
    return int(major), int(minor)


@contextmanager
def _device(dispatcher: ModuleType, arch: Arch) -> Iterator[None]:
    """Functions that a kernel calls are compiled for what the dispatcher takes for the current device."""
    original = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=arch)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        dispatcher.get_current_device = original  # type: ignore[attr-defined]
