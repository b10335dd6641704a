"""graphc check: every problem of a file at once, before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import click

from graphc.cli.console import many, progress_bars
from graphc.cli.excerpt import shown
from graphc.cli.exits import MODEL
from graphc.cli.feeds import make_plan
from graphc.cli.layers import short_type
from graphc.cli.machine import Failed, Record, json_option
from graphc.cli.options import compile_options, model_argument, open_backend, open_model, plan_options
from graphc.cli.passes import types_after
from graphc.dims import UNKNOWN
from graphc.errors import CheckError, GraphcError, InputError, NoNetError, of_readings
from graphc.source_files import Files
from graphc.types import TensorType, numbers

if TYPE_CHECKING:
    from graphc.graph import Graph
    from graphc.model import Model
    from graphc.reading import Reading
    from graphc.report import Pending, Plan
    from graphc.signature import Spec

MAX_WARNINGS = 50


@click.command()
@model_argument
@plan_options
@compile_options
@json_option
def check(
    model: str, reading: Reading, inputs: tuple[str, ...], shapes: tuple, batch: int | None, **settings: Any
) -> Record:
    """List every problem of MODEL at once, in all of its nets.

    Where there is none: what nothing uses, and branches that are an error to take (warnings), how many steps it becomes, what was measured, and which operators run on the
    host. MODEL may also be a file of blocks for others to include.
    """
    from graphc import frontends

    names = frontends.nets(model) if reading.net is None else ()
    readings = [replace(reading, net=name) for name in names] or [reading]
    graphs: list[Graph] = []
    errors: list[GraphcError] = []
    with Files().reading():  # large weights are mapped
        for one in readings:
            try:
                graphs.append(frontends.load(model, one))
            except NoNetError as error:
                click.echo(f"{model}: no problems; it {error.message}")
                return {"problems": [], "warnings": [], "nets": []}
            except GraphcError as error:
                errors.append(error)
    if errors:
        _stop_with(model, of_readings(errors))
    warnings = [*{str(w): w for graph in graphs for w in graph.meta.get("warnings", ())}.values()]
    _warn(warnings)
    found = []
    for one, graph in zip(readings, graphs):
        title = f"{model}, net {one.net}" if graph.meta.get("nets") else model
        told = _tell(title, model, one, graph, inputs, dict(shapes), batch, settings)
        found.append({"net": one.net if graph.meta.get("nets") else None, "nodes": len(graph.nodes), **told})
    return {"problems": [], "warnings": warnings, "nets": found}


def _tell(
    title: str,
    model: str,
    reading: Reading,
    graph: Graph,
    inputs: tuple[str, ...],
    shapes: dict[str, Any],
    batch: int | None,
    settings: dict[str, Any],
) -> Record:
    """Say what becomes of a model without problems."""
    from graphc.passes.held_graphs import HeldGraphs

    with progress_bars() as progress:
        compiled = open_model(model, reading=reading, **settings, progress=progress)
        try:
            plan = make_plan(compiled, inputs, shapes, batch)
        except InputError as error:
            if shapes or batch or inputs:
                raise
            click.echo(
                f"{title}: no problems, {many(len(graph.nodes), 'node')}; what runs where depends on the inputs: {error}"
            )
            later = compiled.outlook()
            _list([*_inputs(compiled.inputs, {}), *_later(later)])
            return _record(compiled, None, {s.name: s.type for s in compiled.outputs}, later)
        except CheckError as error:
            _stop_with(title, error.problems)
    _list([f"warning: {note}" for done in plan.passes if done.name == HeldGraphs.name for note in done.notes])
    click.echo(f"{title}: no problems, {many(len(graph.nodes), 'node')}, {many(len(plan.steps), 'step')}")
    own = {spec.name for spec in compiled.inputs if spec.content is None}  # the others were taken apart
    given = {name: numbers(d) for name, d in plan.shapes.items() if name in own}
    _list(_inputs(compiled.inputs, given, assumed=not (shapes or inputs or batch)))
    types = compiled.result_types(given)
    if None in types.values() and not plan.pending:
        types = types_after(compiled.source_graph, open_backend(**settings), settings["disable"], given)
    click.echo(f"results: {', '.join(f'{_quoted(name)} {_result(t)}' for name, t in types.items())}")
    hosted = hosted_nodes(plan)
    measured = [
        f"  {s.label}: {s.algorithm}; {s.reason}" for s in plan.steps if settings["tune"] and "measured" in s.reason
    ]
    if measured:
        _list(["chosen by measuring:", *measured])
    if hosted:
        _list(["on the host, in NumPy:", *(f"  {line}" for line in hosted)])
    if plan.pending:
        click.echo(
            f"behind them {many(len(plan.pending), 'node')}, planned when the model runs, for each shape that turns up:"
        )
        _list(_later(plan.pending))
    return _record(compiled, plan, types, plan.pending)


def _record(
    compiled: Model, plan: Plan | None, types: Mapping[str, TensorType | None], pending: Sequence[Pending]
) -> Record:
    """plan: None where it depends on the inputs' values. A result has no type where only running the model tells it."""
    hosted = [{"node": s.nodes[0], "op": s.ops[0], "reason": s.reason} for s in plan.steps if s.host] if plan else []
    return {
        "inputs": [{"name": s.name, "type": str(s).removeprefix(f"{s.name}: ")} for s in compiled.inputs],
        "shapes": plan.shapes if plan else {},
        "results": [{"name": name, "type": None if t is None else str(t)} for name, t in types.items()],
        "steps": len(plan.steps) if plan else None,
        "host": hosted + [{"node": n.node, "op": n.op, "reason": n.reason} for n in pending if n.host],
        "pending": len(pending),
    }


