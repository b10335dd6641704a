"""States: what a step of a model leaves in an output, and the next step finds in an input."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from graphc.dims import Sym
from graphc.errors import InputError
from graphc.objects import is_object
from graphc.signature import State

if TYPE_CHECKING:
    from graphc.graph import Graph, Value
    from graphc.types import TensorType


# --- which there are --------------------------------------------------------------------------------------------------
def declared(graph: Graph, states: Mapping[str, str]) -> Graph:
    """The graph with these states besides its own, output by input. Raises InputError for names that it does not have."""
    if not states:
        return graph
    inputs, defaults = [v.name for v in graph.inputs], [spec.name for spec in graph.meta.get("optional", ())]
    return replace(graph, states=joined(graph.states, states, inputs, graph.output_names, defaults))


def joined(
    known: Sequence[State],
    more: Mapping[str, str],
    inputs: Sequence[str],
    outputs: Sequence[str],
    defaults: Collection[str] = (),
) -> tuple[State, ...]:
    """The states with more of them, output by input. defaults: inputs that have one.

    Raises InputError for names that are neither inputs nor outputs, and for one that is in two states.
    """
    found = list(known)
    for name, output in more.items():
        if name in defaults:
            hint = "export the model without the default: a session gives states their first values"
            raise InputError(f"input '{name}' has a default, so it can't be a state", hint=hint)
        _require("input", name, inputs)
        _require("output", output, outputs)
        if not any((s.input, s.output) == (name, output) for s in found):
            found.append(State(name, name, output))
    wrong = next(shared(tuple(found)), None)
    if wrong is not None:
        raise InputError(wrong, hint="an input takes its state from one output, and an output goes to one input")
    return tuple(found)


def _require(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        from difflib import get_close_matches

        close = get_close_matches(name, known, 1)
        guess = f"did you mean '{close[0]}'? " if close else ""
        raise InputError(f"the model has no {what} '{name}' for a state", hint=f"{guess}{what}s: {', '.join(known)}")


def shared(states: tuple[State, ...]) -> Iterator[str]:
    """What is in two states: a name, an input or an output."""
    for what in ("name", "input", "output"):
        names = [getattr(s, what) for s in states]
        for name in dict.fromkeys(n for n in names if names.count(n) > 1):
            yield f"{what} '{name}' is in {names.count(name)} states"


# Starts of names of a cache as an input, and as the output that it comes back in, as exporters write them:
# past_key_values.0.key and present.0.key, past_key_0 and present_key_0
PAST = (
    (r"past_key_values(?![a-z])", "present"),
    (r"past_key_values(?![a-z])", "present_key_values"),
    (r"past(?![a-z])", "present"),
    (r"past(?![a-z])", "new"),
)
# Operators that append to an operand: operand, result, and the axis, as their type rules say.
APPENDS: Mapping[str, tuple[tuple[int, int, int], ...]] = {
    "Attention": ((4, 1, 2), (5, 2, 2)),
    "com.microsoft::MultiHeadAttention": ((6, 1, 2), (7, 2, 2)),
    "com.microsoft::Attention": ((4, 1, 3),),
    "com.microsoft::QAttention": ((8, 1, 3),),
}
# Operands that are a cache, and the results that are this cache with new rows in it
CACHES = {
    "TensorScatter": ((0, 0),),
    "com.microsoft::GroupQueryAttention": ((3, 1), (4, 2)),
    "com.microsoft::DecoderMaskedMultiHeadAttention": ((5, 1), (6, 2)),
    **{name: tuple((i, k) for i, k, _ in pairs) for name, pairs in APPENDS.items()},
}


def caches(graph: Graph) -> tuple[State, ...]:
    """States that nobody declared: the caches that names tell, or operators that are made for them."""
    outputs, results = set(graph.output_names), dict(zip(graph.outputs, graph.output_names))
    pairs: dict[Value, str] = {}
    for v in graph.inputs:
        for past, present in PAST:
            name = re.sub(f"^{past}", present, v.name)
            if name != v.name and name in outputs:
                pairs.setdefault(v, name)
    for node in graph.nodes:
        for i, k in CACHES.get(node.op.name, ()):
            if i < len(node.inputs) and k < len(node.outputs) and node.outputs[k] in results:
                pairs.setdefault(node.inputs[i], results[node.outputs[k]])
    states = [State(v.name, v.name, pairs[v]) for v in graph.inputs if v in pairs]
    if any(shared(tuple(states))):
        return ()
    return tuple(s for s in states if _problem(*types(graph, s)) is None)


# --- types ------------------------------------------------------------------------------------------------------------
def types(graph: Graph, state: State) -> tuple[TensorType | None, TensorType | None]:
    """Of its input and its output."""
    inputs = {v.name: v.type for v in graph.inputs}
    return inputs[state.input], dict(zip(graph.output_names, graph.outputs))[state.output].type


def require_types(state: State, before: TensorType | None, after: TensorType | None) -> TensorType:
    """The type of the input. Raises InputError where it is not known, or the output can't be the input of the next step.

    What is not known of the output, each step shows.
    """
    problem = _problem(before, after)
    if problem is not None:
        known = f"input '{state.input}' is {before or 'of no known type'}, output '{state.output}' is {after or 'of no known type'}"
        raise InputError(f"state '{state.name}': {known}", hint=problem)
    assert before is not None
    return before


def require_fitting(graph: Graph) -> None:
    """`require_types` of each state of a graph."""
    for state in graph.states:
        require_types(state, *types(graph, state))


def _problem(before: TensorType | None, after: TensorType | None) -> str | None:
    """Why a result is certainly no input of the next step."""
    if before is None:
        return "the number of dims of the input must be known"
    for t in (before, after):
        if is_object(t):
            return f"states are tensors, not {t}"
    if after is None:
        return None
    if before.rank != after.rank:
        return "both must have as many dims"
    if before.dtype != after.dtype:
        return f"both must have one dtype: cast the output to {before.dtype}"
    if any(isinstance(d, int) and isinstance(e, int) and d != e for d, e in zip(before.shape, after.shape)):
        return "dims that are numbers in the input must be the same numbers in the output"
    return None


def open_axes(before: TensorType, after: TensorType | None, fed: Collection[str]) -> tuple[int, ...]:
    """The axes along which a state may change its size from step to step, as a cache that each step appends to.

    fed: names of dims of the inputs that are no states, whose sizes a step brings along.
    """
    if after is None:
        return tuple(i for i, d in enumerate(before.shape) if isinstance(d, Sym) and str(d) not in fed)
    axes = [i for i, (d, e) in enumerate(zip(before.shape, after.shape)) if isinstance(d, Sym) and _may_differ(d, e)]
    own = [i for i in axes if str(before.shape[i]) not in fed]
    return tuple(own or axes)


def _may_differ(d: Sym, e: int | Sym) -> bool:
    return d != e or d.unknown
