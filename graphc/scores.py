"""Which results of a graph are scores of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphc.graph import Graph, Node, Value

NAMES = ("logits", "probabilities")
SCORING = ("Softmax", "LogSoftmax")
KEEPING = ("Identity", "Cast", "Flatten", "Squeeze", "Reshape")  # the scores, and of one row their order


def class_scores(graph: Graph) -> tuple[str, ...]:
    """The names of results that are scores of classes along axis 1: a softmax or log-softmax gives them, or they are named so."""
    producers = graph.producers()
    results = zip(graph.output_names, graph.outputs)
    return tuple(name for name, v in results if name in NAMES or _is_scored(producers.get(v), producers))


def _is_scored(node: Node | None, producers: dict[Value, Node]) -> bool:
    while node is not None and node.op.name in KEEPING:
        node = producers.get(node.operands[0])
    if node is None or node.op.name not in SCORING:
        return False
    t = node.output.type
    return node.attrs["axis"] in (1, -1) if t is None else t.rank > 1 and node.attrs["axis"] % t.rank == 1
