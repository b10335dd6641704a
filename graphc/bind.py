"""Binding: the same graph with its inputs' symbolic dims replaced by numbers and every type inferred again.

Where only the results' types are asked for, their symbolic dims are evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from graphc.dims import Dim, Sym, substitute, symbols
from graphc.errors import InputError
from graphc.graph import Graph, Rewriter, Value, constant
from graphc.objects import is_object
from graphc.types import TensorType


def bind(graph: Graph, types: Mapping[str, TensorType | None], values: Mapping[str, np.ndarray] | None = None) -> Graph:
    """The graph with the named inputs' types replaced, and those in `values` fixed to constants (shape-like inputs).

    A fixed input stays an input of the graph, so that the signature is the same; nothing reads it any more.
    """
    rw = Rewriter(graph)
    rw.inputs = [_retyped(v, types) for v in graph.inputs]
    for old, new in zip(graph.inputs, rw.inputs):
        fixed = (values or {}).get(old.name)
        rw.map[old] = new if fixed is None else constant(old.name, fixed, new.type.dtype)
    sizes = _sizes(graph.inputs, rw.inputs)
    for node in graph.nodes:
        copied = rw.copy(node)
        outputs = tuple(_sized(v, sizes) for v in copied.outputs) if sizes else copied.outputs
        if any(a is not b for a, b in zip(outputs, copied.outputs)):
            rw.nodes[-1] = replace(copied, outputs=outputs)
            rw.map.update(zip(node.outputs, outputs))
    return rw.finish()


def _sizes(before: Sequence[Value], after: Sequence[Value]) -> dict[str, Dim]:
    """The symbols of inputs that are one number now. Types that a front end gave, and that inference does not, hold them."""
    found: dict[str, set[Dim]] = {}
    for old, new in zip(before, after):
        if new is not old and old.type is not None and new.type is not None:
            for d, n in zip(old.type.shape, new.type.shape):
                if isinstance(d, Sym) and d == Sym(str(d)):
                    found.setdefault(str(d), set()).add(n)
    return {name: n for name, dims in found.items() if len(dims) == 1 for n in dims if isinstance(n, int)}


def _sized(v: Value, sizes: Mapping[str, Dim]) -> Value:
    if v.type is None or v.type.is_static:
        return v
    try:
        type_ = v.type.with_shape([substitute(d, sizes) for d in v.type.shape])
    except (ValueError, ZeroDivisionError):  # of a node that never runs, or fails when it does
        return v
    return v if type_ == v.type else replace(v, type=type_)


def _retyped(v: Value, types: Mapping[str, TensorType | None]) -> Value:
    new = types.get(v.name, v.type)
    keeps = is_object(v.type) and not is_object(new)  # of an array of one object, as callers tell it
    return v if keeps or new == v.type else replace(v, type=new)


def result_types(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> dict[str, TensorType | None]:
    """Types of the results, as far as the shapes of the inputs tell them, without inferring a type again.

    Raises InputError where dims of the shapes contradict each other, or a result's dim would be negative.
    """
    given = [(v, d, n) for v in graph.inputs if v.type is not None for d, n in zip(v.type.shape, shapes[v.name])]
    sizes: dict[str, Dim] = {
        str(d): n for _, d, n in given if isinstance(d, Sym) and d == Sym(str(d)) and not d.unknown
    }
    for v, d, n in given:
        if sizes.keys() >= set(symbols(d)) and substitute(d, sizes) != n:
            raise InputError(f"input '{v.name}' has shape {tuple(shapes[v.name])}, the model wants {v.type}")
    return {name: _evaluated(name, v.type, sizes) for name, v in zip(graph.output_names, graph.outputs)}


def _evaluated(name: str, t: TensorType | None, sizes: Mapping[str, Dim]) -> TensorType | None:
    if t is None:
        return None
    try:
        shape = [substitute(d, sizes) for d in t.shape]
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"output '{name}' is {t}: {error}", hint="other input shapes") from None
    if any(isinstance(d, int) and d < 0 for d in shape):
        raise InputError(f"output '{name}' of type {t} would have the shape {shape}", hint="larger inputs")
    return t.with_shape(shape)
