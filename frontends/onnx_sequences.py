"""Sequences and optionals, as far as a graph of tensors can say them: then all of it is compiled.

Exporters use them for split, chunk, stack and unbind. A sequence is a list of values that is known when reading, or the parts of
one tensor, whose number and sizes may be known at run time only. What can't be said so becomes values of the graph
(graphc/ops/sequences.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
from onnx import TensorProto

from graphc.errors import TypeRuleError
from graphc.frontends.onnx_data import dtype_of
from graphc.frontends.onnx_values import KnowingBuilder
from graphc.graph import Value
from graphc.objects import is_object
from graphc.types import number

_MAX_PARTS = 10_000  # of one split: each is a value of the graph


class AtRunTime(Exception):
    """Tensors can't say it."""


class SequenceValue:
    """A sequence, or an optional, while a graph is read. Methods add nodes to a builder, and raise AtRunTime."""

    type = None
    is_const = False

    def items(self) -> tuple[Value, ...]:
        """Its elements, where their number is known."""
        raise AtRunTime

    def length(self, b: KnowingBuilder) -> Value:
        """Number of elements, int64[]."""
        raise AtRunTime

    def at(self, b: KnowingBuilder, position: Value) -> Value:
        """The element at a position, int[], that is known at run time; negative ones count from the end."""
        raise AtRunTime

    def joined(self, b: KnowingBuilder, axis: int, new_axis: bool) -> Value:
        """The elements concatenated along an axis, or stacked along a new one."""
        raise AtRunTime

    def value(self, b: KnowingBuilder) -> Value:
        """It as a value of the graph."""
        raise NotImplementedError

    def mapped(self, f: Callable[[Value], Value]) -> SequenceValue:
        """The same of other values, as a subgraph that captures them has them."""
        raise NotImplementedError


Item = Union[Value, SequenceValue]


@dataclass(frozen=True, eq=False)
class Listed(SequenceValue):
    """A list of values. dtype: that of their elements, where there are none."""

    values: tuple[Value, ...]
    dtype: np.dtype = np.dtype(np.float32)

    @property
    def count(self) -> int:
        return len(self.values)

    def value(self, b: KnowingBuilder) -> Value:
        return b.add("SequenceConstruct", *self.values) if self.values else b.add("SequenceEmpty", dtype=self.dtype)

    def mapped(self, f: Callable[[Value], Value]) -> Listed:
        return Listed(tuple(map(f, self.values)), self.dtype)

    def items(self) -> tuple[Value, ...]:
        return self.values

    def length(self, b: KnowingBuilder) -> Value:
        return b.constant(len(self.values), np.int64)

    def at(self, b: KnowingBuilder, position: Value) -> Value:
        if not self.values or any(v.type is None or v.type != self.values[0].type for v in self.values):
            raise AtRunTime
        return b.add("Gather", self.joined(b, 0, True), position, axis=0)

    def joined(self, b: KnowingBuilder, axis: int, new_axis: bool) -> Value:
        if not self.values:
            raise TypeRuleError("an empty sequence has nothing to concatenate")
        parts = self.values
        if new_axis:
            parts = tuple(b.add("Unsqueeze", v, _ints(b, axis)) for v in parts)
        return b.add("Concat", *parts, axis=axis)


@dataclass(frozen=True, eq=False)
class Slices(SequenceValue):
    """x cut along an axis into parts of one, which keep that axis or lose it."""

    x: Value
    axis: int
    keepdims: bool

    def value(self, b: KnowingBuilder) -> Value:
        return b.add("SplitToSequence", self.x, axis=self.axis, keepdims=self.keepdims)

    def mapped(self, f: Callable[[Value], Value]) -> Slices:
        return Slices(f(self.x), self.axis, self.keepdims)

    def length(self, b: KnowingBuilder) -> Value:
        return _size(b, self.x, self.axis)

    def at(self, b: KnowingBuilder, position: Value) -> Value:
        at = b.add("Reshape", position, _ints(b, 1) if self.keepdims else b.constant([], np.int64))
        return b.add("Gather", self.x, at, axis=self.axis)

    def joined(self, b: KnowingBuilder, axis: int, new_axis: bool) -> Value:
        x, n = self.x, self.axis
        if self.keepdims and axis == n and not new_axis:
            return x
        if self.keepdims:
            x = b.add("Unsqueeze", x, _ints(b, n + 1))
        rank = len(x.type.shape)  # of the elements, one less
        axis = _axis(axis, rank if new_axis else rank - 1)
        order = [a for a in range(rank) if a != n]
        order.insert(axis, n)
        moved = x if order == sorted(order) else b.add("Transpose", x, perm=order)
        if new_axis:
            return moved
        shape = b.add("Shape", moved)
        merged = b.add("Mul", _size(b, moved, axis), _size(b, moved, axis + 1))
        before = b.add("Slice", shape, _ints(b, 0), _ints(b, axis))
        behind = b.add("Slice", shape, _ints(b, axis + 2), _ints(b, rank))
        dims = b.add("Concat", before, b.add("Reshape", merged, _ints(b, 1)), behind, axis=0)
        return b.add("Reshape", moved, dims, allowzero=1)


