"""A builder that knows small values: shapes computed by the graph decide types while it is being read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.errors import GraphcError, UnsupportedError
from graphc.graph import Builder, Node, Value, constant, make_node
from graphc.interpret import run_node
from graphc.objects import is_object
from graphc.op import Op
from graphc.types import TensorType, number, numbers

SHAPES_FIRST = "export it with the shapes of its inputs, or with a newer opset"
_SMALL = 1024  # elements: shapes, axes, sizes


class UnknownTypeError(UnsupportedError):
    """A node that can't be read before the type of an operand is known."""


def known_type(v: Value) -> TensorType:
    """Raises UnknownTypeError while it is not known."""
    if v.type is None:
        raise UnknownTypeError(f"the type of '{v.name}' is not known before the model runs", hint=SHAPES_FIRST)
    return v.type


class KnowingBuilder(Builder):
    """Infers more types than `Builder`: those that follow from values which the file fixes.

    The graph stays as it is written: nothing is folded, so that other shapes can be bound to it later.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.known: dict[Value, np.ndarray] = {}
        self.fixed: set[Value] = set()  # known whatever shapes the inputs are bound to

    def add(self, op: str | Op, *inputs: Value | None, outputs: Sequence[str] | int = 1, **how: Any) -> Any:
        super().add(op, *inputs, outputs=outputs, **how)
        node = self.nodes[-1] = self._with_types(self.nodes[-1])
        self._evaluate(node)
        return node.outputs[0] if len(node.outputs) == 1 else node.outputs

    def _with_types(self, node: Node) -> Node:
        if all(v.type is not None for v in node.outputs) or not any(v in self.known for v in node.operands):
            return node
        names = [v.name for v in node.outputs]
        fixed = [constant(v.name, self.known[v]) if v in self.known else v for v in node.inputs]
        known = make_node(node.op, fixed, node.attrs, name=node.name, outputs=names, source=node.source)
        types = [v.type for v in known.outputs]
        return make_node(
            node.op, node.inputs, node.attrs, name=node.name, outputs=names, source=node.source, types=types
        )

    def _evaluate(self, node: Node) -> None:
        """Remember the node's results where they are small and follow from what is known."""
        types = [v.type for v in node.outputs]
        if node.op.holds_graphs or not node.deterministic or any(map(is_object, types)):
            return
        if any(t is None or not t.is_static or number(t.size) > _SMALL for t in types):
            return
        if node.op.type_only and node.inputs[0].type is not None and node.inputs[0].type.is_static:
            t = node.inputs[0].type
            arrays: list[np.ndarray | None] = [np.broadcast_to(np.zeros((), t.dtype), numbers(t.shape))]
        else:
            arrays = [None if v is None else v.data if v.is_const else self.known.get(v) for v in node.inputs]
            if any(a is None and v is not None for a, v in zip(arrays, node.inputs)):
                return
            if any(a is not None and a.size > _SMALL for a in arrays):
                return
        try:
            self.known.update(zip(node.outputs, run_node(node, arrays)))
        except GraphcError:  # wrong data may lie on a path that never runs: whoever runs it reports it
            return
        if all(v.is_const or v in self.fixed for v in node.operands):
            self.fixed.update(node.outputs)

    def constant_of(self, v: Value) -> np.ndarray | None:
        """The value where it is the same for every input of every shape, else None."""
        return v.data if v.is_const else self.known[v] if v in self.fixed else None
