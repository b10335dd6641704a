"""From a kernel to what runs: the emulator's code of it, or a cubin. Both are kept on disk, where numba-cuda is not needed again."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from graphc.backends.cpu.codegen.cache import ObjectCache, text_of_generators
from graphc.backends.cpu.target import Target, detect
from graphc.backends.cuda.codegen.arch import Arch
from graphc.backends.cuda.kernel import code_of
from graphc.executable import PLANNING
from graphc.fingerprint import package_version

if TYPE_CHECKING:
    from graphc.backends.cuda.codegen.compiler import DeviceCode
    from graphc.backends.cuda.emulator import EmulatedKernel
    from graphc.lower.kernel import Kernel

ANY_MACHINE = Target("cuda", 0, 0, None, "", "")  # what compiles a cubin does not show in it
COMPILERS = ("numba_cuda", "numba", "llvmlite")
_emulated: dict[tuple[str, Arch, bool], EmulatedKernel] = {}


def device_code(kernel: Kernel, arch: Arch, lines: bool = False) -> DeviceCode:
    """What libNVVM is given. lines: with the lines of the source. Raises UnsupportedError without numba-cuda."""
    from graphc.backends.cuda.codegen.compiler import nvvm_ir, require_numba_cuda

    require_numba_cuda()
    from numba.cuda import types

    return nvvm_ir(code_of(kernel).function, types.void(types.int64), arch, lines)


def emulated(kernel: Kernel, arch: Arch, check: bool = False, cache: bool = True) -> EmulatedKernel:
    """The kernel on the CPU; check: it is watched. cache: may it come from disk, and be kept there?"""
    key = kernel.spec, arch, check
    with PLANNING:
        if key not in _emulated:
            _emulated[key] = _emulated_anew(kernel, arch, check, cache)
    return _emulated[key]


def _emulated_anew(kernel: Kernel, arch: Arch, check: bool, cache: bool) -> EmulatedKernel:
    from graphc.backends.cuda.emulator import EmulatedKernel

    kept, spec = code_cache(cache), f"emulated {arch} {check} {fingerprint()} {kernel.spec}"
    blob = kept.get(kernel.symbol, spec)
    if blob is not None:  # numba-cuda need not be there
        head, _, code = blob.partition(b"\n")
        return EmulatedKernel.from_code(code, **json.loads(head), name=str(kernel))
    made, source = device_code(kernel, arch, check), code_of(kernel)
    launch: dict[str, Any] = {"threads": source.threads, "shared": source.shared, "together": source.together}
    compiled = EmulatedKernel(made.modules, made.entry, name=str(kernel), check=check, **launch)
    head = json.dumps(launch).encode()
    kept.put(kernel.symbol, spec, head + b"\n" + compiled.code, "\n".join(made.modules), ".ll")
    return compiled


def code_cache(enabled: bool) -> ObjectCache:
    return _code_cache() if enabled else ObjectCache(detect(), False)


@lru_cache(maxsize=1)
def _code_cache() -> ObjectCache:
    return ObjectCache(detect())


def cubin_cache(enabled: bool) -> ObjectCache:
    """Found again on any machine, with any compilers or none."""
    return _cubin_cache() if enabled else ObjectCache(ANY_MACHINE, False)


@lru_cache(maxsize=1)
def _cubin_cache() -> ObjectCache:
    return ObjectCache(ANY_MACHINE, fingerprint=text_of_generators("cuda"))


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """Of what makes emulated kernels, beside what the cache's keys have anyway."""
    return hashlib.sha256(text_of_generators("cuda") + compilers().encode()).hexdigest()[:24]


@lru_cache(maxsize=1)
def compilers() -> str:
    """Which they are, of all that is installed."""
    return hashlib.sha256(b"\0".join(map(package_version, COMPILERS))).hexdigest()[:16]