def _inputs(specs: Sequence[Spec], given: Mapping[str, Sequence[int]], assumed: bool = False) -> list[str]:
    """Names and types of the inputs, and the sizes that open dims have. assumed: nobody has said any."""
    sizes = {
        dim if dim != str(UNKNOWN) else f"the first of {spec.name}": size
        for spec in specs
        for dim, size in zip(spec.shape or (), given.get(spec.name, ()))
        if isinstance(dim, str)
    }
    lines = [f"inputs: {', '.join(map(_input, specs))}"] if specs else []
    if not sizes:
        return lines
    others = " is assumed: --batch, --shape or --size say others" if assumed else ""
    return [*lines, f"  {', '.join(f'{dim} = {size}' for dim, size in sizes.items())}{others}"]


def _input(spec: Spec) -> str:
    return f"{_quoted(spec.name)} {str(spec).removeprefix(f'{spec.name}: ')}"


def _result(t: TensorType | None) -> str:
    return "of a shape that only running the model tells" if t is None else short_type(t)


def _quoted(name: str) -> str:
    """A name that might be taken for something else in quotes."""
    return name if name.isidentifier() else f"'{name}'"


def _stop_with(model: str, problems: Sequence[GraphcError]) -> NoReturn:
    for problem in problems:
        click.echo(f"- {shown(problem)}")
    record = {"problems": problems, "warnings": [], "nets": []}
    raise Failed(MODEL, record, f"{model}: {many(len(problems), 'problem')}")


def _warn(warnings: Sequence[GraphcError]) -> None:
    for warning in warnings[:MAX_WARNINGS]:
        click.echo(f"warning: {shown(warning)}")
    if len(warnings) > MAX_WARNINGS:
        click.echo(f"… and {len(warnings) - MAX_WARNINGS} more warnings of this kind")


def _list(lines: Sequence[str]) -> None:
    for line in lines:
        click.echo(line)


def hosted_nodes(plan: Plan) -> list[str]:
    """'Operator × times, reason: nodes' of what runs on the host."""
    return _grouped((step.ops[0], step.reason, step.nodes[0]) for step in plan.steps if step.host)


def _later(pending: Sequence[Pending]) -> list[str]:
    """What will be compiled, by operator, and what will run on the host."""
    counts = Counter(n.op for n in pending if not n.host)
    ops = ", ".join(f"{op} × {k}" if k > 1 else op for op, k in counts.items())
    lines = [f"  compiled: {ops}"] if ops else []
    hosted = _grouped((n.op, n.reason, n.node) for n in pending if n.host)
    return lines + (["  on the host, in NumPy:", *(f"    {line}" for line in hosted)] if hosted else [])


def _grouped(nodes: Iterable[tuple[str, str, str]]) -> list[str]:
    found: dict[tuple[str, str], list[str]] = {}
    for op, reason, name in nodes:
        found.setdefault((op, reason), []).append(name)
    return [f"{op} × {len(names)}, {_of(op, reason)}{_listed(op, names)}" for (op, reason), names in found.items()]


def _of(op: str, reason: str) -> str:
    """A reason, which need not name the operator again."""
    return reason.removeprefix(f"{op} ")


def _listed(op: str, names: Sequence[str]) -> str:
    """Nodes by name, where that tells more than the operator does."""
    return "" if names == [op.rpartition("::")[2]] else f": {', '.join(names)}"
