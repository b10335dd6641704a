"""BatchNormalization, in inference and in training mode (Ioffe and Szegedy, arXiv:1502.03167)."""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Op, Samples, Tensor, register
from graphc.ops.precision import widen
from graphc.ops.standardize import EPSILON, Expansion, column, infer_floats, require_per_channel, standardize
from graphc.types import TensorType


def _infer_batch(call: Call) -> list[TensorType]:
    (x,) = infer_floats(call)
    require_per_channel(call, "scale", "B", "input_mean", "input_var")
    if call.attrs.training_mode:
        return [x, call.type(3), call.type(4)]
    if call.n_outputs > 1:
        raise call.fail(
            "running statistics are results of training mode", "set training_mode=1, or use one output only"
        )
    return [x]


def _expand_batch(b: Builder, call: Call) -> Value | tuple[Value, ...]:
    """x*factor + offset, both of them one number per channel: constants once they are folded."""
    ex = Expansion(b, call)
    if call.attrs.training_mode:
        return _expand_batch_training(ex)
    call.attrs.ignore("momentum")
    scale, shift, mean, variance = map(ex.wide, call.inputs[1:])
    factor = b.add("Mul", scale, ex.inverse_root(variance))
    offset = b.add("Sub", shift, b.add("Mul", mean, factor))
    return ex.cast(ex.scale_shift(ex.x, ex.column(factor), ex.column(offset)), call.dtype(0))


def _expand_batch_training(ex: Expansion) -> Value | tuple[Value, ...]:
    b, call = ex.b, ex.call
    scale, shift, *running = map(ex.wide, call.inputs[1:])
    mean, centered, variance = ex.center(ex.x, [i for i in range(ex.rank) if i != 1])
    y = b.add("Mul", centered, ex.inverse_root(variance))
    y = ex.cast(ex.scale_shift(y, ex.column(scale), ex.column(shift)), call.dtype(0))
    if call.n_outputs == 1:
        call.attrs.ignore("momentum")
        return y
    new = [ex.reshape(v, (-1,)) for v in (mean, variance)]
    kept, taken = ex.number(call.attrs.momentum), ex.number(1 - call.attrs.momentum)
    blended = [b.add("Add", b.add("Mul", o, kept), b.add("Mul", n, taken)) for o, n in zip(running, new)]
    return (y, *(ex.cast(v, call.dtype(i)) for i, v in enumerate(blended, 3)))[: call.n_outputs]


def _batch_reference(x, scale, shift, mean, var, *, epsilon, momentum, training_mode):
    wide = widen(x)
    if not training_mode:
        inverse = 1 / np.sqrt(column(var, wide) + epsilon)
        y = (wide - column(mean, wide)) * inverse * column(scale, wide) + column(shift, wide)
        return y.astype(x.dtype)
    axes = tuple(i for i in range(x.ndim) if i != 1)
    y = standardize(wide, axes, epsilon)[0] * column(scale, wide) + column(shift, wide)
    old_new = ((mean, wide.mean(axes)), (var, wide.var(axes)))
    running = [(widen(old) * momentum + new.reshape(-1) * (1 - momentum)).astype(old.dtype) for old, new in old_new]
    return y.astype(x.dtype), *running


def _batch_case(*shape: int, n_outputs: int = 1, **attrs) -> Case:
    c = (shape[1] if len(shape) > 1 else 1,)
    return Case((Tensor(shape), Tensor(c), Tensor(c), Tensor(c), Tensor(c, 0.2, 4)), attrs, n_outputs)


register(
    Op(
        "BatchNormalization",
        ("x", "scale", "bias", "mean", "variance"),
        _infer_batch,
        _batch_reference,
        {"epsilon": EPSILON, "momentum": Attr(float, 0.9), "training_mode": Attr(bool, False)},
        outputs=("y", "running_mean", "running_variance"),
        expand=_expand_batch,
        statistics=(3, 4),
        samples=Samples(
            cases=(
                _batch_case(2, 3, 4, 5),
                _batch_case(2, 3, 4, epsilon=0.01),
                _batch_case(1, 17, 3, 3),
                _batch_case(4, 3),
                _batch_case(5),
                _batch_case(0, 3, 2, 2),
                _batch_case(2, 3, 4, 5, n_outputs=3, training_mode=True, momentum=0.7),
                _batch_case(6, 3, training_mode=True),
            )
        ),
        flops=lambda call: 2 * call.type(0).size,
    )
)
