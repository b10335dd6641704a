"""What an ONNX file says of itself, besides what it computes."""

from __future__ import annotations

from typing import Any

from onnx import ModelProto, ValueInfoProto


def described(model: ModelProto) -> dict[str, Any]:
    """Who made it, its names, descriptions and metadata, and `dims`: of each input and output those that the file gives, None
    for one that it leaves open without a name. Empty entries are left out."""
    graph = model.graph
    found = {
        "producer_name": model.producer_name,
        "producer_version": model.producer_version,
        "domain": model.domain,
        "version": model.model_version if model.HasField("model_version") else None,
        "description": model.doc_string,
        "graph_name": graph.name,
        "graph_description": graph.doc_string,
        "metadata": {p.key: p.value for p in model.metadata_props},
        "dims": {info.name: dims for info in (*graph.input, *graph.output) if (dims := _dims(info)) is not None},
    }
    return {key: value for key, value in found.items() if value not in ("", None, {})}


def _dims(info: ValueInfoProto) -> list[int | str | None] | None:
    """None for what is no tensor, and of a tensor whose rank is not given."""
    if not info.type.HasField("tensor_type") or not info.type.tensor_type.HasField("shape"):
        return None
    dims = info.type.tensor_type.shape.dim
    return [
        (d.dim_value if d.dim_value >= 0 else None) if d.HasField("dim_value") else d.dim_param or None for d in dims
    ]
