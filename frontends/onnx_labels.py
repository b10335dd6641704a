"""Names of classes in ONNX files, which have no notion of them: entries of the metadata, and attributes of classifiers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from onnx import GraphProto, ModelProto, NodeProto

from graphc.class_names import names_of
from graphc.errors import LoadError
from graphc.graph import Graph, Value

KEY = "graphc.labels"  # JSON: {output: [name, …]}
FOREIGN = (
    "names",
    "class_names",
    "classes",
    "labels",
    "id2label",
    "label_names",
)  # of exporters; names is Ultralytics'
KEEPING = ("Cast", "Identity", "Normalizer", "Softmax")  # of a classifier's scores: their order, too


def write_labels(graph: Graph, model: ModelProto) -> None:
    """The labels of the graph that was written to the model, whose outputs may have got other names."""
    labels = graph.meta.get("labels")
    if labels:
        outputs = dict(zip(graph.output_names, (o.name for o in model.graph.output)))
        named = {outputs[name]: list(names) for name, names in labels.items()}
        model.metadata_props.add(key=KEY, value=json.dumps(named, ensure_ascii=False))


def read_labels(model: ModelProto, outputs: Mapping[str, Value]) -> dict[str, tuple[str, ...]]:
    """Raises LoadError for an entry of graphc's that does not say what it should. Those of others count where they fit an output."""
    text = next((p.value for p in model.metadata_props if p.key == KEY), None)
    if text is None:
        return _foreign(model, outputs)
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


def _foreign(model: ModelProto, outputs: Mapping[str, Value]) -> dict[str, tuple[str, ...]]:
    entries = {p.key: p.value for p in model.metadata_props}
    found = [names for key in FOREIGN if key in entries and (names := names_of(entries[key]))]
    labels = {}
    for output, value in outputs.items():
        if value.type is None or not value.type.shape:
            continue
        of_nodes = _of_classifier(model.graph, output)
        for names in ([of_nodes] if of_nodes else []) + found:
            if value.type.shape[-1] == len(names):
                labels[output] = names
                break
    return labels


def _of_classifier(graph: GraphProto, output: str) -> tuple[str, ...] | None:
    """What the node of ai.onnx.ml that computes an output calls its classes, where these are not their numbers."""
    producers: dict[str, NodeProto] = {name: node for node in graph.node for name in node.output}
    for node in _back(producers, output):
        for a in node.attribute:
            if a.name == "classlabels_strings" and a.strings:
                return tuple(s.decode("utf-8", "replace") for s in a.strings)
            if a.name in ("classlabels_ints", "classlabels_int64s") and a.ints and not _counts(a.ints):
                return tuple(map(str, a.ints))
    return None


def _back(producers: Mapping[str, NodeProto], name: str) -> Iterator[NodeProto]:
    """The node that computes a result, and those before it that keep the order of classes."""
    seen: set[str] = set()
    while name in producers and name not in seen:
        seen.add(name)
        node = producers[name]
        yield node
        if node.op_type not in KEEPING or not node.input:
            return
        name = node.input[0]


def _counts(numbers: Sequence[int]) -> bool:
    return list(numbers) == list(range(len(numbers)))
