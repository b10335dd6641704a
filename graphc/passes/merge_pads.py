"""Merge a Pad into the padding of the convolution or pool that reads it."""

from __future__ import annotations

import numpy as np

from graphc.graph import Node, Value
from graphc.op import Call
from graphc.ops._geometry import geometry
from graphc.ops.movement import pad_amounts
from graphc.passes.rewrite import Rewrite, Skip, Sweep, not_negative

merge_pads = Rewrite("merge_pads")


@merge_pads.on("Conv")
def into_conv(node: Node, sweep: Sweep) -> Value | Skip | None:
    pad = sweep.producer(node.inputs[0], "Pad")
    return None if pad is None else _merged(node, pad, sweep, value_is_legal=_fill(pad.call) == 0)


@merge_pads.on("AveragePool")
def into_average_pool(node: Node, sweep: Sweep) -> Value | Skip | None:
    """The Pad's zeros count as elements of the mean, those of the pool itself only with count_include_pad."""
    pad = sweep.producer(node.inputs[0], "Pad")
    if pad is None:
        return None
    own = geometry(node.call)
    if not node.attrs["count_include_pad"] and any(own.pads_begin + own.pads_end):
        return Skip("its own padding does not count, the Pad's does")
    if node.attrs["ceil_mode"]:
        return Skip("with ceil_mode the last windows depend on where the padding ends")
    return _merged(node, pad, sweep, value_is_legal=_fill(pad.call) == 0, attrs={"count_include_pad": True})


@merge_pads.on("MaxPool")
def into_max_pool(node: Node, sweep: Sweep) -> Value | Skip | None:
    """The padding of a MaxPool never wins: neither does -inf, nor 0 among numbers that are not negative."""
    pad = sweep.producer(node.inputs[0], "Pad")
    if pad is None:
        return None
    if len(node.outputs) > 1:
        return Skip("its indices count the padding")
    if node.attrs["ceil_mode"]:
        return Skip("with ceil_mode the last windows depend on where the padding ends")
    if max(geometry(node.call).dilations) > 1:
        return Skip("a dilated window may see padding alone")
    fill = _fill(pad.call)
    never_wins = fill == -np.inf or (fill == 0 and not_negative(pad.inputs[0], sweep))
    return _merged(node, pad, sweep, value_is_legal=never_wins)


def _fill(pad: Call) -> float | None:
    """The number that a constant Pad writes, None for the other modes. Raises Deferred while it is unknown."""
    if pad.attrs["mode"] != "constant":
        return None
    return float(pad.const(2).reshape(())) if pad.has(2) else 0.0


def _merged(node: Node, pad: Node, sweep: Sweep, *, value_is_legal: bool, attrs: dict | None = None) -> Value | Skip:
    if not value_is_legal:
        return Skip(
            f"it pads with {_fill(pad.call)}" if pad.attrs["mode"] == "constant" else f"mode {pad.attrs['mode']}"
        )
    amounts = pad_amounts(pad.call)
    if any(n < 0 for pair in amounts for n in pair):
        return Skip("it crops")
    if any(n for pair in amounts[:2] for n in pair):
        return Skip("it pads the batch or the channels")
    own = geometry(node.call)
    pads = (*own.pads_begin, *own.pads_end)
    if not all(isinstance(p, int) for p in pads):
        return Skip("auto_pad of a symbolic size")
    before, after = zip(*amounts[2:])
    merged = [p + n for p, n in zip(pads, (*before, *after))]
    if node.op.name != "Conv" and any(p >= k for p, k in zip(merged, own.kernel * 2)):
        return Skip(f"windows of {own.kernel} would lie wholly in the padding {merged}")
    changes = {"pads": merged, "auto_pad": "NOTSET", **(attrs or {})}
    return sweep.remake(node, pad.inputs[0], *node.inputs[1:], attrs=changes)
