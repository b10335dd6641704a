"""Weights in blocks of few bits, in the order of kernels: once for a model, not for each binding."""

from __future__ import annotations

from graphc.graph import Node, Value
from graphc.ops.contrib.blocks.nbits import emit_in_blocks
from graphc.passes.rewrite import Rewrite, Sweep

block_weights = Rewrite("block_weights")


@block_weights.on("com.microsoft::MatMulNBits")
def product(node: Node, sweep: Sweep) -> Value | None:
    return emit_in_blocks(sweep, node.call)
