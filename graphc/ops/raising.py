"""Raise: an operator of the compiler's own, in the place of a branch that the types of its operands make impossible."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import NoReturn

from graphc.errors import GraphcError
from graphc.graph import Graph, make_node
from graphc.op import Attr, Call, Family, Op, register
from graphc.types import TensorType


def _types(call: Call) -> list[TensorType | None]:
    return list(call.attrs.types)


def _raise(error: GraphcError, types: object) -> NoReturn:
    raise copy(error)  # without the frames of the last time


RAISE = register(
    Op(
        "Raise",
        (),
        _types,
        _raise,
        {"error": Attr("error"), "types": Attr("type", settled=True)},
        outputs=("*ys",),
        deterministic=False,  # nothing is to run it before its turn
        internal=True,
        family=Family.CONTROL,
    )
)


def raising(graph: Graph, error: GraphcError, like: Graph) -> Graph:
    """A held graph with the signature of `graph` that raises the error when it runs. Its types are those of `like`."""
    attrs = {"error": error, "types": tuple(v.type for v in like.outputs)}
    names = [v.name for v in graph.outputs][: len(like.outputs)]
    node = make_node(RAISE, (), attrs, name=error.node or graph.name, outputs=names, source=error.source)
    inputs = tuple(replace(v, type=w.type) for v, w in zip(graph.inputs, like.inputs))
    return replace(graph, inputs=inputs, outputs=node.outputs, nodes=(node,))


def refusal(graph: Graph) -> GraphcError | None:
    """What a held graph is certain to raise; None where it may run."""
    return next((n.attrs["error"] for n in graph.nodes if n.op is RAISE), None)
