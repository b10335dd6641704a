"""Machine code of this process: object files put into reserved memory, without LLVM's loader.

Code, its constants and its tables of addresses reach each other by distances of 32 bits. LLVM's loader places them wherever
the system gives pages, and ends the process when these lie too far apart. Here they come from one region, which also keeps
the number of mappings small (Linux allows a process 65,530).
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping, Sequence

import numpy as np

from graphc.backends.cpu.runtime.entry import address_of
from graphc.backends.cpu.runtime.linkage import Linkage, place, round_up
from graphc.backends.cpu.runtime.object_file import CantLink, Section

REGION = 64 << 20  # bytes: address space only, pages are taken as code comes
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class CodeMemory:
    """Regions of code. Nothing is ever taken away: kernels know no sizes, and models share them. Not thread-safe."""

    def __init__(self) -> None:
        self._regions: list[_Region] = []

    def load(self, objects: Mapping[str, bytes]) -> dict[str, int]:
        """Addresses of `objects`: the symbol that each exports -> its code. Raises CantLink; OSError without memory."""
        program = Linkage(objects)
        text, data = [*program.constant, *program.code], program.data
        if not self._regions or not self._regions[-1].place(text, data):
            need = max(place(text, 0), place(data, 0)) + mmap.PAGESIZE
            self._regions.append(_Region(max(REGION, round_up(2 * need, 2 * mmap.PAGESIZE))))
            self._regions[-1].place(text, data)
        for p in program.resolve():
            value = p.addend if p.symbol is None else _address_of(p.symbol) + p.addend
            p.section.data[p.offset : p.offset + 8] = (value % 2**64).to_bytes(8, "little")
        self._regions[-1].fill(text, data)
        return {s.name: s.address for s in program.exports}


class _Region:
    """Reserved memory: code and constants from its beginning on, data from its middle on. Each load begins on a page, which
    can be written until it can be executed."""

    def __init__(self, nbytes: int) -> None:
        """Raises OSError."""
        self._memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0)  # no access yet
        start = np.frombuffer(self._memory, np.uint8).ctypes.data
        self._free = start, start + nbytes // 2
        self._limits = start + nbytes // 2, start + nbytes

    def place(self, text: Sequence[Section], data: Sequence[Section]) -> bool:
        """Give sections their addresses; False where there is no room."""
        ends = [place(sections, start) for sections, start in zip((text, data), self._free)]
        return all(end <= limit for end, limit in zip(ends, self._limits))

    def fill(self, text: Sequence[Section], data: Sequence[Section]) -> None:
        """Put placed sections there for good. Raises OSError."""
        ends = [round_up(place(sections, start), mmap.PAGESIZE) for sections, start in zip((text, data), self._free)]
        for start, end in zip(self._free, ends):
            _protect(start, end, mmap.PROT_READ | mmap.PROT_WRITE)
        for s in (*text, *data):
            ctypes.memmove(s.address, bytes(s.data), len(s.data))
        _protect(self._free[0], ends[0], mmap.PROT_READ | mmap.PROT_EXEC)
        self._free = ends[0], ends[1]


def _protect(start: int, end: int, access: int) -> None:
    if end > start and _LIBC.mprotect(start, end - start, access):
        raise OSError(ctypes.get_errno(), "no memory for machine code")


def _address_of(symbol: str) -> int:
    """Of a function of the process. Raises CantLink."""
    try:
        return address_of(getattr(_LIBC, symbol))
    except AttributeError:
        raise CantLink(f"the process has no '{symbol}'") from None
