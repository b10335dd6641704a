"""Means of windows as convolutions of each channel by ones, which sum them."""

from __future__ import annotations

import math
from typing import Any

from graphc.graph import Node

MEANS = ("GlobalAveragePool", "AveragePool")


def summing(node: Node) -> tuple[list[int], dict[str, Any]] | str:
    """Of a pool of MEANS: the window and the attributes of the convolution whose sums, over the elements of the window, are its means;
    or why there is none."""
    size = node.inputs[0].shape[2:]
    window = size if node.op.name == "GlobalAveragePool" else node.attrs["kernel_shape"]
    channels = node.inputs[0].shape[1]
    if not all(isinstance(d, int) for d in (channels, *window)) or not math.prod(window):
        return "its window is not known"
    if node.op.name == "GlobalAveragePool":
        return list(window), {"group": channels}
    pads = node.attrs["pads"]
    if node.attrs["ceil_mode"] or node.attrs["auto_pad"] not in ("NOTSET", "VALID"):
        return "it divides by other numbers at the border"
    if pads and any(pads) and not node.attrs["count_include_pad"]:
        return "it divides by other numbers at the border"
    attrs = {k: node.attrs[k] for k in ("strides", "pads", "dilations", "auto_pad")}
    return list(window), {"group": channels, **attrs}
