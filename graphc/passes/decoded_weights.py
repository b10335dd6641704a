"""Weights of products that constants decode to (of a codebook, of bits, of bytes and scales) are decoded when compiling, also where they
are larger than what `fold_constants` computes of others: a product would decode and pack all of them in every run.
"""

from __future__ import annotations

from graphc.graph import Node, Value, constant
from graphc.interpret import run_node
from graphc.passes.rewrite import Rewrite, Sweep
from graphc.types import is_static

MOST_NODES = 16
EXPANSION = 32  # of a bit to a float32

decoded_weights = Rewrite("decoded_weights")


@decoded_weights.on("Conv", "ConvTranspose", "Gemm", "MatMul")
def of_constants(node: Node, sweep: Sweep) -> Value | None:
    weights = node.inputs[1]
    if weights is None or weights.is_const or weights.type is None or not is_static(weights.shape):
        return None
    chain = _chain(weights, sweep)
    if chain is None:
        return None
    given = {v for n in chain for v in n.operands if v.is_const}
    if any(v.data.dtype == object for v in given):  # strings, and sizes that stand for many
        return None
    if weights.type.nbytes > EXPANSION * sum(v.data.nbytes for v in given):
        return None
    known = {v: v.data for v in given}
    for n in chain:
        known.update(zip(n.outputs, run_node(n, [None if v is None else known[v] for v in n.inputs])))
    return sweep.remake(node, node.inputs[0], constant(weights.name, known[weights]), *node.inputs[2:])


def _chain(v: Value, sweep: Sweep) -> list[Node] | None:
    """The nodes that make a value of constants alone, in order; None where there are none such, or many."""
    found: dict[Node, None] = {}
    waiting = [v]
    while waiting:
        made = sweep.producer(waiting.pop())
        if (
            made is None
            or len(found) == MOST_NODES
            or not made.deterministic
            or made.op.holds_graphs
            or made.op.objects
        ):
            return None
        found.pop(made, None)  # what is read by two comes before both
        found[made] = None
        waiting += [u for u in made.operands if not u.is_const]
    return list(reversed(found))
