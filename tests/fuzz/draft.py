"""A model under construction. Steps add nodes to it; a node that can't be evaluated is not added."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

from . import forms
from .draws import BOOL, F32, I64, Draw, is_float
from .evaluate import Refused, Reject, Tensor, Unit, evaluate, known, value_info

MOST = 6000  # elements of a value

Dim = int | str  # a number, or the name of an open dim


@dataclass
class Input:
    """A graph input: its tensor, its declared dims, and its default (then it is an initializer too)."""

    tensor: Tensor
    dims: tuple[Dim | None, ...]
    default: np.ndarray | None = None


@dataclass
class Shared:
    """What a model and its subgraphs have in common."""

    draw: Draw
    noise: Draw
    opset: int
    dims: Mapping[str, tuple[int, ...]]  # open dims: name -> size in each world
    special: bool  # may values be NaN or infinite?
    names: Iterator[int] = field(default_factory=itertools.count)
    refused: list[Refused] = field(default_factory=list)

    @property
    def worlds(self) -> int:
        return max(map(len, self.dims.values()), default=1)


class Draft:
    """Nodes, inputs and initializers so far, and the values that a step may read.

    A model with open dims is evaluated for two or three sizes of each (worlds) at the same time, so that a step which is
    valid for one size only is found out.
    """

    def __init__(self, shared: Shared, outer: Draft | None = None) -> None:
        self.shared, self.draw, self.opset, self.outer = shared, shared.draw, shared.opset, outer
        self.nodes: list[NodeProto] = []
        self.inputs: list[Input] = []
        self.initializers: dict[str, np.ndarray] = {}
        self.values: list[Tensor] = list(outer.values) if outer else []
        self.tensors: dict[str, Tensor] = {}

    # --- what steps add -----------------------------------------------------------------------------------------------
    def name(self, stem: str) -> str:
        return f"{stem}{next(self.shared.names)}"

    def sizes(self, dims: Sequence[Dim]) -> list[tuple[int, ...]]:
        """The shape in each world."""
        given = self.shared.dims
        return [tuple(given[d][w] if isinstance(d, str) else d for d in dims) for w in range(self.shared.worlds)]

    def input(self, dtype, dims: Sequence[Dim], low: float = -2, high: float = 2, style: str = "") -> Tensor:
        """A new graph input with random elements."""
        assert self.outer is None, "a subgraph's inputs are formal"
        arrays = [self.draw.array(dtype, s, low, high, style, self.shared.special) for s in self.sizes(dims)]
        return self.input_of(arrays, dims)

    def input_of(self, arrays: Sequence[np.ndarray], dims: Sequence[Dim]) -> Tensor:
        """A new graph input: its array in each world."""
        name = self.name("x")
        worlds = tuple(t.worlds[0] for t in (known(name, a, 1) for a in arrays))
        tensor = Tensor(name, arrays[0].dtype, worlds, signed=True)
        self.inputs.append(Input(tensor, tuple(dims)))
        self._add(tensor)
        return tensor

    def const(self, data, dtype=None) -> Tensor:
        """An initializer. It is no value that other steps pick."""
        array = np.asarray(data, dtype)
        tensor = known(self.name("c"), array, self.shared.worlds)
        self.initializers[tensor.name] = array
        self.tensors[tensor.name] = tensor
        return tensor

    def ints(self, *numbers: int) -> Tensor:
        return self.const(numbers, np.int64)

    def weights(self, *shape: int, dtype=F32, low: float = -1, high: float = 1, style: str = "") -> Tensor:
        """An initializer with random elements."""
        return self.const(self.draw.array(dtype, shape, low, high, style))

    def node(self, op: str, *inputs: Tensor | None, outputs: int | Sequence[bool] = 1, **attrs):
        """Add a node: its result, or the tuple of them where `outputs` is not 1 (a sequence: which of them are wanted; the
        others are None). op: 'domain::name' of another domain than ONNX's own. Attributes that are None are left out. Raises
        Reject."""
        wanted = [True] * outputs if isinstance(outputs, int) else list(outputs)
        results = self._evaluated(Unit.of(self.proto(op, inputs, wanted, attrs)))
        found = iter(results)
        made = tuple(next(found) if w else None for w in wanted)
        return made[0] if outputs == 1 else made

    def proto(
        self, op: str, inputs: Sequence[Tensor | str | None], wanted: Sequence[bool], attrs: Mapping[str, Any]
    ) -> NodeProto:
        """The node alone, as this opset writes it. inputs: values, or names of those that are no tensors."""
        given = {k: v for k, v in attrs.items() if v is not None}
        domain, _, name = op.rpartition("::")
        operands = list(inputs)
        if not domain:
            name, operands, given = forms.written(name, operands, given, self.opset)
        while operands and operands[-1] is None:
            operands.pop()
        return helper.make_node(
            name,
            ["" if t is None else t if isinstance(t, str) else t.name for t in operands],
            [self.name("v") if w else "" for w in wanted],
            name=self.name("n"),
            domain=domain or None,
            **given,
        )

    def unit(self, nodes: Sequence[NodeProto], *outputs: str) -> tuple[Tensor, ...]:
        """Add a few nodes at once, between which pass values that are no tensors: the named results. Raises Reject."""
        return tuple(self._evaluated(Unit.of(nodes, outputs)))

    def _evaluated(self, unit: Unit) -> list[Tensor]:
        operands = {n: self.find(n) for n in unit.reads}
        try:
            results = evaluate(unit, operands, self.shared.worlds, self.opset, self.shared.noise)
        except Refused as refusal:
            self.shared.refused.append(refusal)
            raise
        if any(math.prod(s) > MOST for t in results for s in t.shapes()):
            raise Reject("too large")
        self.nodes.extend(unit.nodes)
        for t in results:
            self._add(t)
        return results

    def find(self, name: str) -> Tensor:
        draft: Draft | None = self
        while draft is not None:
            if name in draft.tensors:
                return draft.tensors[name]
            draft = draft.outer
        raise KeyError(name)

    def _add(self, tensor: Tensor) -> None:
        self.tensors[tensor.name] = tensor
        self.values.append(tensor)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """What is done inside is undone where it is rejected."""
        before = len(self.nodes), len(self.inputs), dict(self.initializers), list(self.values), dict(self.tensors)
        try:
            yield
        except Reject:
            del self.nodes[before[0] :], self.inputs[before[1] :]
            self.initializers, self.values, self.tensors = before[2:]
            raise

    # --- what steps read ----------------------------------------------------------------------------------------------
    def pick(self, want: Callable[[Tensor], bool] = lambda t: True) -> Tensor:
        """One of the values that fit, the newest more often. Raises Reject where there is none."""
        fits = [t for t in self.values if want(t)]
        if not fits:
            raise Reject("no value fits")
        return fits[-self.draw.count(1, min(4, len(fits)))] if self.draw.chance(0.6) else self.draw.one_of(*fits)

    def floats(self, rank: int | None = None, dtype=None) -> Tensor:
        """A value of floats."""
        return self.pick(
            lambda t: is_float(t.dtype) and (rank is None or t.rank == rank) and (dtype is None or t.dtype == dtype)
        )

    def certain(self, t: Tensor) -> bool:
        return t.certain

    def axis(self, t: Tensor, fixed: bool = False) -> int:
        """An axis of the value, as a number from 0 or from the end. fixed: not an open dim. Raises Reject for scalars."""
        axes = [i for i in range(t.rank) if not (fixed and i in t.open)]
        if not axes:
            raise Reject("no axis")
        i = self.draw.one_of(*axes)
        return i - t.rank if self.draw.chance(0.4) else i

    def operand(self, dtype, shape: Sequence[int], low: float = -2, high: float = 2) -> Tensor:
        """A value of that dtype and shape: one that is there, a new input or an initializer."""
        dtype, shape = np.dtype(dtype), tuple(shape)
        fits = [t for t in self.values if t.dtype == dtype and t.shape == shape and not t.open]
        inside = [
            t for t in fits if t.dtype == BOOL or (t.value.size and t.value.min() >= low and t.value.max() <= high)
        ]
        if inside and self.draw.chance(0.5):
            return self.draw.one_of(*inside)
        if self.outer is None and self.draw.chance(0.3):
            return self.input(dtype, shape, low, high)
        return self.const(
            self.draw.array(dtype, shape, low, high, special=self.shared.special and self.draw.chance(0.3))
        )

    def partner(self, t: Tensor, low: float = -2, high: float = 2) -> Tensor:
        """A value of the same dtype that broadcasts with t: one that is there, or a new one with dims of 1, of fewer dims or of
        more."""
        if self.draw.chance(0.5):
            fits = [u for u in self.values if u.dtype == t.dtype and broadcast(t, u)]
            if fits:
                return self.draw.one_of(*fits)
        dims = [1 if i in t.open or self.draw.chance(0.35) else d for i, d in enumerate(t.shape)]
        dims = dims[self.draw.count(0, len(dims)) if self.draw.chance(0.4) else 0 :]
        for i, d in enumerate(dims):
            grown = t.size // max(1, d) * 3 < 2000
            if d == 1 and t.shape[len(t.shape) - len(dims) + i] == 1 and grown and self.draw.chance(0.3):
                dims[i] = self.draw.one_of(2, 3)
        if len(dims) < 8 and t.size < 1000 and self.draw.chance(0.15):
            dims = [self.draw.one_of(1, 1, 2, 3), *dims]
        return self.operand(t.dtype, dims, low, high)

    # --- subgraphs ----------------------------------------------------------------------------------------------------
    def child(self) -> Draft:
        return Draft(self.shared, self)

    def formal(self, like: Tensor) -> Tensor:
        """A formal input of a subgraph, with the value that it has at first."""
        tensor = Tensor(self.name("f"), like.dtype, like.worlds, signed=like.signed)
        self.inputs.append(Input(tensor, tuple(like.shape)))
        self._add(tensor)
        return tensor

    def graph(self, outputs: Sequence[Tensor], declare: bool = True) -> GraphProto:
        """The subgraph. declare: inputs and outputs with shapes."""

        def info(t: Tensor):
            shape = [None if i in t.open else d for i, d in enumerate(t.shape)]
            return value_info(t.name, t.dtype, shape if declare else None)

        return helper.make_graph(
            self.nodes,
            self.name("g"),
            [info(i.tensor) for i in self.inputs],
            [info(t) for t in outputs],
            [numpy_helper.from_array(a, n) for n, a in self.initializers.items()],
        )


def broadcast(a: Tensor, b: Tensor) -> bool:
    """Do their shapes broadcast, in every world, to something that is not too large?"""
    for x, y in zip(a.shapes(), b.shapes()):
        try:
            if math.prod(np.broadcast_shapes(x, y)) > 2000:
                return False
        except ValueError:
            return False
    return True


__all__ = ["BOOL", "I64", "Dim", "Draft", "Input", "Reject", "Shared", "Tensor", "broadcast"]
