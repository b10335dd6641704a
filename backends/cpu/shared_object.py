"""Object files -> one shared object, so that a second process loads all kernels of a model at once, without LLVM.

A linker for what LLVM emits here: position-independent x86-64 ELF, one exported symbol a file, calls of libc and libm
through the loader (System V ABI, AMD64 supplement, chapters 4 and 5). Three segments: read only, code, data. Kernels keep
their names, so profilers and debuggers see them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PAGE = 4096
_HEADER, _PROGRAM_HEADER, _SECTION, _SYMBOL, _RELA, _DYNAMIC = (
    "<16sHHIQQQIHHHHHH",
    "<IIQQQQQQ",
    "<IIQQQQIIQQ",
    "<IBBHQQ",
    "<QQq",
    "<qQ",
)
_RELOCATABLE, _SHARED, _X86_64 = 1, 3, 62
_PROGBITS, _SYMTAB, _RELA_SECTION, _NOBITS = 1, 2, 4, 8
_WRITE, _ALLOC, _EXEC = 1, 2, 4
_UNDEFINED, _RESERVED = 0, 0xFF00
_R_64, _R_PC32, _R_PLT32, _R_GOTPCREL, _R_GLOB_DAT, _R_RELATIVE, _R_GOTPCRELX, _R_REX_GOTPCRELX = (
    1,
    2,
    4,
    9,
    6,
    8,
    41,
    42,
)
_STUB = b"\xff\x25"  # jmp *[rip + displacement]


class CantLink(Exception):
    """The object files are of another machine, or use what this linker does not know."""


@dataclass(eq=False)
class _Section:
    data: bytearray
    flags: int
    align: int
    address: int = 0


@dataclass(frozen=True)
class _Symbol:
    name: str
    section: _Section | None  # None: another library's
    value: int

    @property
    def address(self) -> int:
        return self.section.address + self.value


@dataclass(frozen=True)
class _Relocation:
    section: _Section
    offset: int
    kind: int
    symbol: _Symbol
    addend: int


@dataclass
class _Input:
    sections: list[_Section] = field(default_factory=list)
    relocations: list[_Relocation] = field(default_factory=list)
    exports: list[_Symbol] = field(default_factory=list)


def link(objects: Mapping[str, bytes]) -> bytes:
    """A shared object of `objects`: the symbol that each exports -> its code. Raises CantLink."""
    try:
        inputs = [_read(code, symbol) for symbol, code in objects.items()]
    except (struct.error, IndexError, UnicodeDecodeError, ValueError) as error:
        raise CantLink(f"not an object file: {error}") from None
    return _Image(inputs).build()


# --- reading ----------------------------------------------------------------------------------------------------------
def _read(code: bytes, export: str) -> _Input:
    ident, kind, machine, _, _, _, at, _, _, _, _, size, count, names = struct.unpack_from(_HEADER, code)
    if ident[:6] != b"\x7fELF\2\1" or (kind, machine) != (_RELOCATABLE, _X86_64):
        raise CantLink("not x86-64 ELF")
    headers = [struct.unpack_from(_SECTION, code, at + i * size) for i in range(count)]
    result, sections = _Input(), {}
    for i, (name, kind, flags, _, offset, length, _, _, align, _) in enumerate(headers):
        if flags & _ALLOC and kind in (_PROGBITS, _NOBITS) and _text(code, headers[names][4] + name) != ".eh_frame":
            data = bytearray(length) if kind == _NOBITS else bytearray(code[offset : offset + length])
            sections[i] = _Section(data, flags, max(align, 1))
    result.sections = list(sections.values())
    symbols: list[_Symbol | None] = []
    for _, kind, _, _, offset, length, link_to, *_ in headers:
        if kind == _SYMTAB:
            strings = headers[link_to][4]
            for place in range(offset, offset + length, 24):
                name, _, _, index, value, _ = struct.unpack_from(_SYMBOL, code, place)
                symbols.append(_symbol(_text(code, strings + name), index, value, sections))
    for _, kind, _, _, offset, length, _, target, *_ in headers:
        if kind == _RELA_SECTION and target in sections:
            for place in range(offset, offset + length, 24):
                where, info, addend = struct.unpack_from(_RELA, code, place)
                symbol = symbols[info >> 32]
                if symbol is None:
                    raise CantLink("a symbol that lies in no section")
                result.relocations.append(_Relocation(sections[target], where, info & 0xFFFFFFFF, symbol, addend))
    result.exports = [s for s in symbols if s is not None and s.name == export and s.section is not None]
    if len(result.exports) != 1:
        raise CantLink(f"'{export}' is defined {len(result.exports)} times")
    return result


def _text(code: bytes, at: int) -> str:
    return code[at : code.index(b"\0", at)].decode()


def _symbol(name: str, index: int, value: int, sections: Mapping[int, _Section]) -> _Symbol | None:
    if index == _UNDEFINED:
        return _Symbol(name, None, 0)
    return _Symbol(name, sections[index], value) if index in sections else None


# --- writing ----------------------------------------------------------------------------------------------------------
class _Image:
    def __init__(self, inputs: Sequence[_Input]) -> None:
        self.inputs = inputs
        self.exports = [s for i in inputs for s in i.exports]
        relocations = [r for i in inputs for r in i.relocations]
        self.imports = list(dict.fromkeys(r.symbol.name for r in relocations if r.symbol.section is None))
        stubs = dict.fromkeys(r.symbol.name for r in relocations if r.symbol.section is None and r.kind == _R_PLT32)
        self.stub_at = {name: 8 * i for i, name in enumerate(stubs)}
        self.stubs = _Section(bytearray(8 * len(stubs)), _ALLOC | _EXEC, 16)
        got = dict.fromkeys(
            _slot(r.symbol) for r in relocations if r.kind in (_R_GOTPCREL, _R_GOTPCRELX, _R_REX_GOTPCRELX)
        )
        got.update((name, None) for name in stubs)
        self.slot_at = {key: 8 * i for i, key in enumerate(got)}
        self.got = _Section(bytearray(8 * len(got)), _ALLOC | _WRITE, 8)
        self.names = bytearray(b"\0")
        self.name_at: dict[str, int] = {}
        for name in [*self.imports, *(s.name for s in self.exports)]:
            self.name_at[name] = len(self.names)
            self.names += name.encode() + b"\0"
        self.dynamic_relocations: list[tuple[int, int, int]] = []  # address, symbol << 32 | kind, addend

    def build(self) -> bytes:
        every = [s for i in self.inputs for s in i.sections] + [self.stubs, self.got]
        constant = [s for s in every if not s.flags & (_EXEC | _WRITE)]
        code = [s for s in every if s.flags & _EXEC]
        data = [s for s in every if s.flags & _WRITE]
        count = len(self.got.data) // 8 + sum(r.kind == _R_64 for i in self.inputs for r in i.relocations)
        symbols = 1 + len(self.imports) + len(self.exports)
        # tables that the loader reads, then constants: sizes are known before any address is
        at = 64 + 56 * 5
        tables = {}
        for name, size in (
            ("symtab", 24 * symbols),
            ("hash", 4 * (3 + symbols)),
            ("strtab", len(self.names)),
            ("rela", 24 * count),
        ):
            at = _up(at, 8)
            tables[name], at = at, at + size
        ends = [_place(constant, at)]
        starts = [0, _up(ends[0], PAGE)]
        ends.append(_place(code, starts[1]))
        starts.append(_up(ends[1], PAGE))
        dynamic = starts[2]
        ends.append(_place(data, dynamic + 16 * 10))
        for item in (r for i in self.inputs for r in i.relocations):
            self._apply(item)
        for name, offset in self.stub_at.items():
            address = self.stubs.address + offset
            slot = self.got.address + self.slot_at[name]
            self.stubs.data[offset : offset + 6] = _STUB + _signed32(slot - (address + 6))
        for key, offset in self.slot_at.items():
            address = self.got.address + offset
            if isinstance(key, str):
                self.dynamic_relocations.append((address, self._number(key) << 32 | _R_GLOB_DAT, 0))
            else:
                self.dynamic_relocations.append((address, _R_RELATIVE, key[0].address + key[1]))
        assert len(self.dynamic_relocations) == count
        image = bytearray(ends[2])
        for s in every:
            image[s.address : s.address + len(s.data)] = s.data
        self._write_tables(image, tables, dynamic, count)
        segments = [(4, starts[0], ends[0]), (5, starts[1], ends[1]), (6, starts[2], ends[2])]
        headers = [(1, flags, a, a, a, b - a, b - a, PAGE) for flags, a, b in segments]
        headers += [
            (2, 6, dynamic, dynamic, dynamic, 160, 160, 8),
            (0x6474E551, 6, 0, 0, 0, 0, 0, 16),
        ]  # no executable stack
        ident = b"\x7fELF\2\1\1".ljust(16, b"\0")
        struct.pack_into(_HEADER, image, 0, ident, _SHARED, _X86_64, 1, 0, 64, 0, 0, 64, 56, len(headers), 64, 0, 0)
        for i, h in enumerate(headers):
            struct.pack_into(_PROGRAM_HEADER, image, 64 + 56 * i, *h)
        return bytes(image)

    def _number(self, name: str) -> int:
        return 1 + self.imports.index(name)

    def _apply(self, r: _Relocation) -> None:
        place, s = r.section.address + r.offset, r.symbol
        if r.kind in (_R_PC32, _R_PLT32) and s.section is not None:
            value = s.address
        elif r.kind == _R_PLT32:
            value = self.stubs.address + self.stub_at[s.name]
        elif r.kind in (_R_GOTPCREL, _R_GOTPCRELX, _R_REX_GOTPCRELX):
            value = self.got.address + self.slot_at[_slot(s)]
        elif r.kind == _R_64 and r.section.flags & _WRITE:
            known = s.section is not None
            kind = _R_RELATIVE if known else self._number(s.name) << 32 | _R_64
            self.dynamic_relocations.append((place, kind, (s.address if known else 0) + r.addend))
            return
        else:
            raise CantLink(f"relocation {r.kind} against '{s.name}'")
        r.section.data[r.offset : r.offset + 4] = _signed32(value + r.addend - place)

    def _write_tables(self, image: bytearray, at: Mapping[str, int], dynamic: int, relocations: int) -> None:
        symbols = [(0, 0, 0, 0, 0, 0)]
        symbols += [(self.name_at[n], 0x12, 0, _UNDEFINED, 0, 0) for n in self.imports]  # global functions
        symbols += [(self.name_at[s.name], 0x12, 0, 1, s.address, 0) for s in self.exports]
        for i, entry in enumerate(symbols):
            struct.pack_into(_SYMBOL, image, at["symtab"] + 24 * i, *entry)
        n = len(symbols)  # one bucket: each name is looked up once, when the model is loaded
        struct.pack_into(f"<{3 + n}I", image, at["hash"], 1, n, min(1, n - 1), *[0, *range(2, n), 0][:n])
        image[at["strtab"] : at["strtab"] + len(self.names)] = self.names
        for i, entry in enumerate(self.dynamic_relocations):
            struct.pack_into(_RELA, image, at["rela"] + 24 * i, *entry)
        tags = [
            (4, at["hash"]), (5, at["strtab"]), (6, at["symtab"]), (10, len(self.names)), (11, 24),
            (7, at["rela"]), (8, 24 * relocations), (9, 24), (30, 8), (0, 0),
        ]  # fmt: skip
        for i, tag in enumerate(tags):
            struct.pack_into(_DYNAMIC, image, dynamic + 16 * i, *tag)


def _slot(s: _Symbol) -> str | tuple[_Section, int]:
    return s.name if s.section is None else (s.section, s.value)


def _place(sections: Sequence[_Section], at: int) -> int:
    for s in sections:
        s.address = at = _up(at, s.align)
        at += len(s.data)
    return at


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _signed32(value: int) -> bytes:
    try:
        return struct.pack("<i", value)
    except struct.error:
        raise CantLink("a distance above 2 GiB") from None
