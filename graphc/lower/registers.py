"""A program on registers, which binds a plan to sizes, and what refers to its registers: see binding.py, which writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.lower.codes import CONTRARY, Code
from graphc.records import record
from graphc.types import TensorType

if TYPE_CHECKING:
    from graphc.graph import Node


@record(frozen=True, eq=False)
class SizeProgram:
    """Instructions on registers, of which the first `inputs` hold sizes.

    names      of the sizes
    code       [n, 4]: operation, register of the result, registers of the operands (of LOOK: the place of its table, length first)
    registers  their first values: constants
    tables     of LOOK
    guards     how many instructions there are up to the last guard
    bound      how many up to the last value that running needs; the others are for reports
    texts      the guards, for people, each with who asked
    """

    names: tuple[str, ...]
    code: np.ndarray
    registers: np.ndarray
    tables: np.ndarray
    guards: int
    bound: int
    texts: tuple[tuple[str, str], ...] = ()

    def run(self, sizes: Sequence[int]) -> list[int] | None:
        """All registers; None where a guard does not hold."""
        r = self.registers.tolist()
        r[: len(sizes)] = sizes
        tables = self.tables
        for op, to, a, b in self.code.tolist():
            x = r[a]
            if op >= Code.LESS:
                if not _holds(op, x):
                    return None
            elif op == Code.LOOK:
                r[to] = int(tables[b + 1 + min(max(x, 0), int(tables[b]) - 1)])
            else:
                r[to] = _computed(op, x, r[b])
        return r

    def holds(self, sizes: Sequence[int]) -> bool:
        return replace(self, code=self.code[: self.guards]).run(sizes) is not None

    def broken(self, sizes: Sequence[int]) -> str | None:
        """The first guard that does not hold."""
        r = self.registers.tolist()
        r[: len(sizes)] = sizes
        count = 0
        for op, to, a, b in self.code[: self.guards].tolist():
            if op >= Code.LESS:
                if not _holds(op, r[a]):
                    return self.texts[count][0]
                count += 1
            elif op == Code.LOOK:
                r[to] = int(self.tables[b + 1 + min(max(r[a], 0), int(self.tables[b]) - 1)])
            else:
                r[to] = _computed(op, r[a], r[b])
        return None


def _holds(op: int, x: int) -> bool:
    plain = op - CONTRARY if op >= Code.NOT_LESS else op
    truth = x < 0 if plain == Code.LESS else x <= 0 if plain == Code.LESS_EQUAL else x == 0
    return truth != (op >= Code.NOT_LESS)


def _computed(op: int, x: int, y: int) -> int:
    match op:
        case Code.ADD:
            return x + y
        case Code.MULTIPLY:
            return x * y
        case Code.DIVIDE:
            return x // y if y else 0
        case Code.MINIMUM:
            return min(x, y)
        case Code.MAXIMUM:
            return max(x, y)
        case Code.BROADCAST:
            return y if x == 1 else x
        case _:
            return int(x > 0)


@record(frozen=True)
class Register:
    """In a record that was bound to no sizes yet: the number in that register."""

    index: int


@record(frozen=True, eq=False)
class Binding:
    """What depends on sizes in a table: rows of the word's index and the register of what goes there, and

    words      nothing more
    places     the arena's address is added
    constants  the index of the constant whose address is added
    externs    the index of the extern whose address is added
    choices    the first of the `variants` among which the register chooses; these are indices of kernels
    kernels    the same, with the number of a native step in the place of a word: what it calls
    costs      a register for each native step
    arena      the register of its bytes
    """

    program: SizeProgram
    words: np.ndarray
    places: np.ndarray
    constants: np.ndarray
    externs: np.ndarray
    choices: np.ndarray
    kernels: np.ndarray
    variants: np.ndarray
    costs: np.ndarray
    arena: int


def with_numbers(value: Any, registers: Sequence[int]) -> Any:
    """The value with numbers in the place of its Registers."""
    if type(value) is Register:
        return registers[value.index]
    if type(value) in (tuple, list):
        return type(value)(with_numbers(v, registers) for v in value) if _refers(value) else value
    if type(value) is dict:
        return {k: with_numbers(v, registers) for k, v in value.items()}
    if is_dataclass(value) and not isinstance(value, type) and _refers(value):
        return changed(value, lambda v: with_numbers(v, registers))
    return value


def with_dims(dtype: np.dtype, shape: tuple[Any, ...]) -> TensorType:
    """A type whose dims may be Registers."""
    return changed(TensorType(dtype, ()), lambda value: shape if value == () else value)


def node_with_numbers(node: Node, registers: Sequence[int]) -> Node:
    return with_facts(node, lambda value: with_numbers(value, registers))


def with_facts(node: Node, change: Callable[[Any], Any]) -> Node:
    """A node without operands, whose attributes and types of results are changed."""
    from graphc.facts import attrs_with_facts

    outputs = tuple(replace(v, type=change(v.type)) for v in node.outputs)
    return replace(node, inputs=(), outputs=outputs, attrs=attrs_with_facts(node, change))


def _refers(value: Any) -> bool:
    if type(value) is Register:
        return True
    if type(value) in (tuple, list):
        return any(map(_refers, value))
    if is_dataclass(value) and not isinstance(value, type):
        return any(_refers(getattr(value, f.name)) for f in fields(value))
    return False


def changed(record: Any, change: Any) -> Any:
    """A record with other fields, which its class need not take."""
    new = object.__new__(type(record))
    for f in fields(record):
        object.__setattr__(new, f.name, change(getattr(record, f.name)))
    return new
