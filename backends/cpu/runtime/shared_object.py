"""Object files -> one shared object, so that a second process loads all kernels of a model at once, without LLVM.

Three segments: read only, code, data. Kernels keep their names, so profilers and debuggers see them. A library that other linkers
are to read has section headers, too.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from graphc.backends.cpu.runtime.linkage import Linkage, Pointer, place, round_up
from graphc.backends.cpu.runtime.object_file import (
    ALLOC,
    EXEC,
    HEADER,
    PROGBITS,
    RELA,
    RELA_SECTION,
    SECTION,
    SYMBOL,
    UNDEFINED,
    WRITE,
    X86_64,
)

PAGE = 4096
_PROGRAM_HEADER, _DYNAMIC = "<IIQQQQQQ", "<qQ"
_TEXT = 6  # number of the section, where there are any
_SHARED, _R_64, _R_RELATIVE = 3, 1, 8


class Library(NamedTuple):
    """A shared object for other programs: its name, the only symbols that it exports, the libraries that it needs, and constants by
    the symbols that objects know them by."""

    name: str
    public: Sequence[str]
    needed: Sequence[str]
    constants: Mapping[str, bytes]


def link(objects: Mapping[str, bytes], library: Library | None = None) -> bytes:
    """A shared object of `objects`: the symbol that each exports -> its code. Raises CantLink."""
    return _Image(Linkage(objects, library.constants) if library else Linkage(objects), library).build()


class _Image:
    def __init__(self, program: Linkage, library: Library | None) -> None:
        self.program, self.library = program, library
        self.exports = [s for s in program.exports if library is None or s.name in library.public]
        self.names = bytearray(b"\0")
        self.name_at: dict[str, int] = {}
        others = [] if library is None else [library.name, *library.needed]
        for name in [*program.imports, *(s.name for s in self.exports), *others]:
            self.name_at[name] = len(self.names)
            self.names += name.encode() + b"\0"

    def build(self) -> bytes:
        program = self.program
        symbols = 1 + len(program.imports) + len(self.exports)
        # tables that the loader reads, then constants: sizes are known before any address is
        at = 64 + 56 * 5
        tables = {}
        for name, size in (
            ("symtab", 24 * symbols),
            ("hash", 4 * (3 + symbols)),
            ("strtab", len(self.names)),
            ("rela", 24 * program.pointers),
        ):
            at = round_up(at, 8)
            tables[name], at = at, at + size
        ends = [place(program.constant, at)]
        starts = [0, round_up(ends[0], PAGE)]
        ends.append(place(program.code, starts[1]))
        starts.append(round_up(ends[1], PAGE))
        dynamic = starts[2]
        tags = 10 + (0 if self.library is None else 1 + len(self.library.needed))
        ends.append(place(program.data, dynamic + 16 * tags))
        pointers = program.resolve()
        image = bytearray(ends[2])
        for s in (*program.constant, *program.code, *program.data):
            image[s.address : s.address + len(s.data)] = s.data
        self._write_tables(image, tables, dynamic, pointers)
        segments = [(4, starts[0], ends[0]), (5, starts[1], ends[1]), (6, starts[2], ends[2])]
        headers = [(1, flags, a, a, a, b - a, b - a, PAGE) for flags, a, b in segments]
        headers += [
            (2, 6, dynamic, dynamic, dynamic, 16 * tags, 16 * tags, 8),
            (0x6474E551, 6, 0, 0, 0, 0, 0, 16),
        ]  # no executable stack
        ident = b"\x7fELF\2\1\1".ljust(16, b"\0")
        extra = (0, 0, 0)  # where section headers are, how many, the one of their names
        if self.library is not None:
            sizes = {
                n: (at, size)
                for (n, at), size in zip(
                    tables.items(), (24 * symbols, 4 * (3 + symbols), len(self.names), 24 * program.pointers)
                )
            }
            extra = _add_sections(image, sizes, (dynamic, 16 * tags), [(a, b) for _, a, b in segments])
        start, count, names = extra
        struct.pack_into(
            HEADER, image, 0, ident, _SHARED, X86_64, 1, 0, 64, start, 0, 64, 56, len(headers), 64, count, names
        )
        for i, h in enumerate(headers):
            struct.pack_into(_PROGRAM_HEADER, image, 64 + 56 * i, *h)
        return bytes(image)

    def _write_tables(self, image: bytearray, at: Mapping[str, int], dynamic: int, pointers: Sequence[Pointer]) -> None:
        number = {name: 1 + i for i, name in enumerate(self.program.imports)}
        symbols = [(0, 0, 0, 0, 0, 0)]
        symbols += [(self.name_at[n], 0x12, 0, UNDEFINED, 0, 0) for n in self.program.imports]  # global functions
        symbols += [(self.name_at[s.name], 0x12, 0, _TEXT, s.address, 0) for s in self.exports]
        for i, entry in enumerate(symbols):
            struct.pack_into(SYMBOL, image, at["symtab"] + 24 * i, *entry)
        n = len(symbols)  # one bucket: each name is looked up once, when the model is loaded
        struct.pack_into(f"<{3 + n}I", image, at["hash"], 1, n, min(1, n - 1), *[0, *range(2, n), 0][:n])
        image[at["strtab"] : at["strtab"] + len(self.names)] = self.names
        for i, p in enumerate(pointers):
            kind = _R_RELATIVE if p.symbol is None else number[p.symbol] << 32 | _R_64
            struct.pack_into(RELA, image, at["rela"] + 24 * i, p.address, kind, p.addend)
        tags = [
            (4, at["hash"]), (5, at["strtab"]), (6, at["symtab"]), (10, len(self.names)), (11, 24),
            (7, at["rela"]), (8, 24 * len(pointers)), (9, 24), (30, 8),
        ]  # fmt: skip
        if self.library is not None:
            tags += [(14, self.name_at[self.library.name]), *((1, self.name_at[n]) for n in self.library.needed)]
        tags.append((0, 0))
        for i, tag in enumerate(tags):
            struct.pack_into(_DYNAMIC, image, dynamic + 16 * i, *tag)


def _add_sections(
    image: bytearray,
    tables: Mapping[str, tuple[int, int]],
    dynamic: tuple[int, int],
    segments: Sequence[tuple[int, int]],
) -> tuple[int, int, int]:
    """What other linkers read. tables, dynamic: address and bytes; segments: from, to: constants, code, data."""
    names = bytearray(b"\0")
    headers = [struct.pack(SECTION, *[0] * 10)]

    def add(name: str, kind: int, flags: int, at: int, size: int, link: int = 0, info: int = 0, item: int = 0) -> None:
        headers.append(struct.pack(SECTION, len(names), kind, flags, at, at, size, link, info, 8, item))
        names.extend(name.encode() + b"\0")

    add(".dynsym", 11, ALLOC, *tables["symtab"], link=3, info=1, item=24)
    add(".hash", 5, ALLOC, *tables["hash"], link=1, item=4)
    add(".dynstr", 3, ALLOC, *tables["strtab"])
    add(".rela.dyn", RELA_SECTION, ALLOC, *tables["rela"], link=1, item=24)
    add(".rodata", PROGBITS, ALLOC, *_rest(segments[0], tables["rela"]))
    add(".text", PROGBITS, ALLOC | EXEC, segments[1][0], segments[1][1] - segments[1][0])
    add(".dynamic", 6, ALLOC | WRITE, *dynamic, link=3, item=16)
    add(".data", PROGBITS, ALLOC | WRITE, *_rest(segments[2], dynamic))
    strings = len(image)
    names.extend(b".shstrtab\0")
    headers.append(struct.pack(SECTION, len(names) - 10, 3, 0, 0, strings, len(names), 0, 0, 1, 0))
    image += names
    image += bytes(-len(image) % 8)
    start = len(image)
    image += b"".join(headers)
    return start, len(headers), len(headers) - 1


def _rest(segment: tuple[int, int], part: tuple[int, int]) -> tuple[int, int]:
    """Address and bytes of what lies behind a part of a segment."""
    at = sum(part)
    return at, segment[1] - at
