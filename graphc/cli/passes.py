"""The passes and stages by name, for the options that speak of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from graphc.errors import GraphcError, InputError

if TYPE_CHECKING:
    from graphc.backend import Backend
    from graphc.graph import Graph
    from graphc.passes.rewrite import Pass
    from graphc.types import TensorType


def pass_names(target: str) -> list[str]:
    """Names of all passes of the pipeline, in order, once each."""
    return list(dict.fromkeys(p.name for p in _passes(_opened(target))))


def removable(target: str) -> list[str]:
    """What can be left out: passes, and parts of the target's backend."""
    return [*pass_names(target), *stages_of_parts(target)]


def stops(target: str) -> list[str]:
    """What a compilation can be stopped after: passes, with their second turn as 'bound:NAME', and stages of the target."""
    from graphc import pipeline

    backend = _opened(target)
    kernels = backend.kernel_operators()
    free = [p.name for p in pipeline.shape_free(kernels)]
    bound = [p.name for p in pipeline.bound(kernels, backend.compiles)]
    second = [f"bound:{name}" if name in free else name for name in bound]
    return list(dict.fromkeys([*free, *second, *(s.name for s in backend.stages())]))


def stages_of_parts(target: str) -> dict[str, str]:
    """The parts of the target's backend that can be left out, each with its stage."""
    return {p.name: p.stage for p in _opened(target).parts}


def shown_after(
    graph: Graph,
    name: str,
    backend: Backend,
    disabled: tuple[str, ...],
    shapes: Callable[[], Mapping[str, tuple[int, ...]]],
) -> str:
    """What a person sees after the pass or stage of that name: a graph, or what the backend's stage made.

    A pass of the shape-free part leaves dims open; one of the bound part (given as 'bound:NAME' where both have one of
    that name) and the backend's stages, which come after them, see the graph with the `shapes` of its inputs. Raises
    InputError where there is no such pass or stage.
    """
    from graphc import pipeline
    from graphc.backend import after
    from graphc.bind import bind
    from graphc.compiler import check_disabled
    from graphc.segments import is_static

    bare, stages = name.removeprefix("bound:"), backend.stages()
    names = [s.name for s in stages]
    check_disabled(backend, disabled)
    pipeline.check_names([bare], _passes(backend), names, kind="stages")
    bound = pipeline.bound(backend.kernel_operators(), backend.compiles)
    if bare not in (p.name for p in bound) and bare != name:
        why = "is a stage of the target" if bare in names else "runs before shapes are known, and no more after that"
        raise InputError(f"'{bare}' {why}", hint=f"write '{bare}' without 'bound:'")
    free = pipeline.shape_free(backend.kernel_operators())
    if bare == name and any(p.name == bare for p in free):
        return str(pipeline.run(graph, free, stop_after=bare, disabled=disabled))
    graph = pipeline.run(graph, free, disabled=disabled)
    known = shapes()
    graph = bind(graph, {v.name: v.type.with_shape(known[v.name]) for v in graph.inputs})
    if bare not in names:
        return str(pipeline.run(graph, bound, stop_after=bare, disabled=disabled))
    graph = pipeline.run(graph, bound, disabled=disabled)
    if not is_static(graph):
        hint = "stop after a pass, or take the model apart where its shapes follow from data"
        raise GraphcError(f"'{bare}' sees a part of this model at a time, when it runs", hint=hint)
    return after(stages, bare, backend.draft(graph))


def types_after(
    graph: Graph, backend: Backend, disabled: tuple[str, ...], shapes: Mapping[str, Sequence[int]]
) -> dict[str, TensorType | None]:
    """Types of the results once all passes have run, which fold what the graph's own types leave open."""
    from graphc import pipeline
    from graphc.bind import bind

    graph = pipeline.run(graph, pipeline.shape_free(backend.kernel_operators()), disabled=disabled)
    graph = bind(graph, {v.name: v.type.with_shape(shapes[v.name]) for v in graph.inputs if v.name in shapes})
    graph = pipeline.run(graph, pipeline.bound(backend.kernel_operators(), backend.compiles), disabled=disabled)
    return {name: v.type for name, v in zip(graph.output_names, graph.outputs)}


def _passes(backend: Backend) -> tuple[Pass, ...]:
    from graphc import pipeline

    kernels = backend.kernel_operators()
    return (*pipeline.shape_free(kernels), *pipeline.bound(kernels, backend.compiles))


def _opened(target: str) -> Backend:
    from graphc.backend import Request
    from graphc.backends import open_backend

    return open_backend(target, Request())
