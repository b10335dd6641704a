"""Sequences and optionals as values of a graph (see graphc/objects.py). They run on the host: no backend compiles them.

What a file says of sequences with fixed lengths and positions is told in tensors when it is read, and is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.errors import InputError
from graphc.objects import Content, Loose, ObjectType, box, common, content_of, optional, sequence
from graphc.op import Attr, Call, Family, Op, register
from graphc.types import Dim, Sym, TensorType

MAX_PARTS = 10_000  # of one split


def held(call: Call, i: int, kind: str = "sequence") -> Content:
    """What operand i, a sequence or an optional, holds. Raises TypeRuleError where it is none."""
    t = call.type(i)
    if not isinstance(t, ObjectType) or t.kind != kind:
        raise call.fail(f"operand '{call.op.inputs[i].rstrip('?')}' must be of type {kind}, not {t}")
    return t.of


def element(call: Call, of: Content, *operands: int) -> TensorType | None:
    """The type of one element, whose open dims only data tells; None where its rank is not known. operands: that decide it."""
    if isinstance(of, ObjectType):
        return of
    if isinstance(of, Loose):
        return None
    names = ", ".join(call.inputs[i].name for i in operands)
    return of.with_shape(
        [Sym(f"{call.op.name}({names}, {k})") if isinstance(d, Sym) else d for k, d in enumerate(of.shape)]
    )


def _one_type(call: Call, contents: Sequence[Content]) -> Content:
    of = contents[0]
    for other in contents[1:]:
        found = common(of, other)
        if found is None:
            raise call.fail(f"a sequence of {of} can't hold {other}", "elements of a sequence have one dtype")
        of = found
    return of


def _position(op: str, position: Any, length: int, last: int) -> int:
    """0 ≤ position. Raises InputError where it is not among -length … last."""
    at = -1 if position is None else int(np.reshape(position, ()))
    if not -length <= at <= last:
        hint = f"from {-length} to {last}" if last >= 0 else "it is empty"
        raise InputError(f"position {at} in a sequence of {length}", hint=hint, op=op)
    return at + length if at < 0 else at


def _require_scalar(call: Call, i: int) -> None:
    if call.has(i) and call.inputs[i].type is not None:
        t = call.type(i)
        if t.dtype.name not in ("int32", "int64") or isinstance(t.size, int) and t.size != 1:
            raise call.fail(f"the position must be one int32 or int64, not {t}")


def _kept(item: Any) -> Any:
    """An element that outlives the memory that it is read from."""
    return item.copy() if isinstance(item, np.ndarray) else item


def _item(a: np.ndarray) -> Any:
    """An operand as an element: a tensor, or what a box holds."""
    return a[()] if a.dtype == object and a.ndim == 0 and isinstance(a[()], (list, dict)) else _kept(a)


def _result(item: Any) -> np.ndarray:
    return item if isinstance(item, np.ndarray) else box(item)


def _operator(name: str, inputs: str, infer: Callable, reference: Callable, attrs: Any = None) -> None:
    operands = tuple(inputs.split())
    register(
        Op(
            name,
            operands,
            infer,
            reference,
            attrs or {},
            arranges=tuple(i for i, operand in enumerate(operands) if operand.rstrip("?") in ("position", "split")),
            tolerance=0.0,
            family=Family.SEQUENCE,
            objects=True,
        )
    )


# --- made ---------------------------------------------------------------------------------------------------------------
_operator(
    "SequenceEmpty",
    "",
    lambda call: [sequence(Loose(call.attrs.dtype, nothing=True))],
    lambda dtype: box([]),
    {"dtype": Attr("dtype", np.float32)},
)


def _constructed(call: Call) -> list[TensorType]:
    if not call.inputs:
        raise call.fail("takes one operand or more", "SequenceEmpty makes a sequence of none")
    return [sequence(_one_type(call, [content_of(v.type) for v in call.inputs]))]


_operator(
    "SequenceConstruct",
    "*xs",
    _constructed,
    lambda *xs: box([_item(x) for x in xs]),
)


def _inserted(call: Call) -> list[TensorType]:
    _require_scalar(call, 2)
    return [sequence(_one_type(call, [held(call, 0), content_of(call.inputs[1].type)]))]


def _insert(s: np.ndarray, x: np.ndarray, position: np.ndarray | None = None) -> np.ndarray:
    items = list(s[()])
    at = len(items) if position is None else _position("SequenceInsert", position, len(items), len(items))
    items.insert(at, _item(x))
    return box(items)


_operator("SequenceInsert", "s x position?", _inserted, _insert)


def _split_type(call: Call) -> list[TensorType]:
    x = call.type(0)
    axis = call.axis_of(call.attrs.axis, x.rank)
    keepdims = call.has(1) or call.attrs.keepdims
    if call.has(1) and call.inputs[1].type is not None and call.rank(1) > 1:
        raise call.fail("the sizes of parts must be one number, or a row of numbers")
    part: Dim = Sym("?") if call.has(1) else 1
    return [sequence(x.with_shape((*x.shape[:axis], *((part,) if keepdims else ()), *x.shape[axis + 1 :])))]


def _split(x: np.ndarray, split: np.ndarray | None = None, *, axis: int, keepdims: bool) -> np.ndarray:
    if split is None:
        parts = [np.take(x, [i] if keepdims else i, axis) for i in range(x.shape[axis])]
        return box([np.array(part, x.dtype) for part in parts])
    size = x.shape[axis]
    if split.ndim == 0:
        step = int(split)
        if step < 1 or size > step * MAX_PARTS:
            hint = f"at most {MAX_PARTS} parts"
            raise InputError(f"parts of {step} of a dim of {size}", hint=hint, op="SplitToSequence")
        ends = [*range(step, size, step), size] if size else []
    else:
        if int(split.sum()) != size or (split < 0).any():
            raise InputError(f"sizes of parts that sum to the dim, {size}, not {split.tolist()}", op="SplitToSequence")
        ends = np.cumsum(split).tolist()
    starts = [0, *ends[:-1]] if ends else []
    rows = np.moveaxis(x, axis, 0)
    return box([np.array(np.moveaxis(rows[a:b], 0, axis), order="C") for a, b in zip(starts, ends)])


_operator(
    "SplitToSequence",
    "x split?",
    _split_type,
    _split,
    {"axis": Attr(int, 0), "keepdims": Attr(bool, True)},
)


# --- taken apart --------------------------------------------------------------------------------------------------------
def _erased(call: Call) -> list[TensorType]:
    _require_scalar(call, 1)
    return [sequence(held(call, 0))]


def _erase(s: np.ndarray, position: np.ndarray | None = None) -> np.ndarray:
    items = list(s[()])
    del items[_position("SequenceErase", position, len(items), len(items) - 1)]
    return box(items)


_operator("SequenceErase", "s position?", _erased, _erase)


def _element_type(call: Call) -> list[TensorType | None]:
    _require_scalar(call, 1)
    return [element(call, held(call, 0), 0, 1)]


_operator(
    "SequenceAt",
    "s position",
    _element_type,
    lambda s, position: _result(s[()][_position("SequenceAt", position, len(s[()]), len(s[()]) - 1)]),
)


def _length_type(call: Call) -> list[TensorType]:
    held(call, 0)
    return [TensorType(np.int64, ())]


_operator("SequenceLength", "s", _length_type, lambda s: np.array(len(s[()]), np.int64))


def _joined(call: Call) -> list[TensorType | None]:
    of = held(call, 0)
    if isinstance(of, ObjectType):
        raise call.fail(f"takes a sequence of tensors, not of {of}")
    x = element(call, of, 0)
    if x is None:
        return [None]
    new = call.attrs.new_axis
    axis = call.axis_of(call.attrs.axis, x.rank + new)
    size = Sym(f"ConcatFromSequence({call.inputs[0].name})")
    return [x.with_shape((*x.shape[:axis], size, *x.shape[axis + (not new) :]))]


def _join(s: np.ndarray, axis: int, new_axis: bool) -> np.ndarray:
    items: list[np.ndarray] = s.item()
    if not items:
        raise InputError("an empty sequence has nothing to concatenate", op="ConcatFromSequence")
    try:
        return np.stack(items, axis) if new_axis else np.concatenate(items, axis)
    except ValueError:
        shapes = ", ".join(str(list(x.shape)) for x in items[:4]) + (", …" if len(items) > 4 else "")
        raise InputError(f"elements of shapes {shapes} can't be joined", op="ConcatFromSequence") from None


_operator("ConcatFromSequence", "s", _joined, _join, {"axis": Attr(int), "new_axis": Attr(bool, False)})


# --- optionals ----------------------------------------------------------------------------------------------------------
def _optional_type(call: Call) -> list[TensorType]:
    if call.has(0):
        return [optional(content_of(call.inputs[0].type))]
    if call.attrs.type is None:
        raise call.fail("an optional without a value needs the attribute 'type'")
    return [optional(call.attrs.type)]


_operator(
    "Optional",
    "x?",
    _optional_type,
    lambda x=None, **_: box(None if x is None else _item(x)),
    {"type": Attr("type", None)},
)


def _got_type(call: Call) -> list[TensorType | None]:
    t = call.type(0)
    return [element(call, t.of, 0) if isinstance(t, ObjectType) and t.kind == "optional" else t]


def _get(x: np.ndarray) -> np.ndarray:
    item = x[()] if x.dtype == object and x.ndim == 0 else x
    if item is None:
        raise InputError("the optional is empty", hint="ask OptionalHasElement before", op="OptionalGetElement")
    return item if isinstance(item, np.ndarray) else box(item) if isinstance(item, (list, dict)) else x


_operator("OptionalGetElement", "x", _got_type, _get)
_operator(
    "OptionalHasElement",
    "x?",
    lambda call: [TensorType(bool, ())],
    lambda x=None: np.array(x is not None and not (x.dtype == object and x.ndim == 0 and x[()] is None)),
)
