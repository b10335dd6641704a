"""Which operators gain by images that have their channels innermost in memory."""

from __future__ import annotations

from graphc.graph import Node

WINDOWS = ("Conv", "ConvTranspose")
DTYPES = ("float16", "bfloat16", "float32")  # of convolutions that gain by it


def gains(node: Node) -> bool:
    return node.op.name in WINDOWS


def of_floats(node: Node) -> str:
    """As `Rule.channels_last`, of convolutions."""
    return "any" if node.inputs[0].dtype.name in DTYPES else ""
