"""Types and constants as ONNX files declare them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import TensorProto, TypeProto, ValueInfoProto

from graphc.errors import TypeRuleError, UnsupportedError
from graphc.frontends.onnx_data import DTYPES, dtype_of
from graphc.objects import Content, Loose, ObjectType, mapping, optional, sequence
from graphc.reading import dim_name
from graphc.types import Sym, TensorType

_NAMELESS = ("", "?", "-1", "None")  # dim_param that names nothing


def element_of(t: TensorType | None, axis: int) -> TensorType | None:
    """Type of what Scan takes from an operand along an axis, where that can be told."""
    if t is None or not -t.rank <= axis < t.rank:
        return None
    return t.with_shape([d for i, d in enumerate(t.shape) if i != axis % t.rank])


def declared_type(info: ValueInfoProto) -> TensorType | None:
    """The declared type; None of a tensor without a shape. Raises UnsupportedError for sparse and opaque ones."""
    kind = info.type.WhichOneof("value")
    if kind is None:
        return None
    if kind == "tensor_type":
        return tensor_type(info.type, info.name)
    found = content_type(info.type, info.name)
    assert isinstance(found, ObjectType)
    return found


def content_type(proto: TypeProto, name: str) -> Content:
    """What a sequence or an optional of that type holds. Raises UnsupportedError for sparse tensors and opaque types."""
    kind = proto.WhichOneof("value")
    if kind is None:
        return Loose()
    if kind == "tensor_type":
        elem_type = proto.tensor_type.elem_type
        dtype = None if elem_type == TensorProto.UNDEFINED else dtype_of(elem_type)
        return Loose(dtype) if dtype is None else tensor_type(proto, name) or Loose(dtype)
    if kind == "sequence_type":
        of = content_type(proto.sequence_type.elem_type, name)
        if isinstance(of, TensorType) and not isinstance(of, ObjectType) and not of.rank:
            of = Loose(of.dtype)  # ONNX's own models declare elements of no dims where they mean any
        return sequence(of)
    if kind == "optional_type":
        return optional(content_type(proto.optional_type.elem_type, name))
    if kind == "map_type":
        return mapping(dtype_of(proto.map_type.key_type), content_type(proto.map_type.value_type, name))
    what = kind.removesuffix("_type").replace("_", " ")
    raise UnsupportedError(f"'{name}' is of type {what}", hint="graphc has tensors, sequences, optionals and maps")


def declared_dtype(info: ValueInfoProto) -> np.dtype | None:
    """None where the file does not tell, or in a way that is reported elsewhere."""
    return DTYPES.get(info.type.tensor_type.elem_type) if info.type.HasField("tensor_type") else None


def tensor_type(proto: TypeProto, name: str) -> TensorType | None:
    """None where the shape is not given. A dim without value or name is called after the tensor and its axis; names that
    exporters write for no name (PaddlePaddle: '?') are none."""
    t = proto.tensor_type
    dtype = dtype_of(t.elem_type)
    if not t.HasField("shape"):
        return None
    dims = [
        Sym(d.dim_param)
        if d.dim_param.strip() not in _NAMELESS
        else d.dim_value
        if d.HasField("dim_value") and d.dim_value >= 0
        else Sym(dim_name(name, i))
        for i, d in enumerate(t.shape.dim)
    ]
    return TensorType(dtype, tuple(dims))


def constant_value(attrs: Mapping[str, Any]) -> np.ndarray:
    """The array of a Constant node: value, sparse_value, value_int … value_strings."""
    if len(attrs) != 1:
        raise TypeRuleError(f"a Constant has one attribute, not {len(attrs)}: {', '.join(attrs)}")
    ((key, value),) = attrs.items()
    dtypes = {
        "float": np.float32,
        "floats": np.float32,
        "int": np.int64,
        "ints": np.int64,
        "string": object,
        "strings": object,
    }
    if key in ("value", "sparse_value") and isinstance(value, np.ndarray):
        return value
    if key.removeprefix("value_") not in dtypes:
        raise TypeRuleError(f"unknown attribute '{key}'", hint="value, sparse_value, value_int, value_floats …")
    return np.array(value, dtypes[key.removeprefix("value_")])
