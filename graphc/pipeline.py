"""The order of the passes; fusions are found by the names of their files. What only one backend needs (layout, fusion into
kernels) comes after them, in that backend.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module

from graphc import passes as folder
from graphc.errors import InputError
from graphc.graph import Graph, Node
from graphc.passes.batch_first import batch_first
from graphc.passes.block_products import block_products
from graphc.passes.block_weights import block_weights
from graphc.passes.byte_convolutions import byte_convolutions
from graphc.passes.byte_products import byte_products
from graphc.passes.byte_tables import byte_tables
from graphc.passes.canonicalize import canonicalize
from graphc.passes.common_subexpressions import common_subexpressions
from graphc.passes.dead_code import dead_code
from graphc.passes.decoded_weights import decoded_weights
from graphc.passes.decompose import Decompose
from graphc.passes.dissolve_objects import dissolve_objects
from graphc.passes.feature_maps import feature_maps
from graphc.passes.fold_batch_norm import fold_batch_norm
from graphc.passes.fold_constants import fold_constants
from graphc.passes.gathered_bytes import gathered_bytes
from graphc.passes.held_graphs import HeldGraphs
from graphc.passes.identities import identities
from graphc.passes.inline_branches import inline_branches
from graphc.passes.log import Log
from graphc.passes.merge_pads import merge_pads
from graphc.passes.merge_reshapes import merge_reshapes
from graphc.passes.rewrite import Pass, Rewrite
from graphc.passes.rows_for_columns import rows_for_columns
from graphc.passes.sign_products import sign_products
from graphc.passes.unchanged_states import unchanged_states
from graphc.passes.unsigned_bytes import unsigned_bytes
from graphc.passes.widen import Widen, compiles_somehow
from graphc.verify import verify as verify_graph

# Once for each model: dims may be symbolic, types unknown. Weights are folded here, so that binding leaves them alone.
SHAPE_FREE: tuple[Pass, ...] = (
    dead_code,
    unsigned_bytes,
    byte_tables,
    gathered_bytes,
    byte_products,
    block_products,
    byte_convolutions,
    fold_constants,
    decoded_weights,
    inline_branches,
    canonicalize,
    identities,
    merge_reshapes,
    fold_batch_norm,
    merge_pads,
    sign_products,
    block_weights,
    common_subexpressions,
)

NOT_PORTABLE = (
    *(unsigned_bytes, byte_tables, byte_products, block_products, byte_convolutions, sign_products, block_weights),
    decoded_weights,
)

# Those of them whose results any reader of ONNX knows, and that leave integers of a quantised model alone.
PORTABLE: tuple[Pass, ...] = tuple(p for p in SHAPE_FREE if p not in NOT_PORTABLE)

# Once for each binding of the inputs' shapes: what was symbolic is a number now.
BOUND: tuple[Pass, ...] = (
    fold_constants,
    inline_branches,
    canonicalize,
    merge_reshapes,
    identities,
    batch_first,
    rows_for_columns,
    fold_batch_norm,
    merge_pads,
    common_subexpressions,
)


def shape_free(kernels: Collection[str]) -> tuple[Pass, ...]:
    """SHAPE_FREE for a backend that has kernels for these operators."""
    return tuple(p for p in SHAPE_FREE if not isinstance(p, Rewrite) or not p.makes or p.makes in kernels)


@lru_cache(maxsize=1)
def fusions() -> tuple[Rewrite, ...]:
    """The passes of graphc/passes/fuse_*.py, each named as its file, in the order of their names."""
    names = sorted(m.name for m in pkgutil.iter_modules(folder.__path__) if m.name.startswith("fuse_"))
    return tuple(getattr(import_module(f"{folder.__name__}.{name}"), name) for name in names)


def bound(kernels: Collection[str], compiles: Callable[[Node], bool] = lambda node: False) -> tuple[Pass, ...]:
    """BOUND for a backend that has kernels for these operators: composites that it lacks are expanded and simplified. compiles: as
    `Backend.compiles`, for a backend that has them for some uses only."""
    somehow, keep = compiles_somehow(compiles), frozenset(kernels)
    wanted = (replace(p, accepts=somehow) for p in fusions() if p.makes in kernels)
    written: tuple[Pass, ...] = (fold_constants, Decompose(keep, "decompose_domains", somehow, domains=True))
    decompose = Decompose(keep, compiles=somehow)
    passes = (
        dissolve_objects,
        *written,
        *BOUND,
        feature_maps,
        *wanted,
        decompose,
        *BOUND,
        Widen(compiles),
        unchanged_states,
    )
    return (*passes, HeldGraphs(passes))


def run(
    graph: Graph,
    passes: Sequence[Pass],
    *,
    stop_after: str | int | None = None,
    disabled: Collection[str] = (),
    log: Log | None = None,
    verify: bool = False,
    on_pass: Callable[[Pass, Graph, Graph], None] | None = None,
) -> Graph:
    """The graph after the passes, in order.

    stop_after  name of the last pass to run (where it is listed twice, the first time), or how many to run
    disabled    names of passes to leave out
    verify      check the invariants before the first and after each pass (raises BrokenInvariant naming the pass)
    on_pass     called with the pass and the graph before and after it

    Raises InputError if `stop_after` is not a pass of this pipeline.
    """
    if verify:
        verify_graph(graph)
    for step in passes[: _count(passes, stop_after)]:
        if step.name in disabled:
            continue
        if isinstance(step, HeldGraphs):
            step = step.without(disabled)
        before, graph = graph, step(graph, log)
        if verify and graph is not before:
            verify_graph(graph, step.name)
        if on_pass is not None:
            on_pass(step, before, graph)
    return graph


def check_names(
    names: Collection[str], passes: Sequence[Pass], others: Collection[str] = (), kind: str = "parts of the backend"
) -> None:
    """Raises InputError for a name that none of the passes has, nor one of `others`, which are of a `kind`."""
    groups = {"passes": list(dict.fromkeys(p.name for p in passes)), kind: list(others)}
    known = [name for group in groups.values() for name in group]
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, 1)
            guess = f"did you mean '{close[0]}'? " if close else ""
            listed = "; ".join(f"{kind}: {', '.join(group)}" for kind, group in groups.items() if group)
            raise InputError(f"no pass is named '{name}', nor any of the {kind}", hint=f"{guess}{listed}")


def _count(passes: Sequence[Pass], stop_after: str | int | None) -> int:
    if stop_after is None:
        return len(passes)
    if isinstance(stop_after, int):
        return stop_after
    check_names([stop_after], passes)
    return [p.name for p in passes].index(stop_after) + 1
