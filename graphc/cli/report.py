"""graphc report: one page that shows a model, its plan and where its time goes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from graphc.cli.bench import time_runs
from graphc.cli.check import hosted_nodes
from graphc.cli.console import many, progress_bars, seconds
from graphc.cli.described import described
from graphc.cli.excerpt import shown
from graphc.cli.exits import MODEL
from graphc.cli.feeds import input_files, make_feeds, make_plan, plan_of
from graphc.cli.layers import bound_to, short_type
from graphc.cli.machine import Failed, Record, json_option
from graphc.cli.options import compile_options, feed_options, model_argument, open_backend, open_model
from graphc.cli.output import OutputFile, refuse_inputs, write_file
from graphc.errors import CheckError, GraphcError, InputError, LoadError, TypeRuleError, UnsupportedError, of_readings
from graphc.types import numbers

if TYPE_CHECKING:
    from graphc.cli.page import Findings
    from graphc.cli.preparation import Preparation
    from graphc.graph import Graph
    from graphc.model import Model
    from graphc.report import Plan


@click.command()
@model_argument
@click.option(
    "-o", "--output", "out", type=OutputFile(".html", ".htm"), help="The page.  [default: MODEL's name and .html, here]"
)
@click.option("--no-time", is_flag=True, help="Without running the model: no times, no roofline.")
@click.option("--rounds", type=click.IntRange(min=1), default=10, show_default=True, help="Runs to time.")
@feed_options
@compile_options
@json_option
def report(
    model: str,
    out: Path | None,
    no_time: bool,
    rounds: int,
    inputs: tuple[str, ...],
    shapes: tuple,
    batch: int | None,
    seed: int,
    cast: bool,
    how: Preparation,
    **settings: Any,
) -> Record:
    """Write a page about MODEL that a browser opens without a network.

    Its graph, the kernels that it became and why, where the time goes against the machine's limits, the memory plan, problems,
    and what runs on the host. Of a model with problems the page has these alone.
    """
    from graphc.cli.page import Findings, content, document

    out = out or OutputFile(".html").convert(f"{Path(model).stem}.html", None, click.get_current_context())
    refuse_inputs([out], (model, *input_files(inputs)))
    given: dict[str, Any] = {"shapes": dict(shapes), "batch": batch}
    problems: list[GraphcError] = []
    try:
        with progress_bars() as progress:
            compiled = open_model(model, **settings, progress=progress)
            refuse_inputs([out], compiled.files)
            if no_time:
                found = _planned(compiled, inputs, **given)
            else:
                prepared = described(how, compiled.described, model)
                feeds = make_feeds(compiled.inputs, inputs, seed=seed, cast=cast, how=prepared, **given)
                found = _timed(compiled, feeds, rounds, settings)
    except GraphcError as error:
        if not _of_file(error):
            raise
        problems = of_readings([error])
        found = Findings(Path(model).name, problems=[shown(problem) for problem in problems])
    page = document(content(found)).encode()
    write_file(out, lambda f: f.write(page))
    click.echo(f"wrote {out}: {_said(found)}, {len(page) / 2**20:.1f} MiB")
    record: Record = {
        "name": found.title,
        "written": out,
        "nodes": None if found.graph is None else len(found.graph.nodes),
        "steps": None if found.plan is None else len(found.plan.steps),
        "seconds": found.whole,
        "problems": problems,
        "warnings": found.warnings,
    }
    if problems:
        for problem in found.problems:
            click.echo(f"- {problem}")
        raise Failed(MODEL, record, f"{model}: {many(len(problems), 'problem')}")
    return record


def _of_file(error: GraphcError) -> bool:
    """Is it a problem of the file, and not of the command line, the inputs or the machine?"""
    return isinstance(error, (LoadError, TypeRuleError, CheckError)) or error.source is not None


def _said(found: Findings) -> str:
    if found.graph is None:
        return many(len(found.problems), "problem")
    steps = "" if found.plan is None else f", {many(len(found.plan.steps), 'step')}"
    time = "" if found.whole is None else f", {seconds(found.whole)} a run"
    return f"{many(len(found.graph.nodes), 'node')}{steps}{time}"


def _planned(compiled: Model, inputs: tuple[str, ...], shapes: dict[str, Any], batch: int | None) -> Findings:
    """Without running it; of a model whose plan depends on inputs that nobody gave, what is known before."""
    from graphc.cli.page import Findings

    try:
        plan = make_plan(compiled, inputs, shapes, batch)
    except InputError as error:
        if inputs or shapes or batch or not (compiled.valued or any(spec.content for spec in compiled.inputs)):
            raise
        found = Findings(compiled.name, _facts(compiled, None), compiled.source_graph, pending=compiled.outlook())
        return replace(found, warnings=[*_warnings(compiled, None), str(error)])
    return _findings(compiled, plan)


def _timed(compiled: Model, feeds: dict[str, Any], rounds: int, settings: dict[str, Any]) -> Findings:
    """As a whole and step by step, as far as the target and the model have it; a warning says what there is not."""
    plan = plan_of(compiled, feeds)
    try:
        plan.require_times()
    except UnsupportedError as error:
        return _with_warning(_findings(compiled, plan), f"without times: {error.message}")
    times = time_runs(partial(compiled.run, feeds), rounds)
    plan = plan_of(compiled, feeds)  # now with what follows from data
    found = replace(_findings(compiled, plan), whole=float(np.median(times)))
    try:
        spent = plan.profile(feeds, rounds)
    except UnsupportedError as error:
        return _with_warning(found, f"steps have no times: {error.message}")
    return replace(found, spent=spent, limits=open_backend(**settings).roofline())


def _with_warning(found: Findings, text: str) -> Findings:
    click.echo(f"warning: {text}", err=True)
    return replace(found, warnings=[*found.warnings, text])


def _findings(compiled: Model, plan: Plan) -> Findings:
    from graphc.cli.page import Findings

    return Findings(
        compiled.name,
        _facts(compiled, plan),
        _bound(compiled, plan),
        plan,
        warnings=_warnings(compiled, plan),
        hosted=hosted_nodes(plan),
        pending=plan.pending,
    )


def _bound(compiled: Model, plan: Plan) -> Graph:
    """The graph of the sizes that were planned."""
    own = {spec.name for spec in compiled.inputs if spec.content is None}  # the others were taken apart
    graph = compiled.source_graph
    if not all(v.name in own and v.name in plan.shapes for v in graph.inputs):
        return graph
    return bound_to(graph, {name: numbers(shape) for name, shape in plan.shapes.items()})


def _facts(compiled: Model, plan: Plan | None) -> list[tuple[str, str]]:
    graph = compiled.source_graph if plan is None else _bound(compiled, plan)
    facts = [("file", str(compiled.files[0]))] if compiled.files else []
    if plan is not None:
        facts.append(("target", f"{plan.target}, {many(plan.threads, 'thread')}"))
    facts.append(("nodes", str(len(graph.nodes))))
    facts.append(("inputs", ", ".join(f"{v.name} {short_type(v.type)}" for v in graph.inputs)))
    results = zip(graph.output_names, graph.outputs)
    facts.append(("results", ", ".join(f"{name} {short_type(v.type)}" for name, v in results)))
    return facts


def _warnings(compiled: Model, plan: Plan | None) -> list[str]:
    from graphc.passes.held_graphs import HeldGraphs

    found = [shown(warning) for warning in compiled.source_graph.meta.get("warnings", ())]
    if plan is not None:
        found += [note for done in plan.passes if done.name == HeldGraphs.name for note in done.notes]
    return list(dict.fromkeys(found))
