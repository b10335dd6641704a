"""Which layers stay in float: by name, and by the error that they make."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from graphc.errors import InputError
from graphc.graph import Node, Value
from graphc.quantizer.insertion import quantized
from graphc.quantizer.noise import noises
from graphc.quantizer.placement import Placement
from graphc.quantizer.ranges import Range
from graphc.quantizer.running import Runner
from graphc.quantizer.scheme import Scheme

BY_NAME, BY_ERROR = "kept by name", "kept by its error"


def kept_by_name(layers: Collection[Node], keep: Sequence[str], done: str = "quantised") -> set[Node]:
    """The layers that `keep` names: by the name of a node or of what it makes, by a pattern of names, or by an operator. done: what is
    not done to them.

    Raises InputError for what is none of these.
    """
    found: set[Node] = set()
    for wanted in keep:
        named = {n for n in layers if any(fnmatchcase(name, wanted) for name in _names(n))}
        if not named:
            known = sorted({name for n in layers for name in _names(n)})
            close = get_close_matches(wanted, known, 1)
            guess = f"did you mean '{close[0]}'? " if close else ""
            ops = ", ".join(sorted({n.op.name for n in layers}))
            raise InputError(
                f"no layer that could be {done} is named '{wanted}', nor is it the operator of one",
                hint=f"{guess}operators: {ops}; the table of a run without it has the names",
            )
        found |= named
    return found


def _names(node: Node) -> tuple[str, ...]:
    return node.name, node.output.name, node.op.name


@dataclass(frozen=True)
class Trial:
    """Quantises some layers and looks at the model's results. expected: those in float, batch by batch."""

    placement: Placement
    ranges: Mapping[Value, Range]
    scheme: Scheme
    runner: Runner
    expected: Sequence[list[Any]]

    def error(self, layers: Collection[Node]) -> float:
        """The largest relative error of a result when these layers are quantised."""
        if not layers:
            return 0.0
        graph = quantized(self.placement, layers, self.ranges, self.scheme).graph
        found = noises(self.expected, self.runner.values(graph, graph.outputs))
        return max((noise.relative for noise in found), default=0.0)

    def alone(self, layers: Sequence[Node]) -> dict[Node, float]:
        """The error that each layer makes when it is the only one that is quantised."""
        found = {}
        for i, node in enumerate(layers):
            found[node] = self.error([node])
            self.runner.progress("each layer alone", i + 1, len(layers))
        return found

    def below(self, limit: float, layers: Sequence[Node], alone: Mapping[Node, float]) -> list[Node]:
        """The fewest of the most sensitive layers to keep in float so that the error is at most the limit.

        How many is found by bisection: an error that goes up when one more layer stays in float may hide a smaller number. Raises
        InputError where none could be quantised.
        """
        ranked = sorted(layers, key=lambda n: -alone[n])
        few, many, middle = -1, len(ranked), 0  # too few, enough, and what is tried: none at first
        while many - few > 1:
            if self.error(ranked[middle:]) <= limit:
                many = middle
            else:
                few = middle
            middle = (few + many) // 2
            self.runner.progress("layers in float", many, len(ranked))
        if many == len(ranked):
            last = alone[ranked[-1]]
            raise InputError(
                f"with any layer quantised the error is above {limit:g}: the least sensitive alone makes {last:.3g}",
                hint="allow a larger one, take more data, or another method for ranges",
            )
        return ranked[:many]
