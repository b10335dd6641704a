"""From a kernel to what runs: the emulator's code of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numba.cuda import types

from graphc.backends.cuda.codegen.compiler import DeviceCode, nvvm_ir
from graphc.backends.cuda.kernel import code_of
from graphc.executable import PLANNING

if TYPE_CHECKING:
    from graphc.backends.cuda.emulator import EmulatedKernel
    from graphc.lower.kernel import Kernel

SIGNATURE = types.void(types.int64)  # of every kernel: the address of its argument block
_emulated: dict[tuple[str, tuple[int, int], bool], EmulatedKernel] = {}


def device_code(kernel: Kernel, arch: tuple[int, int], lines: bool = False) -> DeviceCode:
    """What libNVVM is given. lines: with the lines of the source."""
    return nvvm_ir(code_of(kernel).function, SIGNATURE, arch, lines)


def emulated(kernel: Kernel, arch: tuple[int, int], check: bool = False) -> EmulatedKernel:
    """The kernel on the CPU; check: it is watched."""
    from graphc.backends.cuda.emulator import EmulatedKernel

    key = kernel.spec, arch, check
    with PLANNING:
        if key not in _emulated:
            made, code = device_code(kernel, arch, check), code_of(kernel)
            _emulated[key] = EmulatedKernel(made.modules, made.entry, code.threads, code.shared, str(kernel), check)
    return _emulated[key]
