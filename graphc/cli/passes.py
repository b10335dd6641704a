"""The passes by name, for the options that speak of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from graphc.errors import GraphcError

if TYPE_CHECKING:
    from graphc.graph import Graph
    from graphc.passes.rewrite import Pass


def pass_names(target: str) -> list[str]:
    """Names of all passes of the pipeline, in order, once each."""
    return list(dict.fromkeys(p.name for p in _passes(target)))


def _passes(target: str) -> tuple[Pass, ...]:
    from graphc import pipeline

    return (*pipeline.SHAPE_FREE, *pipeline.bound(_kernel_operators(target)))


def check_names(names: tuple[str, ...], target: str) -> None:
    """Raises GraphcError for a name that no pass has, and no algorithm that can be left out."""
    from graphc import pipeline
    from graphc.compiler import ALGORITHMS

    if names:
        pipeline.check_names(names, _passes(target), ALGORITHMS)


def graph_after(
    graph: Graph, name: str, target: str, disabled: tuple[str, ...], shapes: Callable[[], Mapping[str, tuple[int, ...]]]
) -> Graph:
    """The graph after the pass of that name.

    A pass of the shape-free part leaves dims open; one of the bound part (given as 'bound:NAME' where both have one of
    that name) sees the graph with the `shapes` of its inputs. Raises GraphcError where there is no such pass.
    """
    from graphc import pipeline
    from graphc.infer import bind

    bare = name.removeprefix("bound:")
    check_names(disabled, target)
    pipeline.check_names([bare], _passes(target))
    bound = pipeline.bound(_kernel_operators(target))
    if bare not in (p.name for p in bound) and bare != name:
        raise GraphcError(
            f"'{bare}' runs before shapes are known, and no more after that", hint=f"write '{bare}' without 'bound:'"
        )
    if bare == name and any(p.name == bare for p in pipeline.SHAPE_FREE):
        return pipeline.run(graph, pipeline.SHAPE_FREE, stop_after=bare, disabled=disabled)
    graph = pipeline.run(graph, pipeline.SHAPE_FREE, disabled=disabled)
    known = shapes()
    graph = bind(graph, {v.name: v.type.with_shape(known[v.name]) for v in graph.inputs})
    return pipeline.run(graph, bound, stop_after=bare, disabled=disabled)


def _kernel_operators(target: str) -> Any:
    if target == "reference":
        from graphc.op import all_ops

        return frozenset(all_ops())
    from graphc.backends.cpu.compile import kernel_operators

    return kernel_operators()
