"""Names of classes in ONNX files, which have no notion of them: an entry of the model's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping

from onnx import ModelProto

from graphc.errors import LoadError
from graphc.graph import Graph, Value

KEY = "graphc.labels"  # JSON: {output: [name, …]}


def write_labels(graph: Graph, model: ModelProto) -> None:
    """The labels of the graph that was written to the model, whose outputs may have got other names."""
    labels = graph.meta.get("labels")
    if labels:
        outputs = dict(zip(graph.output_names, (o.name for o in model.graph.output)))
        named = {outputs[name]: list(names) for name, names in labels.items()}
        model.metadata_props.add(key=KEY, value=json.dumps(named, ensure_ascii=False))


def read_labels(model: ModelProto, outputs: Mapping[str, Value]) -> dict[str, tuple[str, ...]]:
    """Raises LoadError for an entry that does not say what it should."""
    text = next((p.value for p in model.metadata_props if p.key == KEY), "{}")
    try:
        labels = {str(name): tuple(map(str, names)) for name, names in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        raise LoadError(f"is not {{output: [name, …]}}: {text[:80]}") from None
    for name, names in labels.items():
        if name not in outputs:
            raise LoadError(f"knows no output '{name}'")
        t = outputs[name].type
        if t is not None and (not t.shape or (isinstance(t.shape[-1], int) and t.shape[-1] != len(names))):
            raise LoadError(f"has {len(names)} names of output '{name}', which is {t}")
    return labels
