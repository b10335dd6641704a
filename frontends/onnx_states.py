"""States in ONNX files, which have no notion of them: an entry of the model's metadata."""

from __future__ import annotations

import json
from collections.abc import Collection

from onnx import ModelProto

from graphc.errors import LoadError
from graphc.graph import Graph
from graphc.signature import State
from graphc.state import shared

KEY = "graphc.states"  # JSON: [[name, input, output], …]


def write_states(graph: Graph, model: ModelProto) -> None:
    """The states of the graph that was written to the model, whose inputs and outputs may have got other names."""
    if not graph.states:
        return
    inputs = dict(zip((v.name for v in graph.inputs), (i.name for i in model.graph.input)))
    outputs = dict(zip(graph.output_names, (o.name for o in model.graph.output)))
    names = [[s.name, inputs[s.input], outputs[s.output]] for s in graph.states]
    model.metadata_props.add(key=KEY, value=json.dumps(names))


def read_states(model: ModelProto, inputs: Collection[str], outputs: Collection[str]) -> tuple[State, ...]:
    """Raises LoadError for an entry that does not say what it should."""
    text = next((p.value for p in model.metadata_props if p.key == KEY), "[]")
    try:
        states = tuple(State(*(str(name) for name in names)) for names in json.loads(text))
    except (ValueError, TypeError):
        raise LoadError(f"is not a list of [name, input, output]: {text[:80]}") from None
    wrong = [*shared(states), *(f"knows no input '{s.input}'" for s in states if s.input not in inputs)]
    wrong += [f"knows no output '{s.output}'" for s in states if s.output not in outputs]
    if wrong:
        raise LoadError(wrong[0])
    return states
