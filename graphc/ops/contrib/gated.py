"""GatedRMSNorm of com.microsoft: RMS normalisation of groups of columns, times an activated gate."""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Tensor
from graphc.ops.contract import differ, require_same_dtype
from graphc.ops.contrib.record import contrib
from graphc.ops.elementwise import broadcasting
from graphc.ops.precision import FLOAT32, FLOATING, in_float32
from graphc.types import TensorType


def _infer(call: Call) -> list[TensorType]:
    (x,) = broadcasting(FLOATING)(Call(call.op, call.inputs[:1], call.attrs, 1))
    require_same_dtype(call, 0, 1, 2)
    if call.rank(1) != 1 or not x.rank:
        raise call.fail(f"'scale' has shape {call.shape(1)}, 'x' {x.shape}", "one axis, and one or more")
    width, columns = call.shape(1)[0], x.shape[-1]
    if isinstance(width, int) and isinstance(columns, int) and (not width or columns % width):
        raise call.fail(f"the {columns} columns of 'x' do not divide into groups of {width}, as 'scale' has")
    if call.rank(2) != x.rank or any(map(differ, call.shape(2), x.shape)):
        raise call.fail(f"'gate' has shape {call.shape(2)}, 'x' {x.shape}", "they must be the same")
    return [x]


def _reference(x, scale, gate, *, activation, epsilon):
    groups = x.reshape(*x.shape[:-1], x.shape[-1] // scale.size, scale.size)
    normal = groups / np.sqrt((groups * groups).mean(-1, keepdims=True) + x.dtype.type(epsilon)) * scale
    opened = 1 / (1 + np.exp(-gate))
    return normal.reshape(x.shape) * (opened if activation == "sigmoid" else gate * opened)


def _expand(b: Builder, call: Call) -> Value | None:
    x, scale, gate = call.inputs
    width, columns = scale.shape[0], x.shape[-1]
    if not (isinstance(width, int) and isinstance(columns, int)):
        return None
    wide = x.dtype if x.dtype.itemsize >= 4 else FLOAT32
    x, scale, gate = (b.add("Cast", v, to=wide) for v in call.inputs)
    if width != columns:
        lead = [0] * (len(x.shape) - 1)
        x = b.add("Reshape", x, b.constant([*lead, columns // width, width], np.int64))
    y = b.add("RMSNormalization", x, scale, axis=-1, epsilon=call.attrs.epsilon)
    if width != columns:
        y = b.add("Reshape", y, b.constant([*lead, columns], np.int64))
    opened = b.add("Sigmoid", gate) if call.attrs.activation == "sigmoid" else b.add("Swish", gate)
    return b.add("Cast", b.add("Mul", y, opened), to=call.dtype(0))


_X = Tensor((2, 3, 8))
contrib(
    "GatedRMSNorm",
    "x scale gate",
    _infer,
    in_float32(_reference),
    _expand,
    [
        Case((_X, Tensor((8,)), _X)),
        Case((_X, Tensor((4,)), _X), {"activation": "sigmoid", "epsilon": 1e-3}),
        Case((_X, Tensor((8,)), _X), {"activation": "swish"}),
    ],
    {"activation": Attr(str, "silu", ("silu", "swish", "sigmoid")), "epsilon": Attr(float, 1e-5)},
)
