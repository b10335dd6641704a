"""Compute when compiling what does not depend on the inputs, through the operators' NumPy references."""

from __future__ import annotations

import numpy as np

from graphc.graph import Node, Value, constant
from graphc.interpret import run_node
from graphc.objects import is_object
from graphc.passes import fold_sizes
from graphc.passes.fold_float_sizes import DIGITS, whole_numbers, whole_only
from graphc.passes.rewrite import Rewrite, Skip, Sweep
from graphc.sizes import array_of, has_sizes
from graphc.types import is_static, prod

MAX_BYTES = 16 << 20  # larger results are folded only if they are not larger than what they are made from

fold_constants = Rewrite("fold_constants")


@fold_constants.on("*")
def of_a_known_type(node: Node, sweep: Sweep) -> Value | Skip | None:
    """The shape is known though the elements are not."""
    if not node.op.type_only:
        return None
    x = node.inputs[0]
    if not is_static(x.shape):
        return Skip(f"shape {list(map(str, x.shape))} is symbolic")
    if has_sizes(x.shape):
        return _of_sizes(node)
    return _constants(node, [np.broadcast_to(np.zeros((), x.dtype), x.shape)])[0]


def _of_sizes(node: Node) -> Value:
    """Shape or Size of a value whose dims stand for many."""
    shape = node.inputs[0].shape
    values = prod(shape) if node.op.name == "Size" else list(shape[slice(node.attrs["start"], node.attrs["end"])])
    return constant(node.output.name, array_of(values, np.int64))


@fold_constants.on("Cast")
def of_float_sizes(node: Node, sweep: Sweep) -> Value | None:
    """Whole numbers that floats, computed from sizes, are cast to."""
    x = node.inputs[0]
    if node.output.dtype.name not in ("int32", "int64") or x.dtype.name not in DIGITS or x.is_const:
        return None
    found = whole_numbers(x, sweep)
    return None if found is None else constant(node.output.name, array_of(found), node.output.dtype)


@fold_constants.on("Range")
def of_whole_floats(node: Node, sweep: Sweep) -> Value | None:
    """A range of floats that are whole numbers and come from sizes counts in integers."""
    if node.operands[0].dtype.name not in DIGITS or all(v.is_const for v in node.operands):
        return None
    found = [whole_only(v, sweep) for v in node.operands]
    if any(x is None for x in found):
        return None
    counted = sweep.add("Range", *(sweep.constant(array_of(x), np.int64) for x in found if x is not None))
    return sweep.remake(node, counted, op="Cast", attrs={"to": node.operands[0].dtype})


@fold_constants.on("*")
def of_constants(node: Node, sweep: Sweep) -> tuple[Value, ...] | Skip | None:
    if not all(v.is_const for v in node.operands):
        return None
    if not node.deterministic:
        return Skip("its result is random")
    if node.op.holds_graphs or any(is_object(v.type) for v in node.outputs):
        return None
    if fold_sizes.holds(node):
        return fold_sizes.folded(node)
    if any(v.type is not None and has_sizes(v.type.shape) for v in node.outputs):
        return Skip("its size stands for many")
    size = sum(v.type.nbytes for v in node.outputs if v.type is not None and v.type.is_static)
    if size > max(MAX_BYTES, sum(v.data.nbytes for v in node.operands)):
        return Skip(f"its result has {size >> 20} MiB")
    return _constants(node, [None if v is None else v.data for v in node.inputs])


def _constants(node: Node, arrays: list[np.ndarray | None]) -> tuple[Value, ...]:
    """Contiguous, and copied where the reference gave a view of a larger array."""
    results = (np.ascontiguousarray(r) if r.ndim else r for r in run_node(node, arrays))
    results = (r if r.base is None else r.copy() for r in results)
    return tuple(constant(v.name, r) for v, r in zip(node.outputs, results))
