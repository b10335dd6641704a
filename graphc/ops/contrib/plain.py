"""Small operators of com.microsoft that fuse two or three of ONNX's."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Tensor
from graphc.ops.contract import FLOAT_NAMES, differ, matmul_shape, require_dtype, require_same_dtype
from graphc.ops.contrib.record import contrib, where_static
from graphc.ops.elementwise import require_broadcasts_to_first
from graphc.ops.precision import BOOL, in_float32, widen
from graphc.types import TensorType, prod


# --- BiasSoftmax ------------------------------------------------------------------------------------------------------
def _softmax_type(call: Call) -> list[TensorType]:
    require_dtype(call, 0, FLOAT_NAMES)
    require_same_dtype(call, 0, 1)
    require_broadcasts_to_first(call, 1)
    call.axis_of(call.attrs.axis, call.rank(0))
    return [call.type(0)]


def _softmax(x, bias, axis, is_inner_broadcast):
    total = x + bias
    axis %= x.ndim
    flat = total.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))
    powers = np.exp(flat - flat.max(-1, keepdims=True, initial=-np.inf))
    return (powers / powers.sum(-1, keepdims=True)).reshape(x.shape)


@where_static
def _expand_softmax(b: Builder, call: Call) -> Value:
    """Over all axes from `axis` on."""
    shape, axis = call.shape(0), call.attrs.axis % call.rank(0)
    total = b.add("Add", *call.inputs)
    if axis == len(shape) - 1:
        return b.add("Softmax", total, axis=-1)
    rows = b.constant([prod(shape[:axis]), prod(shape[axis:])], np.int64)
    flat = b.add("Reshape", total, rows, allowzero=True)
    return b.add("Reshape", b.add("Softmax", flat, axis=-1), b.constant(shape, np.int64), allowzero=True)


contrib(
    "BiasSoftmax",
    "data bias",
    _softmax_type,
    in_float32(_softmax),
    _expand_softmax,
    [
        Case((Tensor((2, 3, 4, 5)), Tensor((2, 1, 1, 5))), {"axis": 3, "is_inner_broadcast": 1}),
        Case((Tensor((2, 3, 4)), Tensor((3, 4))), {"is_inner_broadcast": 0}),
    ],
    {"axis": Attr(int, 1), "is_inner_broadcast": Attr(bool, settled=True)},
)


# --- GemmFastGelu -----------------------------------------------------------------------------------------------------
def _gemm_type(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, 0, FLOAT_NAMES)
    require_same_dtype(call, 0, 1, 2)
    y = matmul_shape(call, call.shape(0), call.shape(1))
    if call.has(2) and (call.rank(2) != 1 or differ(call.shape(2)[0], y[-1])):
        raise call.fail(f"'bias' has shape {call.shape(2)}", f"it must be ({y[-1]},)")
    return [TensorType(dtype, y)]


def _gemm_gelu(x, w, bias=None):
    v = x @ w + (0 if bias is None else bias)
    return 0.5 * v * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))


def _expand_gemm(b: Builder, call: Call) -> Value:
    y = b.add("MatMul", *call.inputs[:2])
    y = b.add("Add", y, call.inputs[2]) if call.has(2) else y
    return b.add("Gelu", y, approximate="tanh")


contrib(
    "GemmFastGelu",
    "x w bias?",
    _gemm_type,
    in_float32(_gemm_gelu),
    _expand_gemm,
    [Case((Tensor((2, 3, 8)), Tensor((8, 5)), Tensor((5,)))), Case((Tensor((3, 8)), Tensor((8, 5))))],
)


# --- BiasDropout: nothing is dropped ----------------------------------------------------------------------------------
def _dropout_type(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, 0, FLOAT_NAMES)
    require_same_dtype(call, 0, 1, 2)
    for i in (1, 2):
        if call.has(i):
            require_broadcasts_to_first(call, i)
    if call.has(4) and call.const(4).any():
        raise call.fail("training_mode is set", "graphc drops nothing here: leave it out, or use Dropout")
    return [TensorType(dtype, call.shape(0)), TensorType(BOOL, call.shape(0))]


def _dropout(data, bias, residual=None, ratio=None, training=None, *, seed):
    total = sum(widen(v) for v in (data, bias, residual) if v is not None)
    return total.astype(data.dtype), np.ones(data.shape, bool)


@where_static
def _expand_dropout(b: Builder, call: Call) -> tuple[Value, ...]:
    call.ignore(3)
    y = reduce(lambda a, v: b.add("Add", a, v), [v for v in call.inputs[:3] if v is not None])
    if call.n_outputs == 1:
        return (y,)
    return y, b.add("Expand", b.constant(True), b.constant(call.shape(0), np.int64))


contrib(
    "BiasDropout",
    "data bias residual? ratio? training_mode?",
    _dropout_type,
    _dropout,
    _expand_dropout,
    [Case((Tensor((3, 5)), Tensor((5,)), Tensor((3, 5))), {}, 2), Case((Tensor((3, 5)), Tensor((3, 5))))],
    {"seed": Attr(int, 0, settled=True)},
    ("output", "mask"),
    values=(4,),
)


# --- IsAllFinite ------------------------------------------------------------------------------------------------------
def _finite_type(call: Call) -> list[TensorType]:
    for i in range(len(call.inputs)):
        require_dtype(call, i, FLOAT_NAMES)
    if call.attrs.isinf_only and call.attrs.isnan_only:
        raise call.fail("isinf_only and isnan_only are both set", "set one of them")
    return [TensorType(BOOL, ())]


def _finite(*arrays, isinf_only, isnan_only):
    def bad(x):
        return np.isinf(x) if isinf_only else np.isnan(x) if isnan_only else ~np.isfinite(x)

    return np.array(not any(bad(widen(x)).any() for x in arrays))


def _expand_finite(b: Builder, call: Call) -> Value:
    """Counted, for there is no 'or' over axes."""
    found = []
    for x in call.inputs:
        tests = [] if call.attrs.isinf_only else [b.add("IsNaN", x)]
        tests += [] if call.attrs.isnan_only else [b.add("IsInf", x)]
        bad = reduce(lambda p, q: b.add("Or", p, q), tests)
        found.append(b.add("ReduceMax", b.add("Cast", bad, to=np.int32), keepdims=False))
    worst = reduce(lambda p, q: b.add("Max", p, q), found)
    return b.add("LessOrEqual", worst, b.constant(0, np.int32))  # below 0 for tensors of no elements


contrib(
    "IsAllFinite",
    "*inputs",
    _finite_type,
    _finite,
    _expand_finite,
    [
        Case((Tensor((3, 5)), Tensor((2,)))),
        Case((Tensor((3,)),), {"isnan_only": 1}),
        Case((Tensor((3,)),), {"isinf_only": 1}),
    ],
    {"isinf_only": Attr(bool, False), "isnan_only": Attr(bool, False)},
)
