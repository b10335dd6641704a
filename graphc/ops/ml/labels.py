"""Operators that map labels: LabelEncoder, CategoryMapper, OneHotEncoder."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np

from graphc.errors import InputError
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const
from graphc.ops.ml.lookup import KEYS, table
from graphc.ops.ml.record import STRING, labels_of, ml
from graphc.types import TensorType, dtype_name

_KINDS = {"strings": STRING, "int64s": np.dtype(np.int64), "floats": np.dtype(np.float32)}
_NAN = object()  # every NaN is one key


def _key(value: Any) -> Hashable:
    return _NAN if isinstance(value, float) and math.isnan(value) else value


def _lookup(x: np.ndarray, keys: Iterable, values: Iterable, default: Any, dtype: np.dtype) -> np.ndarray:
    """The value of each element's key. Of equal keys the first holds; -0.0 and 0.0 are equal, and so are NaNs."""
    table: dict[Hashable, Any] = {}
    for k, v in zip(keys, values):
        table.setdefault(_key(k), v)
    flat = [table.get(_key(v), default) for v in x.reshape(-1).tolist()]
    out = np.empty(len(flat), dtype)
    out[:] = flat
    return out.reshape(x.shape)


# --- LabelEncoder -----------------------------------------------------------------------------------------------------
def _table(attrs: Mapping[str, Any], side: str) -> np.ndarray | None:
    """The keys or values, from the attribute that holds them."""
    tensor = attrs[f"{side}_tensor"]
    if tensor is not None:
        return np.asarray(tensor).reshape(-1)
    for kind, dtype in _KINDS.items():
        if attrs[f"{side}_{kind}"]:
            column = np.empty(len(attrs[f"{side}_{kind}"]), dtype)
            column[:] = attrs[f"{side}_{kind}"]
            return column
    return None


def _default(attrs: Mapping[str, Any], values: np.ndarray) -> Any:
    if attrs["default_tensor"] is not None:
        return np.asarray(attrs["default_tensor"]).reshape(-1).tolist()[0]
    if values.dtype == STRING:
        return attrs["default_string"]
    return attrs["default_int64"] if values.dtype.kind in "iu" else attrs["default_float"]


def _encoded_type(call: Call) -> list[TensorType]:
    x = call.type(0)
    if call.attrs.classes_strings:  # opset 1: positions in a list, either way
        if dtype_name(x.dtype) not in ("string", "int64"):
            raise call.fail(f"takes strings or int64, not {dtype_name(x.dtype)}")
        return [x.with_dtype(np.dtype(np.int64) if x.dtype == STRING else STRING)]
    keys, values = _table(call.attrs, "keys"), _table(call.attrs, "values")
    if keys is None or values is None or len(keys) != len(values):
        raise call.fail("its keys and values do not fit together", "give as many values as keys")
    if dtype_name(x.dtype) != dtype_name(keys.dtype) and not x.dtype.kind == keys.dtype.kind == "f":
        raise call.fail(f"its keys are {dtype_name(keys.dtype)}, the operand is {dtype_name(x.dtype)}", "insert a Cast")
    return [x.with_dtype(values.dtype)]


def _encoded(x, **attrs):
    classes = attrs["classes_strings"]
    if classes and x.dtype == STRING:
        return _lookup(x, classes, range(len(classes)), attrs["default_int64"], np.dtype(np.int64))
    if classes:
        return _lookup(x, range(len(classes)), classes, attrs["default_string"], STRING)
    keys, values = _table(attrs, "keys"), _table(attrs, "values")
    assert keys is not None and values is not None
    return _lookup(x, keys.tolist(), values.tolist(), _default(attrs, values), values.dtype)


def _expand_encoder(b: Builder, call: Call) -> Value | None:
    """Numbers to numbers."""
    if call.attrs.classes_strings:
        return None
    keys, values = _table(call.attrs, "keys"), _table(call.attrs, "values")
    assert keys is not None and values is not None
    if keys.dtype not in KEYS or keys.dtype != call.dtype(0) or values.dtype == STRING:
        return None
    call.attrs.ignore(*call.op.attrs)  # of several tables and defaults one counts
    keys, values = table(keys, values, _default(call.attrs, values))
    return b.add("LookUp", call.inputs[0], b.constant(keys), b.constant(values))


