"""Activations of com.microsoft."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Tensor
from graphc.ops.contract import differ, require_same_dtype
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
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


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


# --- ScaledSiLU -------------------------------------------------------------------------------------------------------
def _scaled_type(call: Call) -> list[TensorType]:
    (y,) = broadcasting(FLOATING)(Call(call.op, call.inputs[:1], call.attrs, 1))
    if call.has(1) and call.rank(1):
        raise call.fail(f"'scale' has shape {call.shape(1)}", "it must be one number without axes")
    return [y]


def _scaled_silu(x, scale=None, *, alpha):
    scaled = x * (alpha if scale is None else scale.astype(x.dtype))
    return scaled / (1 + np.exp(-scaled))


def _expand_scaled(b: Builder, call: Call) -> Value:
    x = call.inputs[0]
    scale = b.constant(call.attrs.alpha, x.dtype)
    if call.has(1):
        scale = b.add("Cast", call.inputs[1], to=x.dtype)
    return b.add("Swish", b.add("Mul", x, scale))


contrib(
    "ScaledSiLU",
    "x scale?",
    _scaled_type,
    in_float32(_scaled_silu),
    _expand_scaled,
    [Case((Tensor((3, 5)),), {"alpha": 2.0}), Case((Tensor((3, 5)), Tensor(())), {"alpha": 2.0})],
    {"alpha": Attr(float, 1.0)},
)


# --- BiasAdd, BiasSplitGelu: of diffusion models ----------------------------------------------------------------------
def _channels_type(halves: int) -> Callable[[Call], list[TensorType]]:
    def infer(call: Call) -> list[TensorType]:
        (x,) = broadcasting(FLOATING)(Call(call.op, call.inputs[:1], call.attrs, 1))
        require_same_dtype(call, 0, 1, 2)
        last = x.shape[-1] if x.shape else 0
        if x.rank != 3 or call.rank(1) != 1 or differ(call.shape(1)[0], last):
            raise call.fail(
                f"operands have shapes {x.shape} and {call.shape(1)}", "[batch, places, channels], [channels]"
            )
        if call.has(2) and (call.rank(2) != 3 or any(map(differ, call.shape(2), x.shape))):
            raise call.fail(f"'skip' has shape {call.shape(2)}, 'x' {x.shape}", "they must be the same")
        if isinstance(last, int) and last % halves:
            raise call.fail(f"{last} channels are not two halves")
        return [x.with_shape((*x.shape[:2], last // halves))]

    return infer


def _split_gelu(x, bias):
    left, right = np.split(x + bias, 2, axis=-1)
    return left * _gelu(right)


def _expand_split_gelu(b: Builder, call: Call) -> Value | None:
    half = call.shape(0)[2] // 2
    if not isinstance(half, int):
        return None
    sizes = b.constant([half, half], np.int64)
    left, right = b.add("Split", b.add("Add", *call.inputs), sizes, axis=-1, outputs=2)
    return b.add("Mul", left, b.add("Gelu", right))


_PLACES = Tensor((2, 3, 8))
contrib(
    "BiasAdd",
    "x bias skip",
    _channels_type(1),
    in_float32(lambda x, bias, skip: x + bias + skip),
    lambda b, call: b.add("Add", b.add("Add", *call.inputs[:2]), call.inputs[2]),
    [Case((_PLACES, Tensor((8,)), _PLACES))],
)
contrib(
    "BiasSplitGelu",
    "x bias",
    _channels_type(2),
    in_float32(_split_gelu),
    _expand_split_gelu,
    [Case((_PLACES, Tensor((8,))))],
)
