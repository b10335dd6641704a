"""What is gathered of a dequantized table is dequantized after it is gathered: a run reads the rows of an embedding that it wants, not
all of them.

    Gather(DequantizeLinear(w, scale, zero), i) = DequantizeLinear(Gather(w, i), scale, zero),

where w is constant, and so are the numbers scale and zero. It runs before constants are folded, which would make floats of w.
"""

from __future__ import annotations

from graphc.graph import Node, Value
from graphc.passes.byte_products import is_single
from graphc.passes.rewrite import Rewrite, Sweep

gathered_bytes = Rewrite("gathered_bytes")


@gathered_bytes.on("Gather")
def of_dequantized(node: Node, sweep: Sweep) -> Value | None:
    made = sweep.producer(node.inputs[0], "DequantizeLinear")
    if made is None or not made.inputs[0].is_const or made.attrs["block_size"]:
        return None
    codes, *numbers = made.inputs
    if not all(v is None or v.is_const and is_single(v) for v in numbers):
        return None
    numbers = [v if v is None else sweep.constant(v.data.reshape(())) for v in numbers]
    rows = sweep.add("Gather", codes, node.inputs[1], **node.attrs)
    return sweep.remake(node, rows, *numbers, op="DequantizeLinear", attrs=made.attrs)
