"""Running a graph node by node through the operators' NumPy references: what a graph means.

Slow and obvious on purpose. The reference backend, constant folding and the control-flow operators stand on it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TypedDict

import numpy as np

from graphc.errors import GraphcError, InputError, Location
from graphc.graph import Graph, Node, Value
from graphc.objects import ObjectType, boxed, is_object, matches, unbox
from graphc.own import FILES, mistake, mistakes
from graphc.signature import wrong_names
from graphc.types import MaybeNone, Sym, TensorType
from graphc.words import many


class _Where(TypedDict):
    op: str
    node: str
    source: Location | None


def interpret(graph: Graph, feeds: Mapping[str, np.ndarray], *, strict: bool = True) -> dict[str, np.ndarray]:
    """The graph's results by output name, for inputs given by name. Sequences, optionals and maps are Python's objects.

    `strict` checks dtypes and shapes of the inputs and of every result against the inferred types; turn it off to run
    the same graph in a wider precision. Raises InputError for wrong names, dtypes or shapes, and GraphcError naming the
    node that fails.
    """
    names = [v.name for v in graph.inputs]
    missing, extra = [n for n in names if n not in feeds], [n for n in feeds if n not in names]
    if missing or extra:
        raise InputError(wrong_names(missing, extra), hint=f"inputs of {graph.name}: {', '.join(names)}")
    arrays = [boxed(feeds[v.name]) if is_object(v.type) else np.asarray(feeds[v.name]) for v in graph.inputs]
    if strict:
        check_arrays([(v.name, v.type) for v in graph.inputs], arrays)
    return dict(zip(graph.output_names, map(unbox, run_graph(graph, arrays, strict=strict))))


def run_graph(graph: Graph, arrays: Sequence[np.ndarray], *, strict: bool = True) -> list[np.ndarray]:
    """The graph's results in order, for inputs in order. A value is freed after the last node that reads it."""
    if len(arrays) != len(graph.inputs):
        raise InputError(f"graph {graph.name} takes {many(len(graph.inputs), 'input')}, not {len(arrays)}")
    last_use = {v: i for i, node in enumerate(graph.nodes) for v in node.operands}
    kept = set(graph.outputs)
    env: dict[Value, np.ndarray] = dict(zip(graph.inputs, arrays))
    for i, node in enumerate(graph.nodes):
        results = run_node(node, [_lookup(env, v) for v in node.inputs], strict=strict)
        env.update((v, a) for v, a in zip(node.outputs, results) if v in last_use or v in kept)
        for v in set(node.operands):
            if last_use[v] == i and v not in kept:
                env.pop(v, None)
    return [_lookup(env, v) for v in graph.outputs]


# Runs a graph that a node holds, in the place of `run_graph`
RunHeld = Callable[[Graph, Sequence[np.ndarray]], list[np.ndarray]]
_run_held: ContextVar[RunHeld | None] = ContextVar("run_held", default=None)


@contextmanager
def held_graphs_run_by(run: RunHeld | None) -> Iterator[None]:
    """Within, references of control flow give the graphs that they hold to `run`."""
    token = _run_held.set(run)
    try:
        yield
    finally:
        _run_held.reset(token)


def run_held(graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A graph that a node holds; graphs within it are run as they always are."""
    run = _run_held.get()
    if run is None:
        return run_graph(graph, arrays, strict=False)
    with held_graphs_run_by(None):
        return run(graph, arrays)


def run_node(node: Node, arrays: Sequence[np.ndarray | None], *, strict: bool = True) -> tuple[np.ndarray, ...]:
    """One node's results through its operator's reference, for its operands in order (None where absent).

    With `strict`, results must have the inferred dtype and shape: nothing is converted. Raises GraphcError (InputError
    where the data is at fault) with the node's name and place.
    """
    where: _Where = {"op": node.op.name, "node": node.name, "source": node.source}
    own = node.op.name in FILES
    if own:
        arrays = [None if a is None else _read_only(a) for a in arrays]
    extra = {"n_outputs": len(node.outputs)} if _takes_n_outputs(node.op.reference) else {}
    try:
        with np.errstate(all="ignore"), mistakes(node.op.name, "reference"):
            results = node.op.reference(*arrays, **node.attrs, **extra)
            if results is None:
                raise TypeError("it gives None")
    except GraphcError as error:
        raise error.located(**where) from None
    except Exception as error:
        shown = ", ".join("-" if a is None else str(TensorType(a.dtype, a.shape)) for a in arrays)
        raise GraphcError(f"{type(error).__name__}: {error}\n  operands: {shown}", **where) from error
    results = tuple(np.asarray(r) for r in (results if isinstance(results, (tuple, list)) else (results,)))
    if len(results) < len(node.outputs):
        raise GraphcError(f"its reference gives {len(results)} results, not {len(node.outputs)}", **where)
    results = results[: len(node.outputs)]
    if strict:
        for value, array in zip(node.outputs, results):
            if not _fits(array, value.type):
                actual = TensorType(array.dtype, array.shape)
                text = f"result '{value.name}' is {actual}, inferred {value.type}"
                if own:
                    raise mistake(node.op.name, f"its `infer` and its `reference` disagree: {text}").located(**where)
                hint = "the operator's type rule and its reference disagree: please report this model"
                raise GraphcError(text, hint=hint, **where)
    return results


def _read_only(array: np.ndarray) -> np.ndarray:
    """The same elements, which a function of a user's can't change."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


def check_arrays(inputs: Sequence[tuple[str, TensorType | None]], arrays: Sequence[np.ndarray]) -> None:
    """Raises InputError where dtype, rank or dims of an array do not fit the input, or dims of one name differ."""
    bound: dict[Sym, int] = {}
    for (name, want), array in zip(inputs, arrays):
        if want is None:
            continue
        actual: object = TensorType(array.dtype, array.shape)
        if not _fits(array, want):
            actual = f"no {want.kind} of that type" if isinstance(want, ObjectType) else actual
            raise InputError(f"input '{name}' is {actual}, the model wants {want}")
        for dim, size in zip(want.shape, array.shape):
            if isinstance(dim, Sym) and bound.setdefault(dim, size) != size:
                hint = f"'{dim}' is {bound[dim]} in an earlier dim; equal names must have equal sizes"
                raise InputError(f"input '{name}' is {actual}, the model wants {want}", hint=hint)


def _fits(array: np.ndarray, want: TensorType | None) -> bool:
    return want is None or matches(array, want)


def _lookup(env: Mapping[Value, np.ndarray], v: Value | None) -> np.ndarray | MaybeNone:
    if v is None:
        return None
    return v.data if v.is_const else env[v]


@cache
def _takes_n_outputs(reference: Callable) -> bool:
    return "n_outputs" in inspect.signature(reference).parameters
