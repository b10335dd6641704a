"""Dropout: nothing in inference, a random mask in training mode (Srivastava et al., JMLR 15, 2014)."""

from __future__ import annotations

import numpy as np

from graphc.dtypes import is_float
from graphc.errors import InputError
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Op, Samples, Tensor, register
from graphc.ops.precision import FLOAT32
from graphc.ops.random import drawn_bits, uniform
from graphc.types import TensorType, may_be

RATIO = 0.5  # where none is given


def _types(call: Call) -> list[TensorType]:
    x = call.type(0)
    for i, kind in ((1, "one number of a floating-point type"), (2, "one bool")):
        right = is_float if i == 1 else np.dtype(bool).__eq__
        if call.has(i) and (not right(call.dtype(i)) or not may_be(call.type(i).size, 1)):
            raise call.fail(f"'{call.op.inputs[i].rstrip('?')}' must be {kind}, not {call.type(i)}")
    if _training(call) and call.has(1) and call.inputs[1].is_const:
        _require_ratio(float(call.const(1).reshape(())))
    return [x, x.with_dtype(bool)]


def _require_ratio(ratio: float) -> None:
    """Raises InputError."""
    if not 0 <= ratio < 1:
        raise InputError(f"ratio is {ratio:g}", hint="it must be 0 or more and less than 1", op="Dropout")


def _training(call: Call) -> bool | None:
    """Is it in training mode? None where that is known at run time only."""
    if not call.has(2):
        return False
    mode = call.inputs[2].data
    return None if mode is None else bool(mode.reshape(()))


def _reference(x, ratio=None, training_mode=None, *, seed):
    if training_mode is None or not np.any(training_mode):
        return x, np.ones(x.shape, bool)
    ratio = RATIO if ratio is None else float(np.reshape(ratio, ()))
    _require_ratio(ratio)
    drawn = uniform(drawn_bits(x.shape, None if seed is None else float(seed)), FLOAT32)
    mask = drawn >= FLOAT32.type(ratio)
    return np.where(mask, x.astype(np.float64) / (1 - ratio), 0).astype(x.dtype), mask


def _expand(b: Builder, call: Call) -> Value | tuple[Value, Value]:
    """In training mode each element is kept, divided by the probability of that, where a random number is not below the
    ratio. A mode that is known at run time only makes the ratio 0."""
    x, training = call.inputs[0], _training(call)
    if training is False:
        call.ignore(1)
        call.attrs.ignore("seed")
        y = b.add("Identity", x)
        return (y, _ones(b, x)) if call.n_outputs > 1 else y
    wide = x.dtype if x.dtype == np.float64 else FLOAT32
    ratio = b.add("Cast", _number(b, call.inputs[1]), to=wide) if call.has(1) else b.constant(RATIO, wide)
    if training is None:
        ratio = b.add("Where", _number(b, call.inputs[2]), ratio, b.constant(0, wide))
    numbers = b.add(
        "RandomUniformLike", x, dtype=FLOAT32, seed=None if call.attrs.seed is None else float(call.attrs.seed)
    )
    mask = b.add("GreaterOrEqual", numbers, b.add("Cast", ratio, to=FLOAT32))
    scale = b.add("Reciprocal", b.add("Sub", b.constant(1, wide), ratio))
    kept = b.add("Cast", b.add("Mul", b.add("Cast", x, to=wide), scale), to=x.dtype)
    y = b.add("Where", mask, kept, b.constant(0, x.dtype))
    return (y, mask) if call.n_outputs > 1 else y


def _number(b: Builder, v: Value) -> Value:
    """One element as a scalar."""
    return b.add("Reshape", v, b.constant([], np.int64)) if v.shape else v


def _ones(b: Builder, x: Value) -> Value:
    shape = b.constant(x.shape, np.int64) if x.type.is_static else b.add("Shape", x)
    return b.add("Expand", b.constant(True), shape)


register(
    Op(
        "Dropout",
        ("x", "ratio?", "training_mode?"),
        _types,
        _reference,
        {"seed": Attr(int, None)},
        outputs=("y", "mask"),
        expand=_expand,
        values=(2,),
        deterministic=lambda call: _training(call) is False,
        samples=Samples(
            cases=(
                Case((Tensor((2, 3)),)),
                Case((Tensor((2, 3)), Const(0.25, "float32")), n_outputs=2),
                Case((Tensor((2, 3)), None, Const(False, "bool"))),
            )
        ),
    )
)
