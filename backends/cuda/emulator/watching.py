"""The checking mode: calls that tell the checker of each load, store and atomic operation, but of those of local variables."""

from __future__ import annotations

import re

from graphc.backends.cuda.emulator.ir_text import layout_of, split, type_of
from graphc.backends.cuda.emulator.operations import ATOMIC, READ, VOLATILE, WRITE
from graphc.errors import UnsupportedError

FIBER = "%emu.fiber"
_DERIVED = re.compile(
    r"\s*(%\S+) = (?:getelementptr (?:inbounds |nuw |nusw )*[^@%]*|bitcast |freeze )ptr ([%@][^\s,]+)"
)
_LOAD = re.compile(r"\s*%\S+ = load (atomic )?(volatile )?(.*)$")
_STORE = re.compile(r"\s*store (atomic )?(volatile )?(.*)$")
_UPDATE = re.compile(r"\s*(?:%\S+ = )?atomicrmw (?:volatile )?\w+ (.*)$")
_EXCHANGE = re.compile(r"\s*(?:%\S+ = )?cmpxchg (?:weak )?(?:volatile )?(.*)$")
_BULK = re.compile(r"\s*(?:tail )?call void @llvm\.(memcpy|memmove|memset)\.[\w.]+\((.*)\)")
_NARROW = re.compile(r"\b(?:ld|st)\.\S*\.[busf](8|16) ")  # loads and stores in PTX
_ALIGN = re.compile(r"align (\d+)")
# intrinsics with pointers that touch no memory
_HARMLESS = re.compile(
    r"@llvm\.(?:lifetime|assume|prefetch|invariant|dbg|experimental\.noalias|stacksave|stackrestore)\b"
)


class Watch:
    """Of one module, function by function. grain: log2 of the bytes of the smallest access, at most 4."""

    def __init__(self) -> None:
        self.grain = 2
        self._count = 0
        self._local: set[str] = set()

    def begin_function(self) -> None:
        self._local = {FIBER}

    def assembly(self, text: str) -> None:
        """Inline PTX reports its accesses itself."""
        if m := _NARROW.search(text):
            self.grain = min(self.grain, 0 if m[1] == "8" else 1)

    def before(self, line: str, source_line: int) -> list[str]:
        """What goes before an instruction. Raises UnsupportedError for an access that it does not understand."""
        m = re.match(r"\s*(%\S+) = alloca ", line)
        if m:
            self._local.add(m[1])
            return []
        m = _DERIVED.match(line)
        if m:
            if m[2] in self._local or m[2].startswith("@"):  # constants of the module are as good as local
                self._local.add(m[1])
            return []
        if m := _BULK.match(line):
            return self._bulk(m[1], split(m[2]), source_line)
        for pattern, kind in ((_LOAD, READ), (_STORE, WRITE), (_UPDATE, ATOMIC), (_EXCHANGE, ATOMIC)):
            if m := pattern.match(line):
                if pattern in (_LOAD, _STORE) and (m[1] or m[2]):
                    kind = VOLATILE if pattern is _LOAD else ATOMIC if m[1] else WRITE
                return self._single(line, split(m[m.lastindex or 0]), kind, source_line)
        if re.search(r"call .*@llvm\..*\bptr ", line) and not _HARMLESS.search(line):
            raise UnsupportedError(f"the emulator does not know what memory this touches: {line.strip()}")
        return []

    def _single(self, line: str, operands: list[str], kind: int, source_line: int) -> list[str]:
        """operands: as they are written. A load or a store has what is accessed first, others have the address first."""
        first = operands[0].startswith("ptr ") and kind == ATOMIC and not line.lstrip().startswith("store")
        address, accessed = (operands[0], operands[1]) if first else (operands[1], operands[0])
        size, natural = layout_of(type_of(accessed))
        self.grain = min(self.grain, size.bit_length() - 1)
        pointer = address.split()[1]
        if pointer in self._local or "@" in address:
            return []
        if not pointer.startswith("%"):
            raise UnsupportedError(f"the emulator does not know this address: {line.strip()}")
        stated = next((int(a[1]) for o in operands if (a := _ALIGN.fullmatch(o))), natural)
        return self._report(pointer, f"i64 {size}", min(stated, 16), kind, source_line)

    def _bulk(self, name: str, operands: list[str], source_line: int) -> list[str]:
        self.grain = 0
        found = []
        kind, number = operands[2].split()
        if kind != "i64" and number.startswith("%"):
            self._count += 1
            found.append(f"  %emu.n{self._count} = zext {kind} {number} to i64")
            number = f"%emu.n{self._count}"
        accesses = [(operands[0], WRITE)] + ([(operands[1], READ)] if name != "memset" else [])
        for operand, access in accesses:
            address = operand.split()[-1]
            if address.startswith("%") and address not in self._local:
                found += self._report(address, f"i64 {number}", 1, access, source_line)
        return found

    def _report(self, pointer: str, size: str, alignment: int, kind: int, source_line: int) -> list[str]:
        self._count += 1
        address = f"%emu.c{self._count}"
        return [
            f"  {address} = ptrtoint ptr {pointer} to i64",
            f"  call void @emu.check(ptr {FIBER}, i64 {address}, {size}, i64 {alignment}, i64 {kind}, i64 {source_line})",
        ]
