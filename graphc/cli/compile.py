"""graphc compile: fill the kernel cache, or show the graph after a pass."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import click

from graphc.cli.completion import stage_names
from graphc.cli.console import many, progress_bars, seconds
from graphc.cli.feeds import load_graph, make_plan, resolve_shapes
from graphc.cli.machine import Record, json_option
from graphc.cli.options import compile_options, model_argument, open_backend, open_model, plan_options
from graphc.cli.passes import shown_after
from graphc.report import format_bytes


@click.command("compile")
@model_argument
@plan_options
@click.option(
    "--stop-after",
    metavar="NAME",
    shell_complete=stage_names,
    help="Print what there is after this pass ('bound:PASS': its second turn, with known shapes) or stage of the target.",
)
@compile_options
@json_option
def compile_(
    model: str, inputs: tuple[str, ...], shapes: tuple, batch: int | None, stop_after: str | None, **settings: Any
) -> Record:
    """Compile MODEL ahead of time.

    Its next start finds every kernel on disk.
    """
    if stop_after is not None:
        graph = load_graph(model, dict(shapes), settings["reading"])
        resolve = partial(resolve_shapes, graph.inputs, dict(shapes), batch)
        if shapes or batch:
            resolve()  # what is given must fit, whether the pass needs shapes or not
        text = shown_after(graph, stop_after, open_backend(**settings), settings["disable"], resolve)
        click.echo(text)
        return {"stage": stop_after, "text": text}
    start = time.perf_counter()
    with progress_bars() as progress:
        compiled = open_model(model, **settings, progress=progress)
        plan = make_plan(compiled, inputs, dict(shapes), batch)
    took, nodes = time.perf_counter() - start, len(compiled.source_graph.nodes)
    kernels = len({step.kernel for step in plan.steps if not step.host})
    later = (
        f"; what follows from data, {many(len(plan.pending), 'node')}, is planned when the model runs"
        if plan.pending
        else ""
    )
    click.echo(
        f"{compiled.name}: {many(nodes, 'node')} in {many(len(plan.steps), 'step')} and "
        f"{many(kernels, 'kernel')}, "
        f"weights {format_bytes(plan.memory.weights)}, arena {format_bytes(plan.memory.arena)}, "
        f"{seconds(took)}{later}"
    )
    return {
        "target": plan.target,
        "threads": plan.threads,
        "shapes": plan.shapes,
        "nodes": nodes,
        "steps": len(plan.steps),
        "kernels": kernels,
        "pending": len(plan.pending),
        "weights_bytes": plan.memory.weights,
        "arena_bytes": plan.memory.arena,
        "seconds": took,
    }
