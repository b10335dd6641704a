"""Operators of one's own, in a domain of one's own: one by its elements, one by other operators, one in NumPy alone.

graphc test examples/my_ops.py
graphc run model.onnx --import examples/my_ops.py     # a model with nodes of domain "my.company"
"""

from __future__ import annotations

import numpy as np

from graphc import expr as e
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Op, Samples, Tensor, register
from graphc.types import TensorType


def floating(call: Call) -> TensorType:
    """The type of the operand. Raises TypeRuleError where it is no float."""
    if call.dtype(0).kind != "f":
        raise call.fail(f"takes floating-point operands, not {call.dtype(0)}", "insert a Cast")
    return call.type(0)


def without_axis(call: Call) -> list[TensorType]:
    """The operand's type without the axis."""
    x, axis = floating(call), call.axis_of(call.attrs.axis, call.rank(0))
    return [x.with_shape((*x.shape[:axis], *x.shape[axis + 1 :]))]


# --- by its elements: compiled everywhere, and fused with what is around it ---------------------------------------------
def star_relu(x: e.Number, scale: float, bias: float) -> e.Number:
    positive = e.maximum(x, 0)
    return positive * positive * scale + bias


register(
    Op(
        "my.company::StarReLU",  # Yu et al., MetaFormer baselines for vision, arXiv:2210.13452
        ("x",),
        infer=lambda call: [floating(call)],
        reference=lambda x, scale, bias: np.where(x > 0, scale * np.square(x), 0).astype(x.dtype) + x.dtype.type(bias),
        attrs={"scale": Attr(float, 0.8944), "bias": Attr(float, -0.4472)},
        scalar=star_relu,
        scalar_attrs=("scale", "bias"),
        tolerance=1e-6,  # a few roundings
        samples=Samples(cases=(Case((Tensor((2, 5)),)), Case((Tensor((3, 4)),), {"scale": 2.0, "bias": 0.5}))),
    )
)


# --- by other operators: compiled as these are --------------------------------------------------------------------------
def entropy(b: Builder, call: Call) -> Value:
    """-Σ p log p, from the logarithms of the probabilities, which never are NaN."""
    logs = b.add("LogSoftmax", call.inputs[0], axis=call.attrs.axis)
    surprise = b.add("Mul", b.add("Exp", logs), logs)
    return b.add("Neg", b.add("ReduceSum", surprise, b.constant([call.attrs.axis], "int64"), keepdims=False))


def entropy_in_numpy(x: np.ndarray, axis: int) -> np.ndarray:
    p = np.exp(x - x.max(axis, keepdims=True))
    p /= p.sum(axis, keepdims=True)
    return -(p * np.log(np.maximum(p, 1e-300 if p.dtype == np.float64 else 1e-38))).sum(axis)


register(
    Op(
        "my.company::Entropy",  # of the classes' probabilities: how unsure a classifier is
        ("scores",),
        infer=without_axis,
        reference=entropy_in_numpy,
        attrs={"axis": Attr(int, -1)},
        expand=entropy,
        samples=Samples(cases=(Case((Tensor((3, 7)),)), Case((Tensor((2, 5, 4)),), {"axis": 1}))),
    )
)


# --- in NumPy alone: runs on the host -----------------------------------------------------------------------------------
register(
    Op(
        "my.company::Median",
        ("x",),
        infer=without_axis,
        reference=lambda x, axis: np.median(x, axis).astype(x.dtype),
        attrs={"axis": Attr(int, -1)},
        samples=Samples(cases=(Case((Tensor((3, 5)),)), Case((Tensor((4, 2, 3)),), {"axis": 0}))),
    )
)
