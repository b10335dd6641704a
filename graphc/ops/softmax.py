"""Softmax, LogSoftmax and Hardmax along one axis."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Family, Laws, Op, Samples, Tensor, register
from graphc.ops.elementwise import EXACT, require
from graphc.ops.precision import FLOATING, INT64, in_float32
from graphc.sizes import is_size
from graphc.types import TensorType


def _infer(call: Call) -> list[TensorType]:
    x = call.type(0)
    require(call, FLOATING, x.dtype)
    call.axis_of(call.attrs.axis, x.rank)
    return [x]


def _along_axis(name: str, reference: Callable, expand: Callable[[Builder, Call], Value | None], **more) -> Op:
    return register(
        Op(
            name,
            ("x",),
            _infer,
            in_float32(reference),
            {"axis": Attr(int, -1)},
            expand=expand,
            samples=Samples(
                low=-20,
                high=20,
                cases=(
                    Case((Tensor((2, 10)),)),
                    Case((Tensor((3, 4, 5)),), {"axis": 0}),
                    Case((Tensor((3, 4, 5)),), {"axis": 1}),
                    Case((Tensor((2, 3, 67)),), {"axis": -1}),
                    Case((Tensor((5,), 200, 900),), {"axis": 0}),  # exp overflows unless the maximum is taken out
                    Case((Tensor((4, 1)),)),
                    Case((Tensor((0, 3)),)),
                ),
                special=(math.nan, math.inf, -math.inf) if name != "Hardmax" else (),
            ),
            flops=lambda call: 5 * call.type(0).size,
            family=Family.NORMALIZE,
            **more,
        )
    )


def _centered(b: Builder, call: Call) -> tuple[Value, Value]:
    """x - max(x) and the axis as a constant."""
    x = call.inputs[0]
    axis = b.constant([call.axis_of(call.attrs.axis, call.rank(0))], INT64)
    return b.add("Sub", x, b.add("ReduceMax", x, axis)), axis


def _expand_softmax(b: Builder, call: Call) -> Value:
    centered, axis = _centered(b, call)
    powers = b.add("Exp", centered)
    return b.add("Div", powers, b.add("ReduceSum", powers, axis))


def _expand_log_softmax(b: Builder, call: Call) -> Value:
    centered, axis = _centered(b, call)
    return b.add("Sub", centered, b.add("Log", b.add("ReduceSum", b.add("Exp", centered), axis)))


def _expand_hardmax(b: Builder, call: Call) -> Value | None:
    """Positions along the axis compared with that of the first maximum. None where the axis is symbolic."""
    x = call.type(0)
    axis = call.axis_of(call.attrs.axis, x.rank)
    length = x.shape[axis]
    if not isinstance(length, int):
        return None
    if length == 0:
        return b.add("Identity", call.inputs[0])
    first = b.add("ArgMax", call.inputs[0], axis=axis)
    return b.add("Cast", b.add("Equal", _positions(b, length, axis, x.rank), first), to=x.dtype)


def _positions(b: Builder, length: int, axis: int, rank: int) -> Value:
    """0, 1, … along the axis."""
    shape = [-1 if i == axis else 1 for i in range(rank)]
    if not is_size(length):
        return b.constant(np.arange(length).reshape(shape), INT64)
    counted = b.add("Range", *(b.constant(n, INT64) for n in (0, length, 1)))
    return b.add("Reshape", counted, b.constant(shape, INT64))


def _softmax(x: np.ndarray, axis: int) -> np.ndarray:
    powers = np.exp(x - x.max(axis, keepdims=True, initial=-math.inf))
    return powers / powers.sum(axis, keepdims=True)


def _log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    centred = x - x.max(axis, keepdims=True, initial=-math.inf)
    return centred - np.log(np.sum(np.exp(centred), axis, keepdims=True))


def _hardmax(x: np.ndarray, axis: int) -> np.ndarray:
    out = np.zeros_like(x)
    if x.size:
        np.put_along_axis(out, np.expand_dims(np.argmax(x, axis), axis), 1, axis)
    return out


_along_axis("Softmax", _softmax, _expand_softmax, laws=Laws(not_negative=True))
_along_axis("LogSoftmax", _log_softmax, _expand_log_softmax)
_along_axis("Hardmax", _hardmax, _expand_hardmax, tolerance=EXACT)
