"""Sequences and optionals, as far as a graph of tensors can say them: a list of values that is known when reading.

Exporters use them for split, chunk, stack and unbind. Positions and lengths must not depend on the inputs' values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Union

import numpy as np

from graphc.errors import TypeRuleError, UnsupportedError
from graphc.frontends.onnx_values import KnowingBuilder
from graphc.graph import Value

_MAX_PARTS = 10_000  # of one split: each is a value of the graph


@dataclass(frozen=True, eq=False)
class SequenceValue:
    """A sequence while a graph is read: its elements."""

    items: tuple[Value, ...]
    type = None
    is_const = False


Item = Union[Value, SequenceValue]


@dataclass(frozen=True)
class SequenceUse:
    """One node: operands, attributes, and where to add nodes."""

    operands: list[Item | None]
    attrs: Mapping[str, Any]
    builder: KnowingBuilder

    def items(self, i: int = 0) -> tuple[Value, ...]:
        if i >= len(self.operands) or not isinstance(self.operands[i], SequenceValue):
            raise TypeRuleError(f"operand {i} must be a sequence")
        return self.operands[i].items

    def tensor(self, i: int) -> Value:
        if i >= len(self.operands) or not isinstance(self.operands[i], Value):
            raise TypeRuleError(f"operand {i} must be a tensor")
        return self.operands[i]

    def has(self, i: int) -> bool:
        return i < len(self.operands) and self.operands[i] is not None

    def ints(self, i: int, what: str) -> np.ndarray:
        """A constant operand. Raises UnsupportedError when it is computed from the inputs."""
        data = self.builder.constant_of(self.tensor(i))
        if data is None:
            raise UnsupportedError(
                f"{what} that depends on the inputs", hint="export with fixed sizes, or a Loop's output"
            )
        return data

    def position(self, i: int, length: int, default: int) -> int:
        """An index operand in 0 ≤ index < length."""
        at = int(self.ints(i, "a position").reshape(())) if self.has(i) else default
        if not -length <= at < max(length, 1):
            raise TypeRuleError(f"position {at} in a sequence of {length}")
        return at % max(length, 1) if at < 0 else at


def _insert(use: SequenceUse) -> Item:
    items = list(use.items())
    items.insert(use.position(2, len(items) + 1, len(items)), use.tensor(1))
    return SequenceValue(tuple(items))


def _erase(use: SequenceUse) -> Item:
    items = list(use.items())
    del items[use.position(1, len(items), len(items) - 1)]
    return SequenceValue(tuple(items))


def _concat(use: SequenceUse) -> Item:
    items, axis = use.items(), use.attrs.get("axis", 0)
    if use.attrs.get("new_axis", 0):
        items = tuple(use.builder.add("Unsqueeze", v, use.builder.constant([axis], np.int64)) for v in items)
    return use.builder.add("Concat", *items, axis=axis)


def _split(use: SequenceUse) -> Item:
    x, axis = use.tensor(0), use.attrs.get("axis", 0)
    split = use.ints(1, "a split").astype(np.int64) if use.has(1) else np.array(1, np.int64)
    if split.ndim:
        sizes = split
    else:
        if x.type is None or not isinstance(x.type.shape[axis], int):
            raise UnsupportedError(f"a split along an axis of unknown size ({x.type})", hint="fix that dim")
        size, step = x.type.shape[axis], int(split)
        if step < 1 or size > step * _MAX_PARTS:
            raise TypeRuleError(f"parts of {step} of a dim of {size}", hint=f"at most {_MAX_PARTS} parts")
        sizes = np.array([min(step, size - at) for at in range(0, size, step)], np.int64)
    parts = use.builder.add("Split", x, use.builder.constant(sizes), axis=axis, outputs=len(sizes))
    parts = parts if isinstance(parts, tuple) else (parts,)
    if not use.has(1) and not use.attrs.get("keepdims", 1):
        parts = tuple(use.builder.add("Squeeze", v, use.builder.constant([axis], np.int64)) for v in parts)
    return SequenceValue(parts)


def _whole(use: SequenceUse) -> Item:
    if not use.has(0):
        raise UnsupportedError("an empty optional", hint="export the branch that is used")
    return use.operands[0]


SEQUENCE_OPS: dict[str, Callable[[SequenceUse], Item]] = {
    "SequenceEmpty": lambda use: SequenceValue(()),
    "SequenceConstruct": lambda use: SequenceValue(tuple(use.tensor(i) for i in range(len(use.operands)))),
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceAt": lambda use: use.items()[use.position(1, len(use.items()), 0)],
    "SequenceLength": lambda use: use.builder.constant(len(use.items()), np.int64),
    "ConcatFromSequence": _concat,
    "SplitToSequence": _split,
    "Optional": _whole,
    "OptionalGetElement": _whole,
    "OptionalHasElement": lambda use: use.builder.constant(use.has(0), np.bool_),
}
