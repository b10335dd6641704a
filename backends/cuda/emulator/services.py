"""The runtime: fibers, warp operations, tensor cores, copies and the checker, as machine code that kernels call.

Numba compiles it once; then its object code is in the cache, and neither Numba nor LLVM is loaded.
"""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from graphc.backends.cpu.codegen.cache import ObjectCache
from graphc.backends.cpu.runtime.code_memory import CodeMemory
from graphc.backends.cpu.target import detect
from graphc.backends.cuda.emulator.host import host, require_host
from graphc.backends.cuda.emulator.records import SERVICES

TABLE = "graphc_emulator_services"  # what the object code exports: addresses of the services, then of run_blocks, run_together
_memory = CodeMemory()
_lock = threading.Lock()
_loading = threading.Lock()
_linked: dict[bytes, int] = {}  # addresses by digests of object code


class Services(NamedTuple):
    """addresses: of what kernels call, in the order of SERVICES; run_blocks(record of a worker, first, end, step); run_together(array
    of records, their number)."""

    addresses: tuple[int, ...]
    run_blocks: Callable[[int, int, int, int], None]
    run_together: Callable[[int, int], None]


def link(symbol: str, code: bytes) -> int:
    """Put object code into the process for good, once; the address of what it exports."""
    digest = hashlib.sha256(code).digest()
    with _lock:
        if digest not in _linked:
            _linked[digest] = _memory.load({symbol: code})[symbol]
        return _linked[digest]


def services() -> Services:
    """Those of this process."""
    with _loading:
        return _services()


@lru_cache(maxsize=1)
def _services() -> Services:
    require_host()
    cache = ObjectCache(detect())
    code = cache.get("emulator", fingerprint())
    if code is None:
        code, source = compile_services()
        cache.put("emulator", fingerprint(), code, source, ".ll")
    count = len(SERVICES) + 2
    *addresses, run, together = (ctypes.c_int64 * count).from_address(link(TABLE, code))
    word = ctypes.c_int64
    of_blocks = ctypes.CFUNCTYPE(None, word, word, word, word)(run), ctypes.CFUNCTYPE(None, word, word)(together)
    return Services(tuple(addresses), *of_blocks)


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """Tells states of the emulator apart. Object code of kernels goes with the runtime that it was made for."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def compile_services() -> tuple[bytes, str]:
    """Object code, and the LLVM IR that it is made of."""
    from graphc.backends.cpu.codegen.numba_ir import driver_ir
    from graphc.backends.cuda.emulator import tensor_core
    from graphc.backends.cuda.emulator.functions_njit import FUNCTIONS
    from graphc.backends.cuda.emulator.switch import assembly

    texts: dict[str, None] = {}
    entries = []
    for name, (function, signature) in FUNCTIONS.items():
        modules, inner = driver_ir(function, signature)
        texts.update(dict.fromkeys(modules))
        entries.append(_entry(name, inner, len(signature.args), name == "barrier"))
    h = host()
    texts[str(tensor_core.module(h.target.converts_half))] = None
    names = ", ".join(f"ptr @{_symbol(name)}" for name in FUNCTIONS)
    table = f"@{TABLE} = global [{len(FUNCTIONS)} x ptr] [{names}]\n"
    own = assembly() + table + "".join(entries)
    module, *others = map(h.llvm.parse_assembly, (own, *texts))
    for other in others:
        module.link_in(other)
    source = str(module)
    return h.compile(module, TABLE, 3), source


def _symbol(name: str) -> str:
    return f"graphc_emulator_{name}"


def _entry(name: str, inner: str, parameters: int, gives: bool) -> str:
    """A function of C's calling convention around one of Numba's, which has two pointers more: result, exception."""
    formal = ", ".join(f"i64 %a{i}" for i in range(parameters))
    kinds = ", ".join(["ptr", "ptr", *["i64"] * parameters])
    call = f'  %r = alloca i64\n  %e = alloca ptr\n  %s = call i32 @"{inner}"(ptr %r, ptr %e, {formal})\n'
    call += "  %v = load i64, ptr %r\n  ret i64 %v\n" if gives else "  ret void\n"
    head = f"define {'i64' if gives else 'void'} @{_symbol(name)}({formal}) {{\n{call}}}\n"
    return f'declare i32 @"{inner}"({kinds})\n{head}'
