"""Operators of com.microsoft that are ai.onnx's under other names of attributes, or with operands that may be absent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Tensor, get_op
from graphc.ops.contract import FLOAT_NAMES, operand_name, require_dtype
from graphc.ops.contrib.record import Check, composed
from graphc.types import may_be


def _like(
    name: str,
    attrs: dict[str, Attr] | None = None,
    cases: Sequence[Case] | None = None,
    *,
    op: str = "",
    inputs: str = "",
    renamed: Callable[[Any], dict[str, Any]] = dict,
    check: Check = lambda call: None,
    operands: Callable[[Builder, Call], Sequence[Value | None]] = lambda b, call: call.inputs,
    arrays: Callable[..., Sequence[np.ndarray | None]] = lambda *given: given,
    **more,
) -> None:
    """Register com.microsoft's `name` as another operator (of the same name without `op`) on `operands`, with the attributes
    that `renamed` makes of its own. Without attributes and cases of its own it has the other's."""
    record = get_op(op or name)
    own = record.attrs if attrs is None else attrs

    def expand(b: Builder, call: Call) -> Value:
        return b.add(record, *operands(b, call), **renamed(call.attrs))

    def reference(*given, **attributes):
        return record.reference(*arrays(*given), **record.complete_attrs(renamed(attributes)))

    known = [c for c in record.samples.cases if c.attrs.keys() <= own.keys()] if cases is None else cases
    settings = {"values": record.values, "tolerance": record.tolerance, "dtypes": record.samples.dtypes} | more
    composed(name, inputs or " ".join(record.inputs), reference, expand, known, own, check=check, **settings)


def _one_number(i: int) -> Check:
    def check(call: Call) -> None:
        if call.has(i) and not all(may_be(d, 1) for d in call.shape(i)):
            raise call.fail(f"'{operand_name(call, i)}' has shape {call.shape(i)}", "give one number")

    return check


def _floats(call: Call) -> None:
    require_dtype(call, 0, FLOAT_NAMES)


# --- quantization -----------------------------------------------------------------------------------------------------
_AXIS = {"axis": Attr(int, 1)}
for _name in ("QuantizeLinear", "DequantizeLinear"):
    _uses = [c for c in get_op(_name).samples.cases if c.attrs.keys() <= _AXIS.keys()]
    _like(_name, _AXIS, [c for c in _uses if getattr(c.inputs[0], "dtype", None) != "int32" or _name[0] == "D"])


# --- movement ---------------------------------------------------------------------------------------------------------
def _flat_pads(b: Builder, call: Call) -> Sequence[Value | None]:
    x, pads, *value = call.inputs
    flat = b.constant(call.ints(1), np.int64) if pads.is_const else b.add("Reshape", pads, b.constant([-1], np.int64))
    return x, flat, *(v and b.add("Reshape", v, b.constant([], np.int64)) for v in value)


def _check_pad(call: Call) -> None:
    _floats(call)
    _one_number(2)(call)
    if call.rank(1) not in (1, 2) or (call.rank(1) == 2 and not may_be(call.shape(1)[0], 1)):
        raise call.fail(f"'pads' has shape {call.shape(1)}", "give two numbers for each axis: [2r] or [1, 2r]")


_like(
    "Pad",
    cases=[
        Case((Tensor((3, 4)), Const([1, 0, 0, 2]), Const(3.0, "float32"))),
        Case((Tensor((3, 4)), Const([[1, 0, 0, 2]]), Const([3.0], "float32"))),
        *(Case((Tensor((3, 4)), Const([1, 0, 0, 2])), {"mode": m}) for m in ("reflect", "edge", "wrap")),
        Case((Tensor((3, 4)), Const([0, -1, 1, 0]))),
    ],
    inputs="x pads value?",
    check=_check_pad,
    operands=_flat_pads,
    arrays=lambda x, pads, value=None: (x, pads.reshape(-1), value),
    dtypes=("float32",),
)
_like("GatherND", {})
_like("Trilu", {"upper": Attr(bool, True)}, check=_one_number(1))


def _axis(b: Builder, call: Call) -> Sequence[Value | None]:
    return call.inputs[0], b.constant(call.ints(1), np.int64)


_like(
    "ExpandDims",
    {},
    [Case((Tensor((2, 3)), Const(axis, "int32"))) for axis in (-1, 0, 1, [2], [-2])],
    op="Unsqueeze",
    inputs="x axis",
    check=_one_number(1),
    operands=_axis,
    arrays=lambda x, axis: (x, axis.reshape(-1)),
)

# --- the others -------------------------------------------------------------------------------------------------------
_MODES = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}
_GRID = dict(get_op("GridSample").attrs)
_like(
    "GridSample",
    _GRID | {"mode": Attr(str, "bilinear", tuple(_MODES))},
    [
        Case(
            (Tensor((2, 2, 4, 5)), Tensor((2, 3, 2, 2), -1.4, 1.4)),
            {"mode": mode, "padding_mode": padding, "align_corners": align},
        )
        for mode in _MODES
        for padding, align in (("zeros", False), ("border", True), ("reflection", False))
    ],
    renamed=lambda attrs: {**attrs, "mode": _MODES[attrs["mode"]]},
    dtypes=("float32",),
)


def _range_operands(b: Builder, call: Call) -> Sequence[Value | None]:
    return *call.inputs[:2], call.inputs[2] if call.has(2) else b.constant(1, call.dtype(0))


_like(
    "Range",
    {},
    [
        Case((Const(5), Const(0), Const(-2))),
        Case((Const(0.0, "float32"), Const(3.5, "float32"))),
        Case((Const(3, "int16"), Const([9], "int16"), Const(2, "int16"))),
    ],
    inputs="start limit delta?",
    operands=_range_operands,
    arrays=lambda start, limit, delta=None: (start, limit, np.ones((), start.dtype) if delta is None else delta),
    dtypes=("int64",),
)
