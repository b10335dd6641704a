"""graphc explain: which kernels a model became, and why; where its memory lies; what each pass did."""

from __future__ import annotations

from typing import Any

import click

from graphc.cli.console import progress_bars, table_width
from graphc.cli.feeds import make_plan
from graphc.cli.machine import Record, json_option
from graphc.cli.options import compile_options, model_argument, open_model, plan_options
from graphc.errors import InputError
from graphc.explanation import Explanation, pending_text


@click.command()
@model_argument
@plan_options
@click.option("--why", is_flag=True, help="List every rewrite that matched and did not apply, with the reason.")
@click.option(
    "--many", "for_many", is_flag=True, help="The plan that these shapes share with others, and which those are."
)
@compile_options
@json_option
def explain(
    model: str,
    inputs: tuple[str, ...],
    shapes: tuple,
    batch: int | None,
    why: bool,
    for_many: bool,
    **settings: Any,
) -> Record:
    """Tell what MODEL became, and why.

    Its steps with kernels and algorithms, what fused and what did not, the memory plan, and what each pass did.
    """
    with progress_bars() as progress:
        compiled = open_model(model, **settings, progress=progress)
        try:
            plan = make_plan(compiled, inputs, dict(shapes), batch, for_many)
        except InputError as error:
            if inputs or not (compiled.valued or any(spec.content for spec in compiled.inputs)):
                raise
            click.echo(f"{compiled.name}: {error}\n")
            later = compiled.outlook()
            click.echo(pending_text(later, table_width()))
            return {"name": compiled.name, "plan": None, "pending": later}
    said = Explanation(compiled.name, plan, for_many, all(spec.is_static for spec in compiled.inputs))
    click.echo(said.text(table_width(), why))
    return {"name": compiled.name, "plan": plan.to_json(), "pending": plan.pending}
