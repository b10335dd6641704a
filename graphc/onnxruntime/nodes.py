"""Inputs, outputs and metadata as ONNX Runtime describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.objects import ObjectType
from graphc.signature import Spec
from graphc.types import TensorType, dtype_from_name, dtype_name

NO_VERSION = 2**63 - 1  # what ONNX Runtime says where a file has none

# ONNX's number and ONNX Runtime's name of each element type, by graphc's
ELEMENTS = {
    "float32": (1, "float"),
    "uint8": (2, "uint8"),
    "int8": (3, "int8"),
    "uint16": (4, "uint16"),
    "int16": (5, "int16"),
    "int32": (6, "int32"),
    "int64": (7, "int64"),
    "string": (8, "string"),
    "bool": (9, "bool"),
    "float16": (10, "float16"),
    "float64": (11, "double"),
    "uint32": (12, "uint32"),
    "uint64": (13, "uint64"),
    "complex64": (14, "complex64"),
    "complex128": (15, "complex128"),
    "bfloat16": (16, "bfloat16"),
    "float8_e4m3fn": (17, "float8e4m3fn"),
    "float8_e4m3fnuz": (18, "float8e4m3fnuz"),
    "float8_e5m2": (19, "float8e5m2"),
    "float8_e5m2fnuz": (20, "float8e5m2fnuz"),
    "uint4": (21, "uint4"),
    "int4": (22, "int4"),
    "float4_e2m1fn": (23, "float4e2m1"),
    "float8_e8m0fnu": (24, "float8e8m0"),
    "uint2": (25, "uint2"),
    "int2": (26, "int2"),
}
NAMES = {number: name for name, (number, _) in ELEMENTS.items()}


def dtype_of(element_type: Any) -> np.dtype:
    """Of a NumPy type, or ONNX's number of one. Raises KeyError, TypeError."""
    if isinstance(element_type, (int, np.integer)):
        name = NAMES[int(element_type)]
        return np.dtype(object) if name == "string" else dtype_from_name(name)
    return np.dtype(element_type)


def element_number(dtype: np.dtype) -> int:
    """ONNX's number of an element type."""
    return ELEMENTS[dtype_name(dtype)][0]


def tensor_text(dtype: np.dtype | None) -> str:
    """'tensor(float)'"""
    name = "undefined" if dtype is None else dtype_name(dtype)
    return f"tensor({ELEMENTS.get(name, (0, name))[1]})"


def type_text(of: Any) -> str:
    """'seq(map(int64,tensor(float)))', of what `graphc.objects` calls content."""
    if not isinstance(of, ObjectType):
        return tensor_text(of.dtype)
    inner = type_text(of.of)
    if of.kind == "map":
        key = "string" if of.key is None else dtype_name(of.key)
        return f"map({ELEMENTS.get(key, (0, 'string'))[1]},{inner})"
    return f"{'seq' if of.kind == 'sequence' else 'optional'}({inner})"


@dataclass(frozen=True)
class NodeArg:
    """An input or output: its name, its shape (None for a dim without a size or a name), and its type as a text."""

    name: str
    shape: list[int | str | None]
    type: str

    def __str__(self) -> str:
        return f"NodeArg(name='{self.name}', type='{self.type}', shape={self.shape})"


def node_arg(spec: Spec, declared: Mapping[str, list[Any]], names: frozenset[str], fixed: Mapping[str, int]) -> NodeArg:
    """declared: dims that the file gives, by name; names: of all dims of inputs, which a dim of no other name may have;
    fixed: sizes of named dims."""
    if spec.content is not None:
        held: Any = spec.content
        while isinstance(held, ObjectType) and held.kind == "optional":
            held = held.of
        shape = [*held.shape] if isinstance(held, TensorType) and not isinstance(held, ObjectType) else []
        return NodeArg(spec.name, [d if isinstance(d, int) else str(d) for d in shape], type_text(spec.content))
    given = declared.get(spec.name)
    known = [d if isinstance(d, int) or d in names else None for d in spec.shape or ()]
    if given is None or len(given) != len(known):
        given = [None] * len(known) if spec.shape is not None else given or []
    merged = [k if isinstance(k, int) or (d is None and k is not None) else d for d, k in zip(given, known)] or given
    return NodeArg(spec.name, [fixed.get(d, d) if isinstance(d, str) else d for d in merged], tensor_text(spec.dtype))


@dataclass
class ModelMetadata:
    """What a model's file says of itself."""

    producer_name: str = ""
    graph_name: str = ""
    domain: str = ""
    description: str = ""
    graph_description: str = ""
    version: int = NO_VERSION
    custom_metadata_map: dict[str, str] = field(default_factory=dict)


def metadata(described: Mapping[str, Any], name: str) -> ModelMetadata:
    """name: of the graph, where a source that is no ONNX file describes nothing."""
    if not described:
        return ModelMetadata(graph_name=name)
    plain = ("producer_name", "graph_name", "domain", "description", "graph_description")
    texts = {key: described.get(key, "") for key in plain}
    version = described.get("version", NO_VERSION)
    return ModelMetadata(**texts, version=version, custom_metadata_map=dict(described.get("metadata", {})))
