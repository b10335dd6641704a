"""Matrix products and convolutions of com.microsoft, with what ONNX Runtime's optimiser fused into them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Tensor, get_op
from graphc.ops.contract import FLOAT_NAMES, differ, matmul_shape, require_dtype, require_same_dtype
from graphc.ops.contrib.record import contrib
from graphc.ops.precision import in_float32
from graphc.types import TensorType

# --- FusedMatMul ------------------------------------------------------------------------------------------------------


def _order(rank: int, batch_first_dim: bool, transposed: bool) -> list[int]:
    """Axes that bring an operand to [batch…, rows, columns]. With `batch_first_dim` the dim before the columns is stored
    in front of the batch; `transposed` swaps rows and columns as they are stored."""
    axes = list(range(rank))
    if rank < 2:
        return axes
    if batch_first_dim:
        axes = [*axes[1:-1], 0, rank - 1]
    if transposed:
        axes[-2:] = axes[:-3:-1]
    return axes


def _orders(call: Call) -> tuple[list[int], list[int]]:
    flags = [
        (call.attrs.get("transBatchA", False), call.attrs.transA),
        (call.attrs.get("transBatchB", False), call.attrs.transB),
    ]
    if any(batch for batch, _ in flags) and (call.rank(0) != call.rank(1) or call.rank(0) < 3):
        raise call.fail("transBatchA and transBatchB take operands of one rank, 3 or more")
    return _order(call.rank(0), *flags[0]), _order(call.rank(1), *flags[1])


def _fused_type(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, 0, FLOAT_NAMES)
    require_same_dtype(call, 0, 1)
    shapes = [tuple(call.shape(i)[a] for a in axes) for i, axes in enumerate(_orders(call))]
    return [TensorType(dtype, matmul_shape(call, *shapes))]


def _fused_reference(a, b, alpha, transA, transB, transBatchA=False, transBatchB=False):
    a, b = a.transpose(_order(a.ndim, transBatchA, transA)), b.transpose(_order(b.ndim, transBatchB, transB))
    return alpha * np.matmul(a, b)


def _expand_fused(b: Builder, call: Call) -> Value:
    operands = [
        v if axes == sorted(axes) else b.add("Transpose", v, perm=axes) for v, axes in zip(call.inputs, _orders(call))
    ]
    product = b.add("MatMul", *operands)
    return product if call.attrs.alpha == 1 else b.add("Mul", product, b.constant(call.attrs.alpha, call.dtype(0)))


_TRANS = {"alpha": Attr(float, 1.0), "transA": Attr(bool, False), "transB": Attr(bool, False)}
_PAIRS: Sequence[tuple] = [
    ((5, 7), (7, 3), {"alpha": 0.5}),
    ((2, 7, 5), (2, 3, 7), {"transA": 1, "transB": 1}),
    ((2, 3, 5, 7), (3, 4, 7), {"transB": 1, "alpha": -2.0}),
    ((7,), (7, 3), {"transA": 1}),
]
_BATCHED: Sequence[tuple] = [
    ((5, 2, 7), (2, 7, 3), {"transBatchA": 1}),
    ((7, 2, 5), (3, 2, 7), {"transA": 1, "transBatchA": 1, "transB": 1, "transBatchB": 1}),
]


def _fused_matmul(name: str, attrs: dict[str, Attr], uses: Sequence[tuple]) -> None:
    cases = [Case((Tensor(a), Tensor(b)), at) for a, b, at in uses]
    contrib(name, "a b", _fused_type, in_float32(_fused_reference), _expand_fused, cases, attrs)


_fused_matmul(
    "FusedMatMul", _TRANS | {"transBatchA": Attr(bool, False), "transBatchB": Attr(bool, False)}, [*_PAIRS, *_BATCHED]
)
_fused_matmul("TransposeMatMul", _TRANS, _PAIRS)

# --- activations by name ----------------------------------------------------------------------------------------------
Activation = tuple[str, tuple[str, ...]]  # an operator, and its attributes in the order of the parameters
_GEMM: dict[str, Activation] = {
    "Relu": ("Relu", ()),
    "Tanh": ("Tanh", ()),
    "Sigmoid": ("Sigmoid", ()),
    "Softplus": ("Softplus", ()),
    "Softsign": ("Softsign", ()),
    "LeakyRelu": ("LeakyRelu", ("alpha",)),
    "Elu": ("Elu", ("alpha",)),
    "Celu": ("Celu", ("alpha",)),
    "ThresholdedRelu": ("ThresholdedRelu", ("alpha",)),
    "HardSigmoid": ("HardSigmoid", ("alpha", "beta")),
    "Selu": ("Selu", ("alpha", "gamma")),
}
_CONV: dict[str, Activation] = {
    name: _GEMM[name] for name in ("Relu", "Tanh", "Sigmoid", "LeakyRelu", "HardSigmoid")
} | {"HardSwish": ("HardSwish", ()), "Clip": ("Clip", ("min", "max"))}


def _activation(
    call: Call, table: dict[str, Activation], params: Sequence[float | None]
) -> Callable[[Builder, Value], Value]:
    """Adds the node's activation behind a value. Raises TypeRuleError where it is unknown or lacks parameters."""
    if not call.attrs.activation:
        return lambda b, v: v
    if call.attrs.activation not in table:
        raise call.fail(f"unknown activation '{call.attrs.activation}'", f"one of: {', '.join(table)}")
    op, names = table[call.attrs.activation]
    if len([p for p in params if p is not None]) < len(names):
        raise call.fail(f"activation {op} needs {', '.join(names)}")
    values: dict[str, Any] = dict(zip(names, params))
    if op == "Clip":
        return lambda b, v: b.add("Clip", v, *(b.constant(p, v.type.dtype) for p in values.values()))
    return lambda b, v: b.add(op, v, **values)