ml(
    "LabelEncoder",
    "x",
    _encoded_type,
    _encoded,
    {
        **{
            f"{side}_{kind}": Attr("ints" if kind == "int64s" else kind, ())
            for side in ("keys", "values")
            for kind in _KINDS
        },
        "keys_tensor": Attr("tensor", None),
        "values_tensor": Attr("tensor", None),
        "classes_strings": Attr("strings", ()),
        "default_string": Attr(str, "_Unused"),
        "default_int64": Attr(int, -1),
        "default_float": Attr(float, -0.0),
        "default_tensor": Attr("tensor", None),
    },
    [
        Case(
            (Const(["b", "c", "a"], "object"),),
            {"keys_strings": ("a", "b"), "values_int64s": (3, 4), "default_int64": -7},
        ),
        Case((Const([[1, 2], [9, 1]]),), {"keys_int64s": (1, 2), "values_strings": ("x", "y")}),
        Case((Const([math.nan, -0.0, 5], "float32"),), {"keys_floats": (math.nan, 0.0), "values_floats": (1.5, 2.5)}),
        Case((Const(["a", "q"], "object"),), {"classes_strings": ("z", "a")}),
    ],
    tolerance=0.0,
    expand=_expand_encoder,
)


# --- CategoryMapper ---------------------------------------------------------------------------------------------------
def _mapped_type(call: Call) -> list[TensorType]:
    x = call.type(0)
    if dtype_name(x.dtype) not in ("string", "int64"):
        raise call.fail(f"takes strings or int64, not {dtype_name(x.dtype)}")
    if len(call.attrs.cats_strings) != len(call.attrs.cats_int64s):
        raise call.fail(f"{len(call.attrs.cats_strings)} strings for {len(call.attrs.cats_int64s)} integers")
    return [x.with_dtype(np.dtype(np.int64) if x.dtype == STRING else STRING)]


def _mapped(x, cats_strings, cats_int64s, default_string, default_int64):
    if x.dtype == STRING:
        return _lookup(x, cats_strings, cats_int64s, default_int64, np.dtype(np.int64))
    return _lookup(x, cats_int64s, cats_strings, default_string, STRING)


ml(
    "CategoryMapper",
    "x",
    _mapped_type,
    _mapped,
    {
        "cats_strings": Attr("strings", ()),
        "cats_int64s": Attr("ints", ()),
        "default_string": Attr(str, "_Unused"),
        "default_int64": Attr(int, -1),
    },
    [
        Case((Const(v, d),), {"cats_strings": ("a", "b"), "cats_int64s": (5, 6)})
        for v, d in ((["b", "z"], "object"), ([[5, 9]], "int64"))
    ],
    tolerance=0.0,
)


# --- OneHotEncoder ----------------------------------------------------------------------------------------------------
def _one_hot_type(call: Call) -> list[TensorType]:
    x = call.type(0)
    categories = labels_of(call, "cats_strings", "cats_int64s")
    if not len(categories) or (categories.dtype == STRING) != (x.dtype == STRING):
        raise call.fail(f"its categories do not fit an operand of {dtype_name(x.dtype)}")
    return [TensorType(np.float32, (*x.shape, len(categories)))]


def _one_hot(x, cats_strings, cats_int64s, zeros):
    """Numbers are truncated to integers first. Of equal categories the last holds."""
    categories = list(cats_strings or cats_int64s)
    column = {c: i for i, c in enumerate(categories)}
    out = np.zeros((*x.shape, len(categories)), np.float32)
    for at in np.ndindex(x.shape):
        v = x[at] if x.dtype == STRING or not np.isfinite(x[at]) else int(x[at])
        if v in column:
            place = (*at, column[v])
            out[place] = 1
        elif not zeros:
            raise InputError(f"{v!r} at {list(at)} is none of the categories", op="OneHotEncoder")
    return out


def _expand_one_hot(b: Builder, call: Call) -> Value | None:
    """Of numbers; unknown ones are zeros."""
    x, categories = call.inputs[0], call.attrs.cats_int64s
    if not categories or not call.attrs.zeros:
        return None
    x = x if x.dtype == np.int64 else b.add("Cast", x, to=np.dtype(np.int64))
    last = {c: i for i, c in enumerate(categories)}
    equal = b.add("Equal", b.add("Unsqueeze", x, b.constant([-1], np.int64)), b.constant(categories, np.int64))
    if len(last) < len(categories):
        equal = b.add("And", equal, b.constant([last[c] == i for i, c in enumerate(categories)], bool))
    return b.add("Cast", equal, to=np.dtype(np.float32))


ml(
    "OneHotEncoder",
    "x",
    _one_hot_type,
    _one_hot,
    {"cats_strings": Attr("strings", ()), "cats_int64s": Attr("ints", ()), "zeros": Attr(int, 1)},
    [
        Case((Const([[1], [2], [9]]),), {"cats_int64s": (1, 2)}),
        Case((Const([1.7, 2.2], "float32"),), {"cats_int64s": (1, 2)}),
        Case((Const([1, 3], "float32"),), {"cats_int64s": (1, 3, 1)}),
        Case((Const(["a", "q"], "object"),), {"cats_strings": ("a", "b")}),
    ],
    tolerance=0.0,
    expand=_expand_one_hot,
)