_SIZES = "sizes_of_parts_that_sum_to_the_dim"  # the node that an error names


@dataclass(frozen=True, eq=False)
class Parts(SequenceValue):
    """x cut along an axis into parts whose sizes are `split`: one number for all (the last may be smaller), or one each."""

    x: Value
    axis: int
    split: Value

    def value(self, b: KnowingBuilder) -> Value:
        return b.add("SplitToSequence", self.x, self.split, axis=self.axis)

    def mapped(self, f: Callable[[Value], Value]) -> Parts:
        return Parts(f(self.x), self.axis, f(self.split))

    def length(self, b: KnowingBuilder) -> Value:
        return _size(b, self._numbers(b), 0)

    def _fit(self, b: KnowingBuilder) -> Value:
        """Are the sizes those of parts that make up the dim? bool[]."""
        zero = b.constant(0, np.int64)
        if not self.split.type.rank:
            return b.add("Greater", self.split, zero)
        least = b.add("ReduceMin", b.add("Concat", self.split, _ints(b, 0), axis=0), keepdims=False)
        total = b.add("ReduceSum", self.split, keepdims=False)
        return b.add("And", b.add("Equal", total, _size(b, self.x, self.axis)), b.add("Equal", least, zero))

    def _numbers(self, b: KnowingBuilder) -> Value:
        """0, 1 … of the parts. The step is 0, which Range refuses, where the sizes do not fit."""
        if self.split.type.rank:
            n = _size(b, self.split, 0)
        else:
            whole, step = _size(b, self.x, self.axis), b.add("Max", self.split, b.constant(1, np.int64))
            n = b.add("Div", b.add("Sub", b.add("Add", whole, step), b.constant(1, np.int64)), step)
        return b.add("Range", b.constant(0, np.int64), n, b.add("Cast", self._fit(b), to=np.int64), name=_SIZES)

    def at(self, b: KnowingBuilder, position: Value) -> Value:
        position = b.add("Gather", self._numbers(b), position)
        if self.split.type.rank:
            end = b.add("Gather", b.add("CumSum", self.split, b.constant(0, np.int64)), position)
            start = b.add("Sub", end, b.add("Gather", self.split, position))
        else:
            start = b.add("Mul", position, self.split)
            end = b.add("Add", start, self.split)
        start, end = (b.add("Reshape", v, _ints(b, 1)) for v in (start, end))
        return b.add("Slice", self.x, start, end, _ints(b, self.axis))

    def joined(self, b: KnowingBuilder, axis: int, new_axis: bool) -> Value:
        if new_axis or _axis(axis, self.x.type.rank) != self.axis:
            raise AtRunTime
        wrong = b.add("Cast", b.add("Not", self._fit(b)), to=np.int64)
        fine = b.add("Gather", b.constant([True]), wrong, name=_SIZES)  # refuses position 1
        return b.add("Where", fine, self.x, b.constant(np.zeros((), self.x.type.dtype)))


@dataclass(frozen=True, eq=False)
class Given(SequenceValue):
    """An optional that holds something."""

    item: Item

    def value(self, b: KnowingBuilder) -> Value:
        return b.add("Optional", as_value(self.item, b))

    def mapped(self, f: Callable[[Value], Value]) -> Given:
        return Given(self.item.mapped(f) if isinstance(self.item, SequenceValue) else f(self.item))


def as_value(item: Item, b: KnowingBuilder) -> Value:
    """A value of the graph."""
    return item.value(b) if isinstance(item, SequenceValue) else item


def _ints(b: KnowingBuilder, *values: int) -> Value:
    return b.constant(list(values), np.int64)


def _size(b: KnowingBuilder, x: Value, axis: int) -> Value:
    """A dim of x, int64[]."""
    return b.add("Gather", b.add("Shape", x), b.constant(axis, np.int64))


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise TypeRuleError(f"axis {axis} is out of range for rank {rank}")
    return axis % rank


