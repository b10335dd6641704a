"""A program for many sizes in one arena: its table filled in anew for each binding, by native code in microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.backends.cpu.executor.program_block import BIND, BOUND, TOO_SMALL
from graphc.backends.cpu.runtime import entry
from graphc.lower import registers
from graphc.lower.registers import Register
from graphc.memory_limit import require

if TYPE_CHECKING:
    from graphc.backends.cpu.runtime.arenas import Arena
    from graphc.backends.cpu.runtime.run import RunContext, Runner
    from graphc.backends.cpu.runtime.threads import Executor
    from graphc.graph import Node
    from graphc.lower.assembled import Extern
    from graphc.lower.registers import SizeProgram

WORD = 8


class Guards:
    """Tells whether a program is for some sizes."""

    def __init__(self, program: SizeProgram, executor: Executor) -> None:
        self._registers, self._bind = program.registers, executor.bind
        self._alive = code, tables = np.ascontiguousarray(program.code), np.ascontiguousarray(program.tables)
        words = BIND(
            code=code.ctypes.data, guards=program.guards, count=program.bound, tables=tables.ctypes.data, targets=0,
            target_count=0, choices=0, choice_count=0, kernels=0, arena=0, capacity=0,
        )  # fmt: skip
        self._record = np.array(words, np.int64)
        self._address = self._record.ctypes.data

    def hold(self, sizes: Sequence[int]) -> bool:
        registers = self._registers.copy()  # of this call: other threads may ask, too
        registers[: len(sizes)] = sizes
        return self._bind(self._address, registers.ctypes.data, 1) == BOUND


class Bound:
    """What fills in a context's table. `registers` are those of the last binding."""

    def __init__(
        self, runner: Runner, context: RunContext, arena: Arena, records: Sequence[np.ndarray], inputs: Sequence[Extern]
    ) -> None:
        """records: of the entries, without and with a look at the inputs."""
        b = runner.assembled.binding
        assert b is not None
        assert not len(b.kernels), "the executor calls the same drivers for all sizes"
        self._runner, self._binding = runner, b
        self.registers = b.program.registers.copy()
        table = context.table.ctypes.data
        rows = [(table + WORD * at, register, 0) for at, register in b.words.tolist()]
        rows += [(table + WORD * at, register, arena.address) for at, register in b.places.tolist()]
        constants = runner.constants
        rows += [(table + WORD * at, register, int(constants[i])) for at, register, i in b.constants.tolist()]
        rows += self._offsets(context, b.externs.tolist(), table, records)
        rows += self._looked_at(records, inputs)
        self._targets = np.array(rows, np.int64).reshape(-1, 3)
        self._choices = b.choices.copy()
        self._choices[:, 0] = table + WORD * b.choices[:, 0]
        self._code, self._tables = np.ascontiguousarray(b.program.code), np.ascontiguousarray(b.program.tables)
        words = BIND(
            code=self._code.ctypes.data, guards=b.program.guards, count=b.program.bound, tables=self._tables.ctypes.data,
            targets=self._targets.ctypes.data, target_count=len(rows), choices=self._choices.ctypes.data,
            choice_count=len(self._choices), kernels=runner.variants.ctypes.data, arena=b.arena,
            capacity=arena.memory.nbytes,
        )  # fmt: skip
        self._record = np.array(words, np.int64)
        self._addresses = self._record.ctypes.data, self.registers.ctypes.data
        self._bind = runner.executor.bind

    def _offsets(
        self, context: RunContext, externs: list[list[int]], table: int, records: Sequence[np.ndarray]
    ) -> list[tuple[int, int, int]]:
        """Offsets into inputs and results: the entries' records have them, and the context's own lists."""
        rows: list[tuple[int, int, int]] = []
        for at, register, index in externs:
            words, offsets = context.externs[index]
            rows.append((offsets.ctypes.data + WORD * int(np.flatnonzero(words == at)[0]), register, 0))
            for record in records:
                place = entry.word_of(record, table + WORD * at)
                if place is not None:
                    rows.append((record.ctypes.data + WORD * place, register, 0))
        return rows

    def _looked_at(self, records: Sequence[np.ndarray], inputs: Sequence[Extern]) -> list[tuple[int, int, int]]:
        """Dims of the inputs that the entry looks at."""
        if not records:
            return []
        start, at = records[1].ctypes.data, entry.FIXED
        rows: list[tuple[int, int, int]] = []
        for e in inputs:
            dims: tuple[Any, ...] = e.shape
            for axis, d in enumerate(dims):
                if type(d) is Register:
                    rows.append((start + WORD * (at + 2 + axis), d.index, 0))
            at += 2 + len(e.shape)
        return rows

    def fit(self, context: RunContext, sizes: tuple[int, ...]) -> int | None:
        """See `RunContext.fit`."""
        r = self.registers
        r[: len(sizes)] = sizes
        failed = self._bind(*self._addresses, 0)
        if failed == TOO_SMALL:
            wanted = int(r[self._binding.arena])
            require(wanted, f"values between the steps for sizes {', '.join(map(str, sizes))}")
            return wanted
        assert failed == BOUND, self._binding.program.broken(sizes)
        context.results = [
            (tuple([d if type(d) is int else int(r[d.index]) for d in shape]), dtype)
            for shape, dtype in self._runner.results
        ]
        for (name, *_), (shape, dtype) in zip(self._runner.named, context.results):
            require(prod(shape) * dtype.itemsize, f"'{name}' of shape {shape}")
        context.named = [(name, *result) for (name, *_), result in zip(self._runner.named, context.results)]
        if self._runner.executor.threads > 1:
            context.share(r[self._binding.costs])
        return None

    def with_numbers(self, value: Any) -> Any:
        """Of the last binding. What only reports need is computed now."""
        return registers.with_numbers(value, self._all())

    def node_with_numbers(self, node: Node) -> Node:
        return registers.node_with_numbers(node, self._all())

    def _all(self) -> list[int]:
        r = self._binding.program.run(self.registers[: len(self._binding.program.names)].tolist())
        assert r is not None
        return r
