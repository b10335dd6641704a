"""graphc check: every problem of a file at once, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from graphc.cli.console import progress_bars, stop
from graphc.cli.feeds import resolve_shapes
from graphc.cli.options import compile_options, model_argument, open_model, shape_options
from graphc.errors import GraphcError, InputError

if TYPE_CHECKING:
    from graphc.report import Plan

MAX_WARNINGS = 50


@click.command()
@model_argument
@shape_options
@compile_options
def check(model: str, shapes: tuple, batch: int | None, **settings: Any) -> None:
    """List every problem of MODEL at once.

    Where there is none: what nothing uses (warnings), how many steps it becomes, and which operators run on the host.
    """
    from graphc import frontends

    try:
        graph = frontends.load(model)
    except GraphcError as error:
        problems = getattr(error, "problems", [error])
        for problem in problems:
            click.echo(f"- {problem}")
        stop(2, f"{model}: {len(problems)} problem{'s' * (len(problems) > 1)}")
    _warn(graph.meta.get("warnings", ()))
    with progress_bars() as progress:
        compiled = open_model(model, **settings, progress=progress)
        try:
            plan = compiled.plan(resolve_shapes(compiled.inputs, dict(shapes), batch))
        except InputError as error:
            if shapes or batch:
                raise
            click.echo(f"{model}: no problems; what runs where depends on the inputs: {error}")
            return
    click.echo(f"{model}: no problems, {len(compiled.source_graph.nodes)} nodes, {len(plan.steps)} steps")
    hosted = hosted_nodes(plan)
    if hosted:
        click.echo("\n  ".join(["on the host, in NumPy:", *hosted]))


def _warn(warnings: Sequence[GraphcError]) -> None:
    for warning in warnings[:MAX_WARNINGS]:
        click.echo(f"warning: {warning}")
    if len(warnings) > MAX_WARNINGS:
        click.echo(f"… and {len(warnings) - MAX_WARNINGS} more warnings of this kind")


def hosted_nodes(plan: Plan) -> list[str]:
    """'Operator × times, reason: nodes' of what runs on the host."""
    nodes: dict[tuple[str, str], list[str]] = {}
    for step in plan.steps:
        if step.host:
            nodes.setdefault((step.ops[0], step.reason), []).append(step.nodes[0])
    return [f"{op} × {len(names)}, {reason}: {', '.join(names)}" for (op, reason), names in nodes.items()]
