"""Object files as one piece of code: what is common to a shared object and to code that is put into this process.

Calls of other libraries go through stubs and a table of addresses (System V ABI, AMD64 supplement, chapters 4 and 5).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from graphc.backends.cpu.runtime.object_file import ALLOC, EXEC, WRITE, CantLink, Relocation, Section, Symbol, read

_R_64, _R_PC32, _R_PLT32 = 1, 2, 4
_GOT_KINDS = (9, 41, 42)  # R_X86_64_GOTPCREL, GOTPCRELX, REX_GOTPCRELX
_PAGE = 4096
_STUB = b"\xff\x25"  # jmp *[rip + displacement]


class Pointer(NamedTuple):
    """A word that is to hold an address: `addend` bytes behind another library's symbol, or the address `addend`."""

    section: Section
    offset: int
    symbol: str | None
    addend: int

    @property
    def address(self) -> int:
        return self.section.address + self.offset


class Linkage:
    """Sections to be placed, in three kinds: constant, code, data. pointers: how many `resolve` will give."""

    def __init__(self, objects: Mapping[str, bytes], constants: Mapping[str, bytes] = MappingProxyType({})) -> None:
        """objects: the symbol that each exports -> its code. constants: by the symbols that objects know them by. Raises CantLink."""
        files = [read(code, symbol) for symbol, code in objects.items()]
        self.exports = [s for f in files for s in f.exports]
        given = {name: Section(bytearray(data), ALLOC, _PAGE) for name, data in constants.items()}
        known = {s.name: s for s in self.exports} | {name: Symbol(name, s, 0) for name, s in given.items()}
        self._relocations = [
            replace(r, symbol=known.get(r.symbol.name, r.symbol)) if r.symbol.section is None else r
            for f in files
            for r in f.relocations
        ]
        others = [r for r in self._relocations if r.symbol.section is None]
        self.imports = list(dict.fromkeys(r.symbol.name for r in others))
        stubs = dict.fromkeys(r.symbol.name for r in others if r.kind == _R_PLT32)
        slots = dict.fromkeys(_slot(r.symbol) for r in self._relocations if r.kind in _GOT_KINDS) | stubs
        self._stub_at, self._slot_at = ({key: 8 * i for i, key in enumerate(keys)} for keys in (stubs, slots))
        self._stubs = Section(bytearray(8 * len(stubs)), ALLOC | EXEC, 16)
        self._table = Section(bytearray(8 * len(slots)), ALLOC | WRITE, 8)
        every = [*given.values(), *(s for f in files for s in f.sections), self._stubs, self._table]
        self.constant = [s for s in every if not s.flags & (EXEC | WRITE)]
        self.code = [s for s in every if s.flags & EXEC]
        self.data = [s for s in every if s.flags & WRITE]
        self.pointers = len(slots) + sum(r.kind == _R_64 for r in self._relocations)

    def resolve(self) -> list[Pointer]:
        """Fill in distances, now that sections have addresses; the words that hold addresses. Raises CantLink."""
        pointers = [p for p in map(self._apply, self._relocations) if p is not None]
        for name, offset in self._stub_at.items():
            distance = self._table.address + self._slot_at[name] - (self._stubs.address + offset + 6)
            self._stubs.data[offset : offset + 6] = _STUB + _signed32(distance)
        for key, offset in self._slot_at.items():
            symbol, addend = (key, 0) if isinstance(key, str) else (None, key[0].address + key[1])
            pointers.append(Pointer(self._table, offset, symbol, addend))
        return pointers

    def _apply(self, r: Relocation) -> Pointer | None:
        s = r.symbol
        if r.kind in (_R_PC32, _R_PLT32) and s.section is not None:
            value = s.address
        elif r.kind == _R_PLT32:
            value = self._stubs.address + self._stub_at[s.name]
        elif r.kind in _GOT_KINDS:
            value = self._table.address + self._slot_at[_slot(s)]
        elif r.kind == _R_64 and r.section.flags & WRITE:
            known = s.section is not None
            return Pointer(r.section, r.offset, None if known else s.name, (s.address if known else 0) + r.addend)
        else:
            raise CantLink(f"relocation {r.kind} against '{s.name}'")
        distance = value + r.addend - (r.section.address + r.offset)
        r.section.data[r.offset : r.offset + 4] = _signed32(distance)
        return None


def _slot(s: Symbol) -> str | tuple[Section, int]:
    return s.name if s.section is None else (s.section, s.value)


def place(sections: Sequence[Section], at: int) -> int:
    """Give sections addresses, from `at` on; the end."""
    for s in sections:
        s.address = at = round_up(at, s.align)
        at += len(s.data)
    return at


def round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _signed32(value: int) -> bytes:
    try:
        return struct.pack("<i", value)
    except struct.error:
        raise CantLink("a distance above 2 GiB") from None
