"""graphc explain: which kernels a model became, and why; where its memory lies; what each pass did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from graphc.cli.console import count, many, print_table, progress_bars, seconds
from graphc.cli.feeds import make_plan
from graphc.cli.machine import Record, json_option
from graphc.cli.options import compile_options, model_argument, open_model, plan_options
from graphc.errors import InputError
from graphc.lower.memory import ArenaPlan, Lifetime, draw
from graphc.report import folded, format_bytes

if TYPE_CHECKING:
    from graphc.report import Pending, Plan, StepInfo


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
            _pending(later)
            return {"model": compiled.name, "plan": None, "pending": later}
    sizes = ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in plan.shapes.items())
    click.echo(f"{compiled.name} for {plan.target}, {many(plan.threads, 'thread')}, {sizes}")
    record = {"model": compiled.name, "plan": plan.to_json(), "pending": plan.pending}
    if settings["target"] == "reference":
        click.echo("nothing is fused or planned: NumPy computes what the passes left, node by node")
        _passes(plan, why)
        return record
    if not all(spec.is_static for spec in compiled.inputs):
        _guards(plan, for_many)
    _steps(plan)
    if plan.pending:
        click.echo(
            f"behind them {many(len(plan.pending), 'node')}, planned when the model runs, for each shape that turns up"
        )
        _pending(plan.pending)
    _fusion(plan)
    _memory(plan)
    _passes(plan, why)
    return record


def _guards(plan: Plan, for_many: bool) -> None:
    """Which sizes the plan serves."""
    if plan.guards is None:
        why = "; ".join(plan.because) if for_many else "--many tells which others would share a plan with them"
        click.echo(f"for these shapes alone: {why}")
    else:
        click.echo("one plan for all sizes of which this is true:")
        click.echo("\n".join(f"  {guard}" for guard in plan.guards))


def _steps(plan: Plan) -> None:
    kernels = len({step.kernel for step in plan.steps if not step.host})
    print_table(
        (">step", "nodes", "kernel", "algorithm", "type", "because", ">flop", ">bytes"),
        [row for step in folded(plan.steps) for row in _rows(step)],
        title=f"\n{many(len(plan.steps), 'step')}, {many(kernels, 'kernel')}",
    )


def _rows(step: StepInfo) -> Iterator[tuple]:
    """A step, and the steps that it runs itself."""
    kernel = "host (NumPy)" if step.host else step.kernel
    yield (
        step.index,
        step.label,
        kernel,
        step.algorithm,
        step.type,
        step.reason,
        count(step.flops),
        format_bytes(step.nbytes),
    )
    for label, kernel, algorithm, reason, flops in step.inside:
        yield "", f"  {label}", kernel, algorithm, "", reason, count(flops), ""


def _pending(nodes: Sequence[Pending]) -> None:
    print_table(
        ("node", "operator", "result", "runs", "because"),
        [(n.node, n.op, n.result, "on the host (NumPy)" if n.host else "compiled", n.reason) for n in nodes],
    )


def _fusion(plan: Plan) -> None:
    fused = sum(note.applied for note in plan.notes)
    refused = [note for note in plan.notes if not note.applied]
    click.echo(f"fusion: {fused} nodes went into the kernel of a neighbour, {len(refused)} did not")
    if refused:
        print_table(("node", "not fused because"), [(note.node, note.reason) for note in refused])


def _memory(plan: Plan) -> None:
    memory = plan.memory
    buffers = [Lifetime(i.name, i.nbytes, i.first, i.last) for i in memory.intervals]
    offsets = tuple(i.offset for i in memory.intervals)
    click.echo(f"\nmemory: weights {memory.about_weights}; ", nl=False)
    click.echo(draw(buffers, ArenaPlan(offsets, memory.arena, memory.lower_bound, memory.total)), nl=False)


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
