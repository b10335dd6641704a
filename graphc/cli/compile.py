"""graphc compile: fill the kernel cache, or show the graph after a pass."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import click

from graphc.cli.console import progress_bars, seconds
from graphc.cli.feeds import load_graph, resolve_shapes
from graphc.cli.options import compile_options, model_argument, open_model, shape_options
from graphc.cli.passes import graph_after
from graphc.memory import format_bytes


@click.command("compile")
@model_argument
@shape_options
@click.option(
    "--stop-after",
    metavar="PASS",
    help="Print the graph after this pass ('bound:PASS': its second turn, with known shapes).",
)
@compile_options
def compile_(model: str, shapes: tuple, batch: int | None, stop_after: str | None, **settings: Any) -> None:
    """Compile MODEL ahead of time.

    Its next start finds every kernel on disk.
    """
    if stop_after:
        graph = load_graph(model, dict(shapes))
        resolve = partial(resolve_shapes, graph.inputs, dict(shapes), batch)
        if shapes or batch:
            resolve()  # what is given must fit, whether the pass needs shapes or not
        click.echo(str(graph_after(graph, stop_after, settings["target"], settings["disable"], resolve)))
        return
    start = time.perf_counter()
    with progress_bars() as progress:
        compiled = open_model(model, **settings, progress=progress)
        plan = compiled.plan(resolve_shapes(compiled.inputs, dict(shapes), batch))
    kernels = len({step.kernel for step in plan.steps if not step.host})
    click.echo(
        f"{compiled.name}: {len(compiled.source_graph.nodes)} nodes in {len(plan.steps)} steps and {kernels} kernels, "
        f"weights {format_bytes(plan.memory.weights)}, arena {format_bytes(plan.memory.arena)}, "
        f"{seconds(time.perf_counter() - start)}"
    )
