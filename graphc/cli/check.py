"""graphc check: every problem of a file at once, before anything runs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from graphc.cli.console import progress_bars, stop
from graphc.cli.feeds import resolve_shapes
from graphc.cli.options import compile_options, model_argument, open_model, shape_options
from graphc.errors import InputError


@click.command()
@model_argument
@shape_options
@compile_options
def check(model: str, shapes: tuple, batch: int | None, **settings: Any) -> None:
    """List every problem of MODEL at once.

    Where there is none: how many steps it becomes, and which operators run on the host.
    """
    import frontends

    problems = frontends.check(model)
    if problems:
        for problem in problems:
            click.echo(f"- {problem}")
        stop(2, f"{model}: {len(problems)} problem{'s' * (len(problems) > 1)}")
    with progress_bars() as progress:
        compiled = open_model(model, **settings, progress=progress)
        try:
            plan = compiled.plan(resolve_shapes(compiled.inputs, dict(shapes), batch))
        except InputError as error:
            stop(2, f"{model}: no problem in the file; to see what runs where, its shapes must be known\n{error}")
    click.echo(f"{model}: no problems, {len(compiled.source_graph.nodes)} nodes, {len(plan.steps)} steps")
    hosted = [step for step in plan.steps if step.host]
    if hosted:
        click.echo("runs on the host, through NumPy, because no kernel serves it:")
        for op, times in Counter(step.ops[0] for step in hosted).most_common():
            names = ", ".join(step.nodes[0] for step in hosted if step.ops[0] == op)
            click.echo(f"  {op} × {times}: {names}")
