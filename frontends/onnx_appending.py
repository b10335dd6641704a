"""Loops that append to an empty sequence: what they append is collected as one tensor, so that the loop is compiled.

Exporters write loops that gather results so, as PyTorch's an EmbeddingBag.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphc.dims import symbols
from graphc.frontends.onnx_sequences import Item, Slices
from graphc.frontends.onnx_versions import Use
from graphc.graph import Graph, Node, Value
from graphc.objects import Loose, ObjectType


class Appending:
    """Sequences among the states of a Loop that begin empty and get one element in each iteration."""

    def __init__(self, use: Use) -> None:
        """Take them out of the use, whose body is a graph already."""
        body, n = use.attrs["body"], use.attrs["n_states"]
        found = {k: x for k in range(n) if (x := _appended(body, use.inputs[2 + k], k, n)) is not None}
        self.outputs, self.n_states, self.found = list(use.outputs), n, list(found)
        if not found:
            return
        states = [k for k in range(n) if k not in found]
        makers = body.producers()
        gone = {makers[body.outputs[1 + k]] for k in found}
        n_scans = len(body.outputs) - 1 - n
        inputs = (*body.inputs[:2], *(body.inputs[2 + k] for k in states), *body.inputs[2 + n :])
        results = (*(1 + k for k in states), *range(1 + n, len(body.outputs)))
        outputs = (body.outputs[0], *(body.outputs[i] for i in results), *found.values())
        names = (body.output_names[0], *(body.output_names[i] for i in (*results, *(1 + k for k in found))))
        nodes = tuple(node for node in body.nodes if node not in gone)
        use.attrs["body"] = replace(body, inputs=inputs, outputs=outputs, nodes=nodes, output_names=names)
        use.attrs["n_states"] = len(states)
        use.inputs = [*use.inputs[:2], *(use.inputs[2 + k] for k in states), *use.inputs[2 + n :]]
        self.outputs += [""] * (n + n_scans - len(self.outputs))
        kept = [*(self.outputs[k] for k in states), *self.outputs[n:]]
        use.outputs = [*kept, *(f"{self.outputs[k] or body.outputs[1 + k].name}.elements" for k in found)]

    def results(self, made: Sequence[Value]) -> list[Item]:
        """The results as the file has them, of those that the node has."""
        if not self.found:
            return list(made)
        count = len(made) - len(self.found)
        rest = iter(made[:count])
        sequences = dict(zip(self.found, made[count:]))
        return [Slices(sequences[k], 0, False) if k in sequences else next(rest) for k in range(len(self.outputs))]


def _appended(body: Graph, start: Value | None, k: int, n: int) -> Value | None:
    """What each iteration appends to state k, of the same shape in all of them; None where it does something else."""
    t = None if start is None else start.type
    if not isinstance(t, ObjectType) or t.kind != "sequence" or not (isinstance(t.of, Loose) and t.of.nothing):
        return None
    before, after = body.inputs[2 + k], body.outputs[1 + k]
    node: Node | None = body.producers().get(after)
    if node is None or node.op.name != "SequenceInsert" or node.inputs[0] is not before or len(node.operands) != 2:
        return None
    consumers = body.consumers()
    alone = len(consumers.get(before, ())) == 1 and not consumers.get(after) and before not in body.outputs
    x = node.inputs[1]
    if not alone or sum(v is after for v in body.outputs) != 1 or x.type is None or isinstance(x.type, ObjectType):
        return None
    carried = {name for v in body.inputs[2 : 2 + n] if v.type is not None for d in v.type.shape for name in symbols(d)}
    dims = {name for d in x.type.shape for name in symbols(d)}
    given = {name for v in body.inputs[2 + n :] if v.type is not None for d in v.type.shape for name in symbols(d)}
    return x if dims <= given - carried else None
