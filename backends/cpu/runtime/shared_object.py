"""Object files -> one shared object, so that a second process loads all kernels of a model at once, without LLVM.

Three segments: read only, code, data. Kernels keep their names, so profilers and debuggers see them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from graphc.backends.cpu.runtime.linkage import Linkage, Pointer, place, round_up
from graphc.backends.cpu.runtime.object_file import HEADER, RELA, SYMBOL, UNDEFINED, X86_64

PAGE = 4096
_PROGRAM_HEADER, _DYNAMIC = "<IIQQQQQQ", "<qQ"
_SHARED, _R_64, _R_RELATIVE = 3, 1, 8


def link(objects: Mapping[str, bytes]) -> bytes:
    """A shared object of `objects`: the symbol that each exports -> its code. Raises CantLink."""
    return _Image(Linkage(objects)).build()


class _Image:
    def __init__(self, program: Linkage) -> None:
        self.program = program
        self.names = bytearray(b"\0")
        self.name_at: dict[str, int] = {}
        for name in [*program.imports, *(s.name for s in program.exports)]:
            self.name_at[name] = len(self.names)
            self.names += name.encode() + b"\0"

    def build(self) -> bytes:
        program = self.program
        symbols = 1 + len(program.imports) + len(program.exports)
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
        ends.append(place(program.data, dynamic + 16 * 10))
        pointers = program.resolve()
        image = bytearray(ends[2])
        for s in (*program.constant, *program.code, *program.data):
            image[s.address : s.address + len(s.data)] = s.data
        self._write_tables(image, tables, dynamic, pointers)
        segments = [(4, starts[0], ends[0]), (5, starts[1], ends[1]), (6, starts[2], ends[2])]
        headers = [(1, flags, a, a, a, b - a, b - a, PAGE) for flags, a, b in segments]
        headers += [
            (2, 6, dynamic, dynamic, dynamic, 160, 160, 8),
            (0x6474E551, 6, 0, 0, 0, 0, 0, 16),
        ]  # no executable stack
        ident = b"\x7fELF\2\1\1".ljust(16, b"\0")
        struct.pack_into(HEADER, image, 0, ident, _SHARED, X86_64, 1, 0, 64, 0, 0, 64, 56, len(headers), 64, 0, 0)
        for i, h in enumerate(headers):
            struct.pack_into(_PROGRAM_HEADER, image, 64 + 56 * i, *h)
        return bytes(image)

    def _write_tables(self, image: bytearray, at: Mapping[str, int], dynamic: int, pointers: Sequence[Pointer]) -> None:
        number = {name: 1 + i for i, name in enumerate(self.program.imports)}
        symbols = [(0, 0, 0, 0, 0, 0)]
        symbols += [(self.name_at[n], 0x12, 0, UNDEFINED, 0, 0) for n in self.program.imports]  # global functions
        symbols += [(self.name_at[s.name], 0x12, 0, 1, s.address, 0) for s in self.program.exports]
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
            (7, at["rela"]), (8, 24 * len(pointers)), (9, 24), (30, 8), (0, 0),
        ]  # fmt: skip
        for i, tag in enumerate(tags):
            struct.pack_into(_DYNAMIC, image, dynamic + 16 * i, *tag)
