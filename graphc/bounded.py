"""Operators whose results' sizes follow from data (NonZero, NonMaxSuppression …), in a form of static types.

Beside the size itself, the bounded form gives one buffer per result: of its shape with the most that the size can be, its first
elements the result in row-major order. What is behind them means nothing. So a compiled program can compute such a node, and
who reads the results takes views.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from graphc.dtypes import MOVED
from graphc.graph import Node, Value
from graphc.op import Call, Op
from graphc.types import MaybeNone, Sym, TensorType


@dataclass(frozen=True, eq=False)
class Bounded:
    """node: as it is, its results with one dim that only data tells. static: in bounded form; its results are a buffer for each
    of the node's, and the size of that dim, int64 []."""

    node: Node
    static: Node

    @property
    def axes(self) -> tuple[int | None, ...]:
        """Of each result, the axis of that dim."""
        shapes = [v.type.shape for v in self.node.outputs]
        return tuple(next((i for i, d in enumerate(shape) if isinstance(d, Sym)), None) for shape in shapes)


def bounded(node: Node) -> Bounded | None:
    """The bounded form of a node whose operands' types are known; None where it has none, or holds what is no plain number."""
    op = node.op
    values = (*node.operands, *node.outputs)
    if op.bound is None or any(v.type is None or v.dtype.name not in MOVED for v in values):
        return None
    if all(v.type.is_static for v in node.outputs):
        return None
    types = _types(node.call)
    outputs = [Value(f"{v.name}/buffer", t) for v, t in zip(node.outputs, types)]
    outputs.append(Value(f"{node.output.name}/size", types[-1]))
    return Bounded(node, replace(node, op=_static_form(node), outputs=tuple(outputs)))


def _types(call: Call) -> list[TensorType]:
    """Of the buffers and the size. call: of the node as it is."""
    assert call.op.bound is not None
    most = call.op.bound(call)
    results = list(call.op.infer(call))[: call.n_outputs]
    shapes = [[most if isinstance(d, Sym) else d for d in t.shape] for t in results]
    return [*(t.with_shape(s) for t, s in zip(results, shapes)), TensorType(np.int64, ())]


def _static_form(node: Node) -> Op:
    """An operator of the same name that gives the results of one node in bounded form."""
    op, n_outputs = node.op, len(node.outputs)
    known = [v is not None and v.is_const for v in node.inputs]

    def infer(call: Call) -> list[TensorType]:
        return _types(Call(op, call.inputs, call.attrs, n_outputs))

    def reference(*arrays: np.ndarray | MaybeNone, **attrs: object) -> tuple[np.ndarray, ...]:
        values = [
            None if a is None else Value("", TensorType(a.dtype, a.shape), a if is_known else None)
            for a, is_known in zip(arrays, known)
        ]
        call = Call(op, values, attrs, n_outputs)
        found = op.reference(*arrays, **attrs)
        results = found if isinstance(found, tuple) else (found,)
        made: list[np.ndarray] = [np.zeros(t.extents, t.dtype) for t in _types(call)]
        for buffer, result, t in zip(made[:-1], results, op.infer(call)):  # an operator may give more than the node has
            buffer.reshape(-1)[: result.size] = result.ravel()
            for size, d in zip(result.shape, t.shape):
                if isinstance(d, Sym):
                    made[-1] = np.array(size, np.int64)
        return tuple(made)

    return replace(op, infer=infer, reference=reference, bound=None)
