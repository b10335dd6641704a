"""Object files as LLVM emits them here: position-independent x86-64 ELF, one exported symbol per file."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

HEADER, SECTION, SYMBOL, RELA = "<16sHHIQQQIHHHHHH", "<IIQQQQIIQQ", "<IBBHQQ", "<QQq"
RELOCATABLE, X86_64 = 1, 62
PROGBITS, SYMTAB, RELA_SECTION, NOBITS = 1, 2, 4, 8
WRITE, ALLOC, EXEC = 1, 2, 4
UNDEFINED = 0


class CantLink(Exception):
    """The object files are of another machine, or use what this linker does not know."""


@dataclass(eq=False)
class Section:
    data: bytearray
    flags: int
    align: int
    address: int = 0


@dataclass(frozen=True)
class Symbol:
    name: str
    section: Section | None  # None: another library's
    value: int

    @property
    def address(self) -> int:
        assert self.section is not None, f"another library defines '{self.name}'"
        return self.section.address + self.value


@dataclass(frozen=True)
class Relocation:
    section: Section
    offset: int
    kind: int
    symbol: Symbol
    addend: int


@dataclass
class ObjectFile:
    """What of it goes into a program."""

    sections: list[Section] = field(default_factory=list)
    relocations: list[Relocation] = field(default_factory=list)
    exports: list[Symbol] = field(default_factory=list)


def read(code: bytes, export: str) -> ObjectFile:
    """An object file that must define `export`. Raises CantLink."""
    try:
        return _read(code, export)
    except (struct.error, IndexError, UnicodeDecodeError, ValueError) as error:
        raise CantLink(f"not an object file: {error}") from None


def _read(code: bytes, export: str) -> ObjectFile:
    ident, kind, machine, _, _, _, at, _, _, _, _, size, count, names = struct.unpack_from(HEADER, code)
    if ident[:6] != b"\x7fELF\2\1" or (kind, machine) != (RELOCATABLE, X86_64):
        raise CantLink("not x86-64 ELF")
    headers = [struct.unpack_from(SECTION, code, at + i * size) for i in range(count)]
    result, sections = ObjectFile(), {}
    for i, (name, kind, flags, _, offset, length, _, _, align, _) in enumerate(headers):
        if flags & ALLOC and kind in (PROGBITS, NOBITS) and _text(code, headers[names][4] + name) != ".eh_frame":
            data = bytearray(length) if kind == NOBITS else bytearray(code[offset : offset + length])
            sections[i] = Section(data, flags, max(align, 1))
    result.sections = list(sections.values())
    symbols: list[Symbol | None] = []
    for _, kind, _, _, offset, length, link_to, *_ in headers:
        if kind == SYMTAB:
            strings = headers[link_to][4]
            for place in range(offset, offset + length, 24):
                name, _, _, index, value, _ = struct.unpack_from(SYMBOL, code, place)
                symbols.append(_symbol(_text(code, strings + name), index, value, sections))
    for _, kind, _, _, offset, length, _, target, *_ in headers:
        if kind == RELA_SECTION and target in sections:
            for place in range(offset, offset + length, 24):
                where, info, addend = struct.unpack_from(RELA, code, place)
                symbol = symbols[info >> 32]
                if symbol is None:
                    raise CantLink("a symbol that lies in no section")
                result.relocations.append(Relocation(sections[target], where, info & 0xFFFFFFFF, symbol, addend))
    result.exports = [s for s in symbols if s is not None and s.name == export and s.section is not None]
    if len(result.exports) != 1:
        raise CantLink(f"'{export}' is defined {len(result.exports)} times")
    return result


def _text(code: bytes, at: int) -> str:
    return code[at : code.index(b"\0", at)].decode()


def _symbol(name: str, index: int, value: int, sections: Mapping[int, Section]) -> Symbol | None:
    if index == UNDEFINED:
        return Symbol(name, None, 0)
    return Symbol(name, sections[index], value) if index in sections else None
