"""Operators on feature matrices: scaling, norms, imputation, thresholds, selection, concatenation."""

from __future__ import annotations

import math

import numpy as np

from graphc.errors import InputError
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Tensor
from graphc.ops.ml.record import NUMBERS, as_rows, ml, require_numbers, rows
from graphc.ops.movement import same_dim
from graphc.ops.precision import FLOAT32
from graphc.types import Dim, TensorType, dtype_name


def _wide(b: Builder, v: Value) -> Value:
    return v if v.type is not None and v.type.dtype == FLOAT32 else b.add("Cast", v, to=FLOAT32)


# --- Scaler -----------------------------------------------------------------------------------------------------------
def _scaled_type(call: Call) -> list[TensorType]:
    x = require_numbers(call)
    for name in ("offset", "scale"):
        count = len(call.attrs[name])
        if count != 1 and (not x.rank or isinstance(x.shape[-1], int) and count != x.shape[-1]):
            raise call.fail(
                f"{count} numbers in '{name}' for samples of shape {x.shape}", "one per feature, or one for all"
            )
    return [x.with_dtype(FLOAT32)]


def _scaled(x, offset, scale):
    return ((x.astype(np.result_type(x, FLOAT32)) - np.array(offset, FLOAT32)) * np.array(scale, FLOAT32)).astype(
        FLOAT32
    )


def _expand_scaler(b: Builder, call: Call) -> Value:
    centered = b.add("Sub", _wide(b, call.inputs[0]), b.constant(call.attrs.offset, FLOAT32))
    return b.add("Mul", centered, b.constant(call.attrs.scale, FLOAT32))


ml(
    "Scaler",
    "x",
    _scaled_type,
    _scaled,
    {"offset": Attr("floats"), "scale": Attr("floats")},
    [
        Case((Tensor((4, 3)),), {"offset": (1.0, -0.5, 2.0), "scale": (0.5, 2.0, -1.0)}),
        Case((Tensor((4, 3)),), {"offset": (1.0,), "scale": (0.5,)}),
    ],
    dtypes=NUMBERS,
    expand=_expand_scaler,
)


# --- Normalizer -------------------------------------------------------------------------------------------------------
_NORMS = ("MAX", "L1", "L2")


def _normalized(x, norm):
    """Rows divided by their norm; a row whose norm is 0 stays. MAX is the largest element with its sign."""
    x = x.astype(FLOAT32)
    if norm == "MAX":
        size = x.max(axis=-1, keepdims=True, initial=-np.inf)
    else:
        size = np.abs(x).sum(axis=-1, keepdims=True) if norm == "L1" else np.sqrt((x * x).sum(axis=-1, keepdims=True))
    return x / np.where(size == 0, FLOAT32.type(1), size)


