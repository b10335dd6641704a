"""States: what a step of a model leaves in an output, and the next step finds in an input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from graphc.errors import InputError

if TYPE_CHECKING:
    from graphc.graph import Graph
    from graphc.types import TensorType


@dataclass(frozen=True)
class State:
    """An input and an output of one type, by name, that may share memory.

    name: what a session calls it
    """

    name: str
    input: str
    output: str


def declared(graph: Graph, states: Mapping[str, str]) -> Graph:
    """The graph with these states besides its own, output by input. Raises InputError for names that it does not have."""
    found = list(graph.states)
    defaults = [spec.name for spec in graph.meta.get("optional", ())]
    for name, output in states.items():
        if name in defaults:
            hint = "export the model without the default: a session gives states their first values"
            raise InputError(f"input '{name}' has a default, so it can't be a state", hint=hint)
        _require("input", name, [v.name for v in graph.inputs])
        _require("output", output, graph.output_names)
        state = State(name, name, output)
        if state not in found:
            found.append(state)
    wrong = next(shared(tuple(found)), None)
    if wrong is not None:
        raise InputError(wrong, hint="an input takes its state from one output, and an output goes to one input")
    return replace(graph, states=tuple(found)) if states else graph


def _require(what: str, name: str, known: tuple[str, ...] | list[str]) -> None:
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


def types(graph: Graph, state: State) -> tuple[TensorType | None, TensorType | None]:
    """Of its input and its output."""
    inputs = {v.name: v.type for v in graph.inputs}
    return inputs[state.input], dict(zip(graph.output_names, graph.outputs))[state.output].type


def require_equal_types(graph: Graph) -> None:
    """Raises InputError for a state whose output is not known to have its input's type, whatever the sizes are."""
    for state in graph.states:
        before, after = types(graph, state)
        if before is not None and before == after and not any(getattr(d, "unknown", False) for d in before.shape):
            continue
        hint = "both must have one type"
        if before is None or after is None or before.rank != after.rank:
            hint += ": known dtypes, and as many dims"
        elif before.dtype != after.dtype:
            hint += f": cast the output to {before.dtype}"
        else:
            hint += (
                " for all sizes. A state that grows, as a cache that each step appends to, can't be carried yet: feed it "
                "yourself, or give the model a buffer of full size and a position to write at"
            )
        known = f"input '{state.input}' is {before or 'of no known type'}, output '{state.output}' is {after or 'of no known type'}"
        raise InputError(f"state '{state.name}': {known}", hint=hint)