def _activated(
    y: np.ndarray, call_name: str, table: dict[str, Activation], params: Sequence[float | None]
) -> np.ndarray:
    if not call_name:
        return y
    op, names = table[call_name]
    if op == "Clip":
        return np.clip(y, params[0], params[1])
    record = get_op(op)
    return record.reference(y, **record.complete_attrs(dict(zip(names, params))))


# --- FusedGemm --------------------------------------------------------------------------------------------------------
def _gemm_params(attrs) -> list[float | None]:
    alpha, beta, gamma = (attrs[f"activation_{name}"] for name in ("alpha", "beta", "gamma"))
    return [alpha, gamma if attrs["activation"] == "Selu" else beta]


def _gemm_attrs(attrs) -> dict:
    return {k: attrs[k] for k in ("alpha", "beta", "transA", "transB")}


def _fused_gemm_type(call: Call) -> list[TensorType]:
    if not call.attrs.activation:
        raise call.fail("has no activation", f"one of: {', '.join(_GEMM)}")
    _activation(call, _GEMM, _gemm_params(call.attrs))
    gemm = get_op("Gemm")
    return list(gemm.infer(Call(gemm, call.inputs, _gemm_attrs(call.attrs), 1)))


def _fused_gemm_reference(a, b, c=None, **attrs):
    y = get_op("Gemm").reference(a, b, c, **_gemm_attrs(attrs))
    return _activated(y, attrs["activation"], _GEMM, _gemm_params(attrs))


def _expand_fused_gemm(b: Builder, call: Call) -> Value:
    y = b.add("Gemm", *call.inputs, **_gemm_attrs(call.attrs))
    return _activation(call, _GEMM, _gemm_params(call.attrs))(b, y)


_AB = (Tensor((5, 7)), Tensor((7, 3)), Tensor((3,)))
contrib(
    "FusedGemm",
    "a b c?",
    _fused_gemm_type,
    _fused_gemm_reference,
    _expand_fused_gemm,
    [
        Case(_AB, {"activation": "Relu", "alpha": 0.5, "beta": 2.0}),
        Case(_AB[:2], {"activation": "HardSigmoid", "activation_alpha": 0.3, "activation_beta": 0.4}),
        Case(_AB, {"activation": "Selu", "activation_alpha": 1.5, "activation_gamma": 1.1}),
    ],
    {
        "alpha": Attr(float, 1.0),
        "beta": Attr(float, 1.0),
        "transA": Attr(bool, False),
        "transB": Attr(bool, False),
        "activation": Attr(str, ""),
        "activation_alpha": Attr(float, None),
        "activation_beta": Attr(float, None),
        "activation_gamma": Attr(float, None),
    },
)


# --- FusedConv --------------------------------------------------------------------------------------------------------
_CONV_ATTRS = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


def _conv_attrs(attrs) -> dict:
    return {k: attrs[k] for k in _CONV_ATTRS}


def _fused_conv_type(call: Call) -> list[TensorType]:
    _activation(call, _CONV, call.attrs.activation_params)
    conv = get_op("Conv")
    (y,) = conv.infer(Call(conv, call.inputs[:3], _conv_attrs(call.attrs), 1))
    if call.has(3) and (call.rank(3) != y.rank or any(differ(a, b) for a, b in zip(call.shape(3), y.shape))):
        raise call.fail(f"'z' has shape {call.shape(3)}, the convolution {y.shape}", "they must be the same")
    return [y]


def _fused_conv_reference(x, w, bias=None, z=None, **attrs):
    y = get_op("Conv").reference(x, w, bias, **_conv_attrs(attrs))
    return _activated(y if z is None else y + z, attrs["activation"], _CONV, attrs["activation_params"])


def _expand_fused_conv(b: Builder, call: Call) -> Value:
    y = b.add("Conv", *call.inputs[:3], **_conv_attrs(call.attrs))
    y = b.add("Add", y, call.inputs[3]) if call.has(3) else y
    return _activation(call, _CONV, call.attrs.activation_params)(b, y)


_XWB = (Tensor((1, 3, 6, 6)), Tensor((4, 3, 3, 3)), Tensor((4,)))
contrib(
    "FusedConv",
    "x w b? z?",
    _fused_conv_type,
    _fused_conv_reference,
    _expand_fused_conv,
    [
        Case((*_XWB, Tensor((1, 4, 4, 4))), {"activation": "Relu"}),
        Case(_XWB, {"activation": "Clip", "activation_params": (-0.5, 0.7), "pads": (1, 1, 1, 1)}),
        Case(_XWB[:2], {"strides": (2, 2)}),
    ],
    {
        **{k: v for k, v in get_op("Conv").attrs.items() if k in _CONV_ATTRS},
        "activation": Attr(str, ""),
        "activation_params": Attr("floats", ()),
    },
)
