"""What the CPU's kernels want of layout and fusion, for the backend-neutral passes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphc.backends.cpu.lower import conv, conv_transpose, gemm, pool
from graphc.backends.cpu.lower.core import follows_blocks, unsupported
from graphc.backends.cpu.lower.policy import Choice, Policy
from graphc.backends.cpu.target import Target
from graphc.graph import Graph, Node, Value
from graphc.layout import LayoutRules

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
POOLS = frozenset({"MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool"})


def choices_of(graph: Graph, target: Target, policy: Policy) -> dict[str, Choice]:
    """The algorithm of each convolution with packed operands, by the name of its result: layout makes new nodes."""
    return {
        n.output.name: conv.choose(n, target, policy)
        for n in graph.nodes
        if n.op.name == "Conv" and not unsupported(n, target) and conv.form(n, target)
    }


def layout_rules(target: Target, choices: Mapping[str, Choice]) -> LayoutRules:
    def form(node: Node) -> str | None:
        if node.op.name not in CONVOLUTIONS | POOLS or unsupported(node, target):
            return None
        return conv.form(node, target) if node.op.name in CONVOLUTIONS else pool.form(node)

    def halo(node: Node) -> tuple[int, int]:
        if node.op.name == "ConvTranspose":
            return conv_transpose.halo(node)
        return conv.halo(node, choices[node.output.name]) if node.op.name == "Conv" else (0, 0)

    return LayoutRules(target.vl, form, halo, lambda node: follows_blocks(node, target.vl))


PRODUCTS = frozenset({"MatMul", "Gemm"})


def takes_epilogue(node: Node) -> bool:
    if node.op.name == "MatMul" and any(v.type.rank == 1 for v in node.operands):
        return False  # the result has lost the dim that the kernel's operands would be read along
    if node.op.name in CONVOLUTIONS and node.output.type.layout is None:
        return False
    return node.op.name in CONVOLUTIONS | PRODUCTS and node.output.dtype == np.float32


def takes_prologue(node: Node, target: Target, choices: Mapping[str, Choice]) -> bool:
    return (
        node.op.name == "Conv" and takes_epilogue(node) and conv.takes_prologue(node, target, choices[node.output.name])
    )


def accepts_operand(anchor: Node, v: Value, out: Value) -> str | None:
    """A full tensor of the result's layout, or one number a channel (or column)."""
    if v.dtype != np.float32:
        return f"dtype {v.dtype}"
    blocked = out.type.layout is not None
    if not blocked:
        return gemm.accepts_extra(v, out)
    if v.type.layout is None and not v.is_const:
        return "it is not blocked"
    shape = (1,) * (out.type.rank - v.type.rank) + v.shape
    if shape == out.shape and not v.is_const:
        return None
    if shape[1] == out.shape[1] and all(d == 1 for d in shape[2:]) and shape[0] in (1, out.shape[0]):
        return None
    return f"shape {v.shape} is neither the result's nor one number a channel"