def _expand_normalizer(b: Builder, call: Call) -> Value:
    x, axis = _wide(b, call.inputs[0]), b.constant([-1], "int64")
    size = b.add({"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}[call.attrs.norm], x, axis)
    zero, one = b.constant(0, FLOAT32), b.constant(1, FLOAT32)
    return b.add("Div", x, b.add("Where", b.add("Equal", size, zero), one, size))


def _normalized_type(call: Call) -> list[TensorType]:
    rows(call)
    return [call.type(0).with_dtype(FLOAT32)]


ml(
    "Normalizer",
    "x",
    _normalized_type,
    _normalized,
    {"norm": Attr(str, "MAX", _NORMS)},
    [Case((Tensor(s),), {"norm": n}) for n in _NORMS for s in ((4, 3), (5,))],
    expand=_expand_normalizer,
)


# --- Binarizer --------------------------------------------------------------------------------------------------------
def _binarized(x, threshold):
    return (x > np.asarray(threshold, FLOAT32)).astype(x.dtype)


def _expand_binarizer(b: Builder, call: Call) -> Value:
    x, dtype = call.inputs[0], call.dtype(0)
    limit = b.constant(FLOAT32.type(call.attrs.threshold), dtype if dtype.kind == "f" else FLOAT32)
    wide = x if dtype.kind == "f" else b.add("Cast", x, to=FLOAT32)
    return b.add("Cast", b.add("Greater", wide, limit), to=dtype)


ml(
    "Binarizer",
    "x",
    lambda call: [require_numbers(call)],
    _binarized,
    {"threshold": Attr(float, 0.0)},
    [Case((Tensor((4, 3)),), {"threshold": 0.5}), Case((Tensor((2, 0)),))],
    dtypes=NUMBERS,
    expand=_expand_binarizer,
)


# --- Imputer ----------------------------------------------------------------------------------------------------------
def _imputed_type(call: Call) -> list[TensorType]:
    x = require_numbers(call)
    values = call.attrs.imputed_value_floats if x.dtype.kind == "f" else call.attrs.imputed_value_int64s
    if not values:
        raise call.fail(f"has no values to put into {dtype_name(x.dtype)}")
    if len(values) != 1 and (not x.rank or isinstance(x.shape[-1], int) and len(values) != x.shape[-1]):
        raise call.fail(f"{len(values)} values for samples of shape {x.shape}", "one per feature, or one for all")
    return [x]


def _to_replace(dtype: np.dtype, call_or_attrs) -> tuple[float | int, tuple]:
    floats = dtype.kind == "f"
    get = call_or_attrs.__getitem__
    return (
        (get("replaced_value_float"), get("imputed_value_floats"))
        if floats
        else (get("replaced_value_int64"), get("imputed_value_int64s"))
    )


def _imputed(x, **attrs):
    wanted, values = _to_replace(x.dtype, attrs)
    missing = (
        np.isnan(x) if isinstance(wanted, float) and math.isnan(wanted) else x == np.asarray(wanted).astype(x.dtype)
    )
    return np.where(missing, np.array(values, x.dtype), x)


def _expand_imputer(b: Builder, call: Call) -> Value:
    x, dtype = call.inputs[0], call.dtype(0)
    call.attrs.ignore("imputed_value_int64s", "replaced_value_int64", "imputed_value_floats", "replaced_value_float")
    wanted, values = _to_replace(dtype, call.attrs)
    call.attrs.ignore(*call.attrs)  # those of the other dtype
    nan = isinstance(wanted, float) and math.isnan(wanted)
    missing = b.add("IsNaN", x) if nan else b.add("Equal", x, b.constant(wanted, dtype))
    return b.add("Where", missing, b.constant(values, dtype), x)


ml(
    "Imputer",
    "x",
    _imputed_type,
    _imputed,
    {
        "imputed_value_floats": Attr("floats", ()),
        "imputed_value_int64s": Attr("ints", ()),
        "replaced_value_float": Attr(float, 0.0),
        "replaced_value_int64": Attr(int, 0),
    },
    [
        Case(
            (Const([[1, math.nan], [0, 3]], "float32"),),
            {"imputed_value_floats": (9.0, 8.0), "replaced_value_float": math.nan},
        ),
        Case((Const([[1, 0], [0, 3]], "int64"),), {"imputed_value_int64s": (5,)}),
    ],
    expand=_expand_imputer,
)


# --- ArrayFeatureExtractor --------------------------------------------------------------------------------------------
def _extracted_type(call: Call) -> list[TensorType]:
    x, at = call.type(0), call.type(1)
    if not x.rank or at.dtype.kind not in "iu":
        raise call.fail(f"takes features of rank 1 or more and int64 positions, not {x} and {at}")
    count: Dim = 1
    for d in at.shape:
        count = count * d
    return [x.with_shape((1, count) if x.rank == 1 else (*x.shape[:-1], count))]


def _extracted(x, at):
    at = np.asarray(at).reshape(-1)
    bad = (at < 0) | (at >= x.shape[-1])
    if bad.any():
        raise InputError(f"position {at[bad][0]} is none of {x.shape[-1]} features", op="ArrayFeatureExtractor")
    return x[..., at].reshape(1, -1) if x.ndim == 1 else x[..., at]


def _expand_extractor(b: Builder, call: Call) -> Value | None:
    """A Gather, whose negative positions count from the end: they are known not to be any, or made ones beyond it."""
    x, at = call.inputs
    if x.dtype == object or not isinstance(call.shape(0)[-1], int):
        return None
    at = b.add("Reshape", at, b.constant([-1], "int64"))
    if call.inputs[1].data is None:
        at = at if at.dtype == np.int64 else b.add("Cast", at, to=np.dtype(np.int64))
        beyond = b.add("Sub", at, b.constant(call.shape(0)[-1], "int64"))
        at = b.add("Where", b.add("Less", at, b.constant(0, "int64")), beyond, at)
    elif (np.asarray(call.const(1)) < 0).any():
        return None
    y = b.add("Gather", x, at, axis=-1)
    return b.add("Unsqueeze", y, b.constant([0], "int64")) if call.rank(0) == 1 else y


ml(
    "ArrayFeatureExtractor",
    "x at",
    _extracted_type,
    _extracted,
    {},
    [
        Case((Tensor((4, 3)), Const([2, 0]))),
        Case((Tensor((5,)), Const([[4]]))),
        Case((Tensor((2, 3, 4)), Const([[3, 0]]))),
    ],
    dtypes=NUMBERS,
    expand=_expand_extractor,
    tolerance=0.0,
)


# --- FeatureVectorizer ------------------------------------------------------------------------------------------------
def _sizes(call: Call) -> tuple[int, ...]:
    """Columns that each operand gives."""
    sizes = call.attrs.inputdimensions
    if len(sizes) != len(call.inputs) or any(s < 0 for s in sizes):
        raise call.fail(f"inputdimensions {sizes} for {len(call.inputs)} operands", "one number per operand")
    return tuple(sizes)


def _vectorized_type(call: Call) -> list[TensorType]:
    rows(call)
    for i in range(len(call.inputs)):
        if call.rank(i) not in (1, 2):
            raise call.fail(f"operand {i} has shape {call.shape(i)}", "give samples [N, F], or one [F]")
    n = same_dim(call, 0, [1 if call.rank(i) == 1 else call.shape(i)[0] for i in range(len(call.inputs))])
    return [TensorType(FLOAT32, (n, sum(_sizes(call))))]


def _vectorized(*arrays, inputdimensions):
    parts = []
    for x, size in zip(arrays, inputdimensions):
        x = np.atleast_2d(x).astype(FLOAT32)[:, :size]
        parts.append(np.pad(x, ((0, 0), (0, size - x.shape[1]))))
    return np.concatenate(parts, axis=1)


def _expand_vectorizer(b: Builder, call: Call) -> Value | None:
    parts = []
    for x, size in zip(call.inputs, _sizes(call)):
        x = as_rows(b, x, FLOAT32)
        width = x.shape[1]
        if not isinstance(width, int):
            return None
        if width < size:
            x = b.add("Pad", x, b.constant([0, 0, 0, size - width], "int64"), b.constant(0, FLOAT32))
        elif width > size:
            x = b.add("Slice", x, *(b.constant([v], "int64") for v in (0, size, 1)))
        parts.append(x)
    return b.add("Concat", *parts, axis=1)


ml(
    "FeatureVectorizer",
    "*xs",
    _vectorized_type,
    _vectorized,
    {"inputdimensions": Attr("ints")},
    [
        Case((Tensor((2, 3)), Tensor((2, 2))), {"inputdimensions": (3, 2)}),
        Case((Tensor((2, 3)), Tensor((2, 2))), {"inputdimensions": (4, 1)}),
    ],
    dtypes=NUMBERS,
    tolerance=0.0,
    expand=_expand_vectorizer,
)
