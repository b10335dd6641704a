"""Activations of com.microsoft."""

from __future__ import annotations

import math

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Tensor
from graphc.ops.contrib.record import contrib
from graphc.ops.elementwise import broadcasting, require_broadcasts_to_first
from graphc.ops.precision import FLOATING, in_float32
from graphc.ops.transcendental import erf_reference
from graphc.types import TensorType


def _same_type(call: Call) -> list[TensorType]:
    """Floats; a bias has one number per column of x."""
    (y,) = broadcasting(FLOATING)(call)
    if call.has(1):
        if call.rank(1) != 1:
            raise call.fail(f"'{call.op.inputs[1].rstrip('?')}' has shape {call.shape(1)}, not one axis")
        require_broadcasts_to_first(call, 1)
    return [y]


def _gelu(x):
    return 0.5 * x * (1 + erf_reference(x / math.sqrt(2)))


def _fast_gelu(x, bias=None):
    x = x if bias is None else x + bias
    return 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))


def _sum(b: Builder, call: Call) -> Value:
    return b.add("Add", *call.inputs[:2]) if call.has(1) else call.inputs[0]


_ONE, _TWO = Case((Tensor((3, 5)),)), Case((Tensor((2, 3, 5)), Tensor((5,))))

contrib("Gelu", "x", _same_type, in_float32(_gelu), lambda b, call: b.add("Gelu", call.inputs[0]), [_ONE])
contrib(
    "BiasGelu",
    "x bias",
    _same_type,
    in_float32(lambda x, bias: _gelu(x + bias)),
    lambda b, call: b.add("Gelu", _sum(b, call)),
    [_TWO, Case((Tensor((5,)), Tensor((5,))))],
)
contrib(
    "FastGelu",
    "x bias?",
    _same_type,
    in_float32(_fast_gelu),
    lambda b, call: b.add("Gelu", _sum(b, call), approximate="tanh"),
    [_ONE, _TWO],
    tolerance=1e-6,  # the constant is written with ten digits
)
contrib(
    "QuickGelu",
    "x",
    _same_type,
    in_float32(lambda x, alpha: x / (1 + np.exp(-alpha * x))),
    lambda b, call: b.add("Swish", call.inputs[0], alpha=call.attrs.alpha),
    [_ONE, Case((Tensor((3, 5)),), {"alpha": 1.0}), Case((Tensor((3, 5)),), {"alpha": 0.0})],
    {"alpha": Attr(float, 1.702)},
)
