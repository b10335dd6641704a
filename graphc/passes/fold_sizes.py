"""Integer arithmetic on values that hold sizes (graphc/sizes.py): what a shape is computed with stays an expression of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import add, mul, neg, sub
from typing import Any

import numpy as np

from graphc.graph import Node, Value, constant
from graphc.sizes import array_of, is_size_array, largest, smallest


def holds(node: Node) -> bool:
    """Is an operand a constant that holds sizes?"""
    return any(is_size_array(v.data) for v in node.operands)


def folded(node: Node) -> tuple[Value, ...] | None:
    """The results as constants of sizes; None where they are computed at run time, from what the operands hold then."""
    arrays: list[Any] = [None if v is None else v.data for v in node.inputs]
    if not all(v.dtype.kind in "iub" for v in (*node.operands, *node.outputs)):
        return None
    if node.op.name in _ELEMENTWISE:
        results: Any = np.frompyfunc(_ELEMENTWISE[node.op.name], len(arrays), 1)(*(a.astype(object) for a in arrays))
    elif node.op.name in ("Cast", "Identity", "Within"):
        results = arrays[0]
    elif node.op.name in MOVES:
        parts = {"n_outputs": len(node.outputs)} if node.op.name == "Split" else {}
        results = node.op.reference(*arrays, **node.attrs, **parts)
    elif node.op.name in _QUESTIONS:
        results = np.frompyfunc(_QUESTIONS[node.op.name], len(arrays), 1)(*(a.astype(object) for a in arrays))
    else:
        return None
    results = results if isinstance(results, (tuple, list)) else (results,)
    return tuple(constant(v.name, _typed(np.asarray(r), v), v.dtype) for v, r in zip(node.outputs, results))


def _typed(a: np.ndarray, v: Value) -> np.ndarray:
    return array_of(a) if is_size_array(a) else a.astype(v.dtype)


def _quotient(a: Any, b: Any) -> Any:
    """Towards zero, as ONNX divides integers."""
    return a // b if (a >= 0) == (b > 0) else -(-a // b)


def _selected(condition: Any, a: Any, b: Any) -> Any:
    return a if condition else b


_ELEMENTWISE: Mapping[str, Callable[..., Any]] = {
    "Add": add, "Sub": sub, "Mul": mul, "Div": _quotient, "Min": smallest, "Max": largest, "Neg": neg, "Where": _selected,
}  # fmt: skip
# Movements of elements, whose references never look at them.
MOVES = frozenset(
    ["Concat", "Gather", "Slice", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "Split", "Flatten", "Expand", "Tile"]
)
_QUESTIONS: Mapping[str, Callable[..., Any]] = {
    "Equal": lambda a, b: bool(a == b),
    "Greater": lambda a, b: bool(a > b),
    "GreaterOrEqual": lambda a, b: bool(a >= b),
    "Less": lambda a, b: bool(a < b),
    "LessOrEqual": lambda a, b: bool(a <= b),
}
