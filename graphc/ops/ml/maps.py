"""Operators on maps: ZipMap makes them of the scores of classifiers, DictVectorizer and CastMap make tensors of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphc.errors import InputError
from graphc.objects import ObjectType, box, mapping, sequence
from graphc.op import Attr, Call, Family, Op, register
from graphc.ops.ml.record import DOMAIN, STRING, labels_of, require_numbers
from graphc.types import Sym, TensorType, dtype_name

FLOAT32 = np.dtype(np.float32)


def _operator(name: str, infer: Callable, reference: Callable, attrs: Mapping[str, Attr]) -> None:
    register(
        Op(
            f"{DOMAIN}::{name}", ("x",), infer, reference, attrs, tolerance=0.0, family=Family.SEQUENCE, objects=True
        )
    )  # fmt: skip


def _map(call: Call, *values: str) -> ObjectType:
    """The type of operand 0, a map to numbers or strings of these dtypes. Raises TypeRuleError where it is none."""
    t = call.type(0)
    if not isinstance(t, ObjectType) or t.kind != "map" or not isinstance(t.of, TensorType):
        raise call.fail(f"takes a map, not {t}", "ZipMap makes maps of scores")
    if dtype_name(t.of.dtype) not in values:
        raise call.fail(f"takes maps to {', '.join(values)}, not to {dtype_name(t.of.dtype)}")
    return t


# --- ZipMap -----------------------------------------------------------------------------------------------------------
def _zipped_type(call: Call) -> list[TensorType]:
    x, labels = require_numbers(call, "float32"), labels_of(call, "classlabels_strings", "classlabels_int64s")
    if x.rank not in (1, 2):
        raise call.fail(f"takes scores [N, classes], not shape {x.shape}")
    if isinstance(x.shape[-1], int) and x.shape[-1] != len(labels):
        raise call.fail(f"{len(labels)} class labels for {x.shape[-1]} scores", "give one label per column of scores")
    return [sequence(mapping(labels.dtype, TensorType(x.dtype, ())))]


def _zipped(x, classlabels_strings, classlabels_int64s):
    labels = list(classlabels_strings or classlabels_int64s)
    rows = np.atleast_2d(x)
    if rows.shape[1] != len(labels):
        raise InputError(f"{len(labels)} class labels for {rows.shape[1]} scores", op="ZipMap")
    return box([dict(zip(labels, map(np.asarray, row))) for row in rows])


_operator(
    "ZipMap",
    _zipped_type,
    _zipped,
    {"classlabels_strings": Attr("strings", ()), "classlabels_int64s": Attr("ints", ())},
)


# --- DictVectorizer ---------------------------------------------------------------------------------------------------
def _vectorized_type(call: Call) -> list[TensorType]:
    words = labels_of(call, "string_vocabulary", "int64_vocabulary")
    t = _map(call, "string", "int64", "float32", "float64")
    if t.key is not None and dtype_name(t.key) != dtype_name(words.dtype):
        raise call.fail(f"its vocabulary is {dtype_name(words.dtype)}, the keys are {dtype_name(t.key)}")
    assert isinstance(t.of, TensorType)
    return [TensorType(t.of.dtype, (1, len(words)))]


def _vectorized(x, string_vocabulary, int64_vocabulary):
    """The value of each word, in one row; 0 (or '') where the map has none."""
    given = x[()]
    if not given:
        raise InputError("the map is empty, which leaves open what it maps to", op="DictVectorizer")
    values = [given.get(word) for word in string_vocabulary or int64_vocabulary]
    dtype = np.asarray(next(iter(given.values()))).dtype
    dtype = STRING if dtype.kind in "OUS" else dtype
    empty = "" if dtype == STRING else 0
    out = np.empty((1, len(values)), dtype)
    out[0] = [empty if v is None else np.asarray(v).item() for v in values]
    return out


# --- CastMap ----------------------------------------------------------------------------------------------------------
_CASTS: dict[str, np.dtype] = {"TO_FLOAT": FLOAT32, "TO_INT64": np.dtype(np.int64), "TO_STRING": STRING}


def _cast_type(call: Call) -> list[TensorType]:
    _map(call, "string", "float32")
    columns = call.attrs.max_map if call.attrs.map_form == "SPARSE" else Sym(f"CastMap({call.inputs[0].name})")
    return [TensorType(_CASTS[call.attrs.cast_to], (1, columns))]


def _cast(value: Any, to: str) -> Any:
    if to == "TO_STRING":
        return value if isinstance(value, str) else f"{value:f}"
    return float(value) if to == "TO_FLOAT" else int(value)


def _mapped(x, cast_to, map_form, max_map):
    """Values in the order of their keys. With SPARSE a key is a position: keys beyond the columns are dropped, and what no key
    names is 0; among strings '0.f', as in ONNX Runtime."""
    items = {int(k): _cast(np.asarray(v).item(), cast_to) for k, v in sorted(x[()].items())}
    if map_form == "SPARSE":
        if any(k < 0 for k in items):
            raise InputError(f"key {min(items)} is no position", op="CastMap")
        items = {k: items.get(k, "0.f" if cast_to == "TO_STRING" else 0) for k in range(max_map)}
    out = np.empty((1, len(items)), _CASTS[cast_to])
    out[0] = list(items.values())
    return out


_operator(
    "DictVectorizer",
    _vectorized_type,
    _vectorized,
    {"string_vocabulary": Attr("strings", ()), "int64_vocabulary": Attr("ints", ())},
)
_operator(
    "CastMap",
    _cast_type,
    _mapped,
    {
        "cast_to": Attr(str, "TO_FLOAT", tuple(_CASTS)),
        "map_form": Attr(str, "DENSE", ("DENSE", "SPARSE")),
        "max_map": Attr(int, 1),
    },
)
