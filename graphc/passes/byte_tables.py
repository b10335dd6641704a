"""Elementwise functions of one byte become a table of their 256 results:

    QuantizeLinear(f(DequantizeLinear(x))) = ByteTable(x),

where f is made of elementwise operators whose other operands are single constants, as activations are; so do QLinearSigmoid and its
like. The results are computed here, by the operators' references, so that they are exactly those of the graph as it was written. It
runs before other passes move scales, for backends that look bytes up quickly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphc.expr import Expr
from graphc.graph import Node, Value
from graphc.lower.fuse import scalar_of
from graphc.ops.byte_table import BYTES, ENTRIES
from graphc.passes.rewrite import Rewrite, Sweep

byte_tables = Rewrite("byte_tables", makes="ByteTable")

MOST_NODES = 64  # of a function
WORTH = 16  # operations of it, from which on a look-up is faster
WHOLE = {
    "com.microsoft::QLinearSigmoid": 28,
    "com.microsoft::QLinearLeakyRelu": 16,
}  # operations of functions from bytes to bytes
QUANTIZES = {"QuantizeLinear": 9, "DequantizeLinear": 3, **WHOLE}
QUICK = frozenset(("arg", "const", "cast", "bitcast"))  # nearly free, as vectors of bytes are made anyway
SLOW = {"div": 4, "sqrt": 4} | dict.fromkeys(("exp", "log", "tanh", "sigmoid", "erf"), 16)
CALLED = 64  # what is computed element by element
PLAIN = frozenset((
    "add", "sub", "mul", "neg", "abs", "min", "max", "floor", "ceil", "rint", "trunc", "select", "lt", "le", "gt", "ge", "eq",
    "ne", "and", "or", "xor", "not", "shl", "shr", "table", "bytes",
))  # fmt: skip


@byte_tables.on("QuantizeLinear", *WHOLE)
def of_one_byte(node: Node, sweep: Sweep) -> Value | None:
    if not _is_pointwise(node) or node.output.dtype.name not in BYTES:
        return None
    function = _Function(sweep)
    x = function.root(node.inputs[0])
    if x is None or sum(map(_cost, (node, *function.nodes))) < WORTH:
        return None
    codes = function.results(node, x)
    return sweep.remake(node, x, op="ByteTable", attrs={"codes": codes, "to": node.output.dtype})


class _Function:
    """What a value is computed by, element by element. nodes: those between it and the root."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.nodes: dict[Node, None] = {}
        self._roots: dict[Value, Value | None] = {}

    def root(self, v: Value) -> Value | None:
        """The one value of bytes that v follows from, as far back as there is one; v itself where it is of bytes and there is none."""
        if v not in self._roots:
            before = dict(self.nodes)
            self._roots[v] = found = self._behind(v)
            if found is None and v.type is not None and v.dtype.name in BYTES:
                self.nodes, self._roots[v] = before, v
        return self._roots[v]

    def _behind(self, v: Value) -> Value | None:
        made = self.sweep.producer(v)
        if made is None or len(self.nodes) >= MOST_NODES or not _is_pointwise(made):
            return None
        self.nodes[made] = None
        roots = {self.root(u) for u in made.operands if not u.is_const}
        return roots.pop() if len(roots) == 1 else None

    def results(self, node: Node, root: Value) -> tuple[int, ...]:
        """Of the node, for each byte of the root."""
        known = {root: np.arange(ENTRIES, dtype=np.uint8).view(root.dtype)}

        def of(v: Value | None) -> np.ndarray | None:
            if v is None or v.is_const:
                return None if v is None else v.data.reshape(())
            if v not in known:
                made = self.sweep.producer(v)
                assert made is not None, v
                known[v] = computed(made, of)
            return known[v]

        return tuple(computed(node, of).view(np.uint8).tolist())


def computed(node: Node, of: Callable[[Value | None], np.ndarray | None]) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(node.op.reference(*map(of, node.inputs), **node.attrs))


def _is_pointwise(node: Node) -> bool:
    """Does each element of the result follow from one of each operand, beside constants that are the same for all?"""
    quantizes = node.op.name in QUANTIZES
    if not (quantizes or node.op.elementwise) or node.op.deterministic is not True or len(node.outputs) > 1:
        return False
    if any(v.type is None for v in (*node.operands, *node.outputs)) or (quantizes and node.attrs.get("block_size")):
        return False
    if quantizes and not all(v.is_const for v in node.operands[1:]):
        return False
    return all(v.data.size == 1 if v.is_const else v.shape == node.output.shape for v in node.operands)


def _cost(node: Node) -> int:
    """Operations of a node for each element, about."""
    return QUANTIZES.get(node.op.name) or _operations(scalar_of(node))


def _operations(e: Expr) -> int:
    own = 0 if e.prim in QUICK else 1 if e.prim in PLAIN else SLOW.get(e.prim, CALLED)
    return own + sum(map(_operations, e.args))
