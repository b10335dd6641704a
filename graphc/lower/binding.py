"""What binds a plan to sizes: guards, and every number that depends on sizes, as one small program over registers.

A plan that was made for many sizes (graphc/sizes.py) holds expressions. They are flattened once into instructions on int64
registers, each value computed once; what is bound to sizes is then computed in microseconds, by native code
(backends/cpu/executor/bind_driver.py) or, for reports and errors, by `SizeProgram.run` (registers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.dims import Dim, Sym
from graphc.lower.codes import CONTRARY, Code
from graphc.lower.guards import summed_up
from graphc.lower.registers import Register, SizeProgram, changed, with_facts
from graphc.sizes import Definition, Size, Trace, holds_sizes

if TYPE_CHECKING:
    from graphc.graph import Node


Row = tuple[int, int, int, int]  # operation, result, two operands


_TEXTS = {
    Code.ADD: "{x} + {y}", Code.MULTIPLY: "{x} * {y}", Code.DIVIDE: "{x} // {y} if {y} else 0",
    Code.MINIMUM: "{x} if {x} < {y} else {y}", Code.MAXIMUM: "{x} if {x} > {y} else {y}",
    Code.BROADCAST: "{y} if {x} == 1 else {x}", Code.POSITIVE: "{x} > 0 and 1 or 0",
}  # fmt: skip
_CONDITIONS = {Code.LESS: "{x} < 0", Code.LESS_EQUAL: "{x} <= 0", Code.EQUAL: "{x} == 0"}


def compiled(p: SizeProgram) -> Callable[..., list[int] | None]:
    """`p.run` as a function of the sizes: of Python's own code, which takes a tenth of the time."""
    tables: list[list[int]] = []
    initial, lines = p.registers.tolist(), []
    names = [f"r{i}" if i < len(p.names) else str(n) for i, n in enumerate(initial)]
    for op, to, a, b in p.code.tolist():
        if op >= Code.LESS:
            plain = op - CONTRARY if op >= Code.NOT_LESS else op
            truth = _CONDITIONS[Code(plain)].format(x=names[a])
            lines.append(f"if {truth if op >= Code.NOT_LESS else f'not {truth}'}: return None")
            continue
        names[to] = f"r{to}"
        if op == Code.LOOK:
            length = int(p.tables[b])
            lines.append(f"r{to} = t{len(tables)}[min(max({names[a]}, 0), {length - 1})]")
            tables.append(p.tables[b + 1 : b + 1 + length].tolist())
        else:
            lines.append(f"r{to} = {_TEXTS[Code(op)].format(x=names[a], y=names[b])}")
    head = f"def run({', '.join(names[: len(p.names)])}):"
    scope: dict[str, Any] = {f"t{i}": table for i, table in enumerate(tables)}
    exec("\n    ".join([head, *lines, f"return [{', '.join(names)}]"]), scope)
    run: Callable[..., list[int] | None] = scope["run"]
    return run


class Writer:
    """Writes a SizeProgram for a trace: guards first, then values in the order in which they are asked for."""

    def __init__(self, trace: Trace, names: Sequence[str]) -> None:
        """names: of the sizes that the inputs give, in their order."""
        self.trace, self.names = trace, tuple(names)
        self.code: list[Row] = []
        self.initial: list[int] = [0] * len(names)
        self._constants: dict[int, int] = {}
        self._known: dict[Any, int] = {("size", name): i for i, name in enumerate(names)}
        self._tables: list[int] = []
        self._texts: list[tuple[str, str]] = []
        for test in summed_up(trace, names):
            self.code.append((test.code, 0, self.register(test.expr), 0))
            self._texts.append((test.text, test.where))
        self.guards = len(self.code)
        self.bound = self.guards

    def end_of_bound(self) -> None:
        """What follows is for reports."""
        self.bound = len(self.code)

    @property
    def program(self) -> SizeProgram:
        return SizeProgram(
            self.names,
            np.array(self.code, np.int64).reshape(-1, 4),
            np.array(self.initial, np.int64),
            np.array(self._tables or [0], np.int64),
            self.guards,
            self.bound,
            tuple(self._texts),
        )

    # --- values --------------------------------------------------------------------------------------------------
    def of(self, value: Any) -> int:
        """The register of a Size or a number."""
        return self.register(value.expr) if type(value) is Size else self._constant(int(value))

    def register(self, dim: Dim) -> int:
        if not isinstance(dim, Sym):
            return self._constant(dim)
        found = self._known.get(dim)
        if found is None:
            found = self._known[dim] = self._sum(dim)
        return found

    def emit(self, op: Code, a: int, b: int = 0) -> int:
        key = op, a, b
        if key not in self._known:
            self._known[key] = self._new(0)
            self.code.append((op, self._known[key], a, b))
        return self._known[key]

    def add(self, a: int, b: int) -> int:
        return self.emit(Code.ADD, a, b)

    def largest(self, registers: Iterable[int]) -> int:
        found = list(dict.fromkeys(registers))
        top = found[0] if found else self._constant(0)
        for r in found[1:]:
            top = self.emit(Code.MAXIMUM, top, r)
        return top

    def _new(self, value: int) -> int:
        self.initial.append(value)
        return len(self.initial) - 1

    def _constant(self, n: int) -> int:
        if n not in self._constants:
            self._constants[n] = self._new(n)
        return self._constants[n]

    def _sum(self, dim: Sym) -> int:
        total = None
        for monomial, coefficient in dim.terms.items():
            term = None
            for atom, power in sorted(monomial, key=repr):
                factor = self._atom(atom)
                for _ in range(power):
                    term = factor if term is None else self.emit(Code.MULTIPLY, term, factor)
            if term is None:
                term = self._constant(coefficient)
            elif coefficient != 1:
                term = self.emit(Code.MULTIPLY, term, self._constant(coefficient))
            total = term if total is None else self.emit(Code.ADD, total, term)
        assert total is not None
        return total

    def _atom(self, atom: Any) -> int:
        if atom.op == "size":
            name = atom.args[0]
            found = self._known.get(("size", name))
            if found is None:
                found = self._known["size", name] = self._defined(self.trace.definitions[name])
            return found
        args = [self.register(d) for d in (atom.args if atom.op == "//" else sorted(atom.args, key=str))]
        op = {"//": Code.DIVIDE, "min": Code.MINIMUM, "max": Code.MAXIMUM, "broadcast": Code.BROADCAST}[atom.op]
        total = args[0]
        for a in args[1:]:
            total = self.emit(op, total, a)
        return total

    def _defined(self, definition: Definition) -> int:
        operand = self.register(definition.args[0])
        if definition.op == "is":
            return operand
        if definition.op == "positive":
            return self.emit(Code.POSITIVE, operand)
        at = len(self._tables)
        self._tables += [len(definition.args[1]), *definition.args[1]]
        return self.emit(Code.LOOK, operand, at)

    def with_registers(self, value: Any) -> Any:
        """The value (a number, a tuple, a list, a record) with Registers in the place of its sizes."""
        if type(value) is Size:
            return Register(self.of(value))
        if not holds_sizes(value):
            return value
        if type(value) in (tuple, list):
            return type(value)(map(self.with_registers, value))
        if type(value) is dict:
            return {k: self.with_registers(v) for k, v in value.items()}
        return changed(value, self.with_registers)

    def node_with_registers(self, node: Node) -> Node:
        """A node that runs on the host: types of its results and its attributes."""
        return with_facts(node, self.with_registers)
