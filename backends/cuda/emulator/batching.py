"""Neighbouring warp operations that do not need each other's results share one meeting of the warp."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from graphc.backends.cuda.emulator.helpers import program, put, slots_of, take
from graphc.backends.cuda.emulator.ir_text import NAME, SourceLines, bare, return_type, split
from graphc.backends.cuda.emulator.ptx import warp_operation
from graphc.backends.cuda.emulator.records import SLOTS

ASSEMBLY = re.compile(r'(.*?) ?asm (?:sideeffect )?(?:alignstack )?"((?:[^"\\]|\\.)*)", "[^"]*"\((.*)\)(?: #\d+)?$')
CALL = re.compile(r"^(\s*(?:(%\S+) = )?)(?:(?:tail|musttail|notail) )?call (.*)$")
_VALUE = re.compile(rf"%{NAME}")
_RESULT = re.compile(r"\s+(%\S+) = (.*)")
# instructions that can change places with a warp operation that reads no more than shared memory, if they do not use its result
_MOVABLE = re.compile(
    r"(?:extractvalue|insertvalue|extractelement|insertelement|getelementptr|bitcast|addrspacecast|ptrtoint|inttoptr|add|sub|mul"
    r"|shl|lshr|ashr|and|or|xor|select|icmp|fcmp|zext|sext|trunc|fadd|fsub|fmul|fdiv|fneg|fptrunc|fpext|load (?!atomic|volatile)"
    r'|call \S+ asm "cvt)\b'
)


class _Pending(NamedTuple):
    """A warp operation that waits for its meeting."""

    name: str
    operation: int
    returns: str
    operands: list[str]
    first: int  # slot
    source_line: int
    text: str


def batched(text: Iterable[str], lines: SourceLines) -> Iterator[str]:
    """The lines of a module, with meetings of several operations as calls of @emu.collective."""
    batch = _Batch(lines)
    for line in text:
        yield from batch.take(line)
    yield from batch.flush()


class _Batch:
    def __init__(self, lines: SourceLines) -> None:
        self._lines = lines
        self._count = 0
        self._clear()

    def _clear(self) -> None:
        self._pending: list[_Pending] = []
        self._deferred: list[str] = []  # what uses results of pending operations
        self._results: set[str] = set()  # of pending operations, and of what is deferred
        self._slots = 0

    def take(self, line: str) -> Iterator[str]:
        result = _RESULT.match(line)
        if result is None:
            yield from self.flush()
            yield line
            return
        uses = not self._results.isdisjoint(_VALUE.findall(result[2]))
        operation = self._operation(line)
        if operation is not None:
            if uses or operation.first + self._need(operation) > SLOTS:
                yield from self.flush()
                operation = operation._replace(first=0)
            self._pending.append(operation)
            self._results.add(operation.name)
            self._slots = operation.first + self._need(operation)
        elif self._pending and _MOVABLE.match(result[2]):
            if uses:
                self._deferred.append(line)
                self._results.add(result[1])
            else:
                yield line
        else:
            yield from self.flush()
            yield line

    def _operation(self, line: str) -> _Pending | None:
        call = CALL.match(line) if "asm" in line else None
        assembly = ASSEMBLY.match(bare(call[3])) if call else None
        operation = warp_operation(assembly[2].strip()) if assembly else None
        if call is None or assembly is None or operation is None:
            return None
        returns = return_type(assembly[1])
        return _Pending(call[2], operation, returns, split(assembly[3]), self._slots, self._lines.of(line), line)

    @staticmethod
    def _need(operation: _Pending) -> int:
        """Slots, for operands and then for results."""
        results = split(operation.returns[1:-1]) if operation.returns.startswith("{") else [operation.returns]
        return max(sum(slots_of(o.split()[0]) for o in operation.operands), len(results))

    def flush(self) -> Iterator[str]:
        pending, deferred = self._pending, self._deferred
        self._clear()
        if len(pending) == 1:
            yield pending[0].text
        elif pending:
            yield from (f"  {line}" for line in self._meeting(pending))
        yield from deferred

    def _meeting(self, pending: list[_Pending]) -> Iterator[str]:
        self._count += 1
        for i, p in enumerate(pending):
            yield from put(p.operands, p.first, f"emu.b{self._count}.{i}")
        name = program(*(n for p in pending for n in (p.operation, p.first)))
        line = pending[0].source_line
        yield f"call void @emu.collective(ptr %emu.fiber, i64 ptrtoint (ptr {name} to i64), i64 -1, i64 {line})"
        for i, p in enumerate(pending):
            yield from take(p.returns, p.first, p.name, f"emu.t{self._count}.{i}")
