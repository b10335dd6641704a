"""Operators as older opsets write them: what is an operand today was an attribute once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .evaluate import Reject, Tensor

# operator: (the opset from which it takes these operands, the attributes that they were before)
ATTRIBUTES: Mapping[str, tuple[int, Mapping[int, str]]] = {
    "Squeeze": (13, {1: "axes"}),
    "Unsqueeze": (13, {1: "axes"}),
    "Split": (13, {1: "split"}),
    "Dropout": (12, {1: "ratio"}),
    "Pad": (11, {1: "pads", 2: "value"}),
    "Clip": (11, {1: "min", 2: "max"}),
    "TopK": (10, {1: "k"}),
    "Slice": (10, {1: "starts", 2: "ends", 3: "axes"}),
    "ReduceSum": (13, {1: "axes"}),
    **{
        f"Reduce{kind}": (18, {1: "axes"})
        for kind in ("Max", "Min", "Mean", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
    },
}
SINGLE = frozenset({"k", "ratio", "value", "min", "max"})  # one number, not a list
NEGATIVE = 11  # from there axes may count from the end
BROADCAST = 8  # from there these operators broadcast
ALIKE = frozenset({"Sum", "Mean", "Max", "Min"})
SCALES = 11  # from there Resize takes a region in front of its scales


def written(
    op: str, operands: Sequence[Tensor | None], attrs: Mapping[str, Any], opset: int
) -> tuple[str, list[Tensor | None], dict[str, Any]]:
    """The operator, its operands and its attributes in the form of that opset. Raises Reject where it has none."""
    operands, attrs = list(operands), dict(attrs)
    if opset < NEGATIVE and operands and operands[0] is not None:
        _counted_from_the_start(op, operands, attrs)
    if opset < BROADCAST and op in ALIKE and len({t.shapes() for t in operands if t is not None}) > 1:
        raise Reject("operands of one shape only")
    since, names = ATTRIBUTES.get(op, (0, {}))
    if op == "Resize" and opset < SCALES:
        return _resize(operands, attrs, opset)
    if opset >= since:
        return op, operands, attrs
    attrs.pop("noop_with_empty_axes", None)
    for i, name in names.items():
        if i < len(operands) and (t := operands[i]) is not None:
            if t.constant is None or not t.constant.size:
                raise Reject("an operand that was an attribute")
            attrs[name] = t.constant.reshape(-1)[0].item() if name in SINGLE else t.constant.reshape(-1).tolist()
    if any(t is not None for t in operands[len(names) + 1 :]):
        raise Reject("newer")
    return op, operands[:1], attrs


def _counted_from_the_start(op: str, operands: list[Tensor | None], attrs: dict[str, Any]) -> None:
    """Axes as numbers from 0. Raises Reject where an operand holds one that is not."""
    rank = operands[0].rank + (op == "OneHot")
    axes = operands[1] if op in ("Squeeze", "Unsqueeze", "ReduceSum") and len(operands) > 1 else None
    if axes is not None and axes.constant is not None and (axes.constant < 0).any():
        raise Reject("axes from the end")
    if isinstance(axis := attrs.get("axis"), int) and axis < 0 and rank:
        attrs["axis"] = axis % rank
    if axes := attrs.get("axes"):
        attrs["axes"] = [i % rank for i in axes]


def _resize(operands: list[Tensor | None], attrs: dict[str, Any], opset: int) -> tuple[str, list, dict[str, Any]]:
    """Resize of opset 10 and Upsample before it: scales, and a mode."""
    scales = operands[2] if len(operands) > 2 else None
    if scales is None or scales.constant is None or attrs.get("mode") not in ("nearest", "linear"):
        raise Reject("newer")
    mode = {"mode": attrs["mode"]}
    if opset == 10:
        return "Resize", [operands[0], scales], mode
    if (scales.constant < 1).any():
        raise Reject("it makes larger only")
    if opset == 9:
        return "Upsample", [operands[0], scales], mode
    return "Upsample", operands[:1], {**mode, "scales": scales.constant.astype(np.float64).tolist()}