# --- operators --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class SequenceUse:
    """One node: operands, attributes, and where to add nodes."""

    operands: list[Item | None]
    attrs: Mapping[str, Any]
    builder: KnowingBuilder

    def sequence(self, i: int = 0) -> SequenceValue:
        found = self.operands[i] if i < len(self.operands) else None
        if not isinstance(found, SequenceValue):
            raise AtRunTime
        return found

    def tensor(self, i: int) -> Value:
        found = self.operands[i] if i < len(self.operands) else None
        if not isinstance(found, Value) or is_object(found.type):
            raise AtRunTime
        return found

    def has(self, i: int) -> bool:
        return i < len(self.operands) and self.operands[i] is not None

    def constant(self, i: int) -> np.ndarray | None:
        """An operand that is the same for all inputs, else None."""
        return self.builder.constant_of(self.tensor(i))

    def known(self, i: int) -> np.ndarray:
        """A constant operand."""
        data = self.constant(i)
        if data is None:
            raise AtRunTime
        return data

    def position(self, i: int, length: int) -> int:
        """An index operand among `length` elements, the last by default, as 0 ≤ index < length."""
        at = int(self.known(i).reshape(())) if self.has(i) else -1
        if not -length <= at < length:
            raise TypeRuleError(f"position {at} in a sequence of {length}")
        return at % length


def _empty(use: SequenceUse) -> Item:
    return Listed((), dtype_of(use.attrs.get("dtype", TensorProto.FLOAT)))


def _insert(use: SequenceUse) -> Item:
    """Before the element at a position from -n to n - 1, or at the end (n, the default)."""
    items = list(use.sequence().items())
    n = len(items)
    at = int(use.known(2).reshape(())) if use.has(2) else n
    if not -n <= at <= n:
        raise TypeRuleError(f"position {at} in a sequence of {n}", hint=f"from {-n} to {n}")
    items.insert(at, use.tensor(1))
    return Listed(tuple(items))


def _erase(use: SequenceUse) -> Item:
    items = list(use.sequence().items())
    del items[use.position(1, len(items))]
    return Listed(tuple(items))


def _at(use: SequenceUse) -> Item:
    sequence, known = use.sequence(), use.constant(1)
    if known is not None and isinstance(sequence, Listed):
        return sequence.items()[use.position(1, len(sequence.items()))]
    return sequence.at(use.builder, use.tensor(1))


def _split(use: SequenceUse) -> Item:
    x, b = use.tensor(0), use.builder
    if x.type is None or (use.has(1) and use.tensor(1).type is None):
        raise AtRunTime
    axis = _axis(use.attrs.get("axis", 0), x.type.rank)
    keepdims = use.has(1) or bool(use.attrs.get("keepdims", 1))
    split = use.constant(1) if use.has(1) else np.array(1, np.int64)
    size = x.type.shape[axis]
    if split is None or (split.ndim == 0 and not isinstance(size, int)):
        if not use.has(1):
            return Slices(x, axis, keepdims)
        return Parts(x, axis, b.add("Cast", use.tensor(1), to=np.int64))
    if split.ndim:
        sizes = split.astype(np.int64)
    else:
        step, size = int(split), number(size)
        if step < 1 or size > step * _MAX_PARTS:
            raise TypeRuleError(f"parts of {step} of a dim of {size}", hint=f"at most {_MAX_PARTS} parts")
        sizes = np.array([min(step, size - at) for at in range(0, size, step)], np.int64)
    if not len(sizes):
        return Listed(())
    parts = b.add("Split", x, b.constant(sizes), axis=axis, outputs=len(sizes))
    parts = parts if isinstance(parts, tuple) else (parts,)
    if not keepdims:
        parts = tuple(b.add("Squeeze", v, _ints(b, axis)) for v in parts)
    return Listed(parts)


def _first(use: SequenceUse) -> Item:
    found = use.operands[0] if use.operands else None
    if found is None or (isinstance(found, Value) and (found.type is None or is_object(found.type))):
        raise AtRunTime
    return found


def _got(use: SequenceUse) -> Item:
    found = _first(use)
    return found.item if isinstance(found, Given) else found


def _has(use: SequenceUse) -> Item:
    return use.builder.constant(use.has(0) and _first(use) is not None, np.bool_)


SEQUENCE_OPS: dict[str, Callable[[SequenceUse], Item]] = {
    "SequenceEmpty": _empty,
    "SequenceConstruct": lambda use: Listed(tuple(use.tensor(i) for i in range(len(use.operands)))),
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceAt": _at,
    "SequenceLength": lambda use: use.sequence().length(use.builder),
    "ConcatFromSequence": lambda use: use.sequence().joined(
        use.builder, use.attrs.get("axis", 0), bool(use.attrs.get("new_axis", 0))
    ),
    "SplitToSequence": _split,
    "Optional": lambda use: Given(_first(use)),
    "OptionalGetElement": _got,
    "OptionalHasElement": _has,
}


def told_in_tensors(name: str, use: SequenceUse) -> Item | None:
    """The result of a node, None where it has to be a value of the graph.

    What was added to the graph before that was found out is dead code.
    """
    try:
        return SEQUENCE_OPS[name](use)
    except AtRunTime:
        return None
