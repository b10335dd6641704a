"""graphc explain: which kernels a model became, and why; where its memory lies; what each pass did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from graphc.cli.console import count, print_table, progress_bars, seconds
from graphc.cli.feeds import resolve_shapes
from graphc.cli.options import compile_options, model_argument, open_model, shape_options
from graphc.memory import Arena, Buffer, draw, format_bytes

if TYPE_CHECKING:
    from graphc.report import Plan, StepInfo


@click.command()
@model_argument
@shape_options
@click.option("--why", is_flag=True, help="List every rewrite that matched and did not apply, with the reason.")
@compile_options
def explain(model: str, shapes: tuple, batch: int | None, why: bool, **settings: Any) -> None:
    """Tell what MODEL became, and why.

    Its steps with kernels and algorithms, what fused and what did not, the memory plan, and what each pass did.
    """
    with progress_bars() as progress:
        compiled = open_model(model, **settings, progress=progress)
        plan = compiled.plan(resolve_shapes(compiled.inputs, dict(shapes), batch))
    sizes = ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in plan.shapes.items())
    click.echo(f"{compiled.name} for {plan.target}, {plan.threads} thread{'s' * (plan.threads > 1)}, {sizes}")
    _steps(plan)
    _fusion(plan)
    _memory(plan)
    _passes(plan, why)


def _steps(plan: Plan) -> None:
    kernels = len({step.kernel for step in plan.steps if not step.host})
    print_table(
        (">step", "nodes", "kernel", "algorithm", "because", ">flop"),
        [row for step in plan.steps for row in _rows(step)],
        title=f"\n{len(plan.steps)} steps, {kernels} kernels",
    )


def _rows(step: StepInfo) -> Iterator[tuple]:
    """A step, and the steps that it runs itself."""
    kernel = "host (NumPy)" if step.host else step.kernel
    yield step.index, step.label, kernel, step.algorithm, step.reason, count(step.flops)
    for label, kernel, algorithm, reason, flops in step.inside:
        yield "", f"  {label}", kernel, algorithm, reason, count(flops)


def _fusion(plan: Plan) -> None:
    fused = sum(note.applied for note in plan.notes)
    refused = [note for note in plan.notes if not note.applied]
    click.echo(f"fusion: {fused} nodes went into the kernel of a neighbour, {len(refused)} did not")
    if refused:
        print_table(("node", "not fused because"), [(note.node, note.reason) for note in refused])


def _memory(plan: Plan) -> None:
    memory = plan.memory
    buffers = [Buffer(i.name, i.nbytes, i.first, i.last) for i in memory.intervals]
    offsets = tuple(i.offset for i in memory.intervals)
    click.echo(f"\nmemory: weights {format_bytes(memory.weights)}; ", nl=False)
    click.echo(draw(buffers, Arena(offsets, memory.arena, memory.lower_bound, memory.total)), nl=False)


def _passes(plan: Plan, why: bool) -> None:
    print_table(
        ("pass", ">nodes before", ">after", ">time"),
        [(p.name, p.before, p.after, seconds(p.seconds)) for p in plan.passes],
        title="\npasses",
    )
    notes = list(dict.fromkeys(f"{p.name}: {note}" for p in plan.passes for note in p.notes))
    if not notes:
        click.echo("every rewrite that matched has been applied")
    elif why:
        click.echo("\n".join(["rewrites that matched and did not apply:", *(f"  {note}" for note in notes)]))
    else:
        click.echo(f"{len(notes)} rewrites matched and did not apply: --why lists them")
