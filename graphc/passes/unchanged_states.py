"""A value that a Loop or Scan hands on as it is: what the body reads is captured, and the result is the initial value."""

from __future__ import annotations

from dataclasses import replace

from graphc.graph import Graph, Node, Value
from graphc.passes.rewrite import Rewrite, Sweep

unchanged_states = Rewrite("unchanged_states")


@unchanged_states.on("Loop")
def of_a_loop(node: Node, sweep: Sweep) -> tuple[Value, ...] | None:
    return _without(node, sweep, first_input=2, first_output=1)


@unchanged_states.on("Scan")
def of_a_scan(node: Node, sweep: Sweep) -> tuple[Value, ...] | None:
    return _without(node, sweep, first_input=0, first_output=0)


def _without(node: Node, sweep: Sweep, first_input: int, first_output: int) -> tuple[Value, ...] | None:
    """first_input, first_output: index of the first state among what the body is given and gives."""
    body, n = node.attrs["body"], node.attrs["n_states"]
    unchanged = [k for k in range(n) if _origin(body, body.outputs[first_output + k]) is body.inputs[first_input + k]]
    if not unchanged:
        return None
    inputs, outputs = [first_input + k for k in unchanged], [first_output + k for k in unchanged]
    held = replace(
        body,
        inputs=_moved(body.inputs, inputs),
        outputs=_dropped(body.outputs, outputs),
        output_names=_dropped(body.output_names, outputs),
    )
    initial = {k: node.inputs[first_input + k] for k in unchanged}
    names = _dropped([v.name for v in node.outputs], unchanged)
    made: tuple[Value, ...] = ()
    if names:
        attrs = {**node.attrs, "body": held, "n_states": n - len(unchanged)}
        operands = _moved(node.inputs, inputs)
        new = sweep.add(node.op, *operands, name=node.name, outputs=names, source=node.source, **attrs)
        made = new if isinstance(new, tuple) else (new,)
    rest = iter(made)
    return tuple(initial[k] if k in initial else next(rest) for k in range(len(node.outputs)))


def _origin(body: Graph, v: Value) -> Value:
    makers = {o: k for k in body.nodes if k.op.name == "Identity" for o in k.outputs}
    while v in makers:
        v = makers[v].inputs[0]
    return v


def _dropped(values: tuple | list, at: list[int]) -> tuple:
    return tuple(v for i, v in enumerate(values) if i not in at)


def _moved(values: tuple | list, at: list[int]) -> tuple:
    """To the end, where captures are."""
    return (*_dropped(values, at), *(values[i] for i in at))
