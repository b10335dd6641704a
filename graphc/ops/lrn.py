"""Local response normalisation across channels (Krizhevsky et al., ImageNet classification with deep CNNs, 3.3)."""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Family, Op, Samples, Tensor, register
from graphc.ops.precision import in_float32
from graphc.ops.standardize import Expansion, infer_floats
from graphc.types import TensorType


def _infer(call: Call) -> list[TensorType]:
    (x,) = infer_floats(call)
    if x.rank < 2:
        raise call.fail(f"takes operands of rank 2 or more, not {x.rank}")
    if call.attrs.size < 1:
        raise call.fail(f"size is {call.attrs.size}", "give the number of channels to sum over, 1 or more")
    return [x]


def _expand(b: Builder, call: Call) -> Value | None:
    """x * (bias + alpha*mean of x² over `size` channels)**-beta. The mean is an average pool along axis 1.

    None where the number of channels is symbolic.
    """
    channels = call.shape(0)[1]
    if not isinstance(channels, int):
        return None
    if 0 in call.shape(0):
        return b.add("Identity", call.inputs[0])
    ex = Expansion(b, call)
    mean = b.add(
        "AveragePool",
        ex.reshape(b.add("Mul", ex.x, ex.x), (0, 1, channels, -1)),
        kernel_shape=(call.attrs.size, 1),
        pads=((call.attrs.size - 1) // 2, 0, call.attrs.size // 2, 0),
        count_include_pad=True,
    )
    scaled = b.add(
        "Add", b.add("Mul", ex.reshape_like_x(mean), ex.number(call.attrs.alpha)), ex.number(call.attrs.bias)
    )
    return ex.cast(b.add("Mul", ex.x, b.add("Pow", scaled, ex.number(-call.attrs.beta))), call.dtype(0))


def _reference(x: np.ndarray, *, size: int, alpha: float, beta: float, bias: float) -> np.ndarray:
    squares, total = np.square(x), np.zeros_like(x)
    for c in range(x.shape[1]):
        total[:, c] = squares[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1].sum(1)
    return x / (bias + alpha / size * total) ** beta


register(
    Op(
        "LRN",
        ("x",),
        _infer,
        in_float32(_reference),
        {"size": Attr(int), "alpha": Attr(float, 1e-4), "beta": Attr(float, 0.75), "bias": Attr(float, 1.0)},
        expand=_expand,
        per_sample=True,
        samples=Samples(
            cases=(
                Case((Tensor((2, 7, 3, 4)),), {"size": 5, "alpha": 0.5, "bias": 2.0}),
                Case((Tensor((1, 20, 5, 5)),), {"size": 5}),
                Case((Tensor((2, 6, 5)),), {"size": 4, "alpha": 0.9, "beta": 0.5}),
                Case((Tensor((3, 6)),), {"size": 3, "alpha": 0.9}),
                Case((Tensor((1, 3, 2, 2)),), {"size": 9, "alpha": 0.9, "beta": 1.0}),  # wider than there are channels
            )
        ),
        flops=lambda call: (call.attrs.size + 20) * call.type(0).size,
        family=Family.NORMALIZE,
    )
)
