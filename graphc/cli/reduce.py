"""graphc reduce: the smallest part of a failing model that still fails."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphc.cli.described import described
from graphc.cli.feeds import input_files, load_graph, make_feeds
from graphc.cli.machine import Record, json_option
from graphc.cli.options import Tolerance, compile_arguments, compile_options, feed_options, model_argument
from graphc.cli.output import OutputFile, refuse_inputs, write_file
from graphc.cli.results import save_arrays
from graphc.objects import tensors_of

if TYPE_CHECKING:
    from graphc.cli.preparation import Preparation
    from graphc.reduce import Reduced


@click.command()
@model_argument
@click.argument("out", type=OutputFile(".onnx"))
@feed_options
@click.option(
    "--against",
    type=click.Choice(["reference", "onnxruntime"]),
    default="reference",
    show_default=True,
    help="What it differs from.",
)
@click.option("--tolerance", type=Tolerance(min=0), default=1e-4, show_default=True, help="Largest error, over the result's scale.")  # fmt: skip
@click.option("--seconds", type=click.IntRange(min=1), default=600, show_default=True, help="Look no longer than this.")
@click.option("--hang", type=click.IntRange(min=1), default=120, show_default=True, help="Seconds after which a run hangs.")  # fmt: skip
@compile_options
@json_option
def reduce(
    model: str,
    out: Path,
    inputs: tuple[str, ...],
    shapes: tuple,
    batch: int | None,
    seed: int,
    cast: bool,
    against: str,
    tolerance: float,
    seconds: int,
    hang: int,
    how: Preparation,
    **settings: Any,
) -> Record:
    """Cut a failing MODEL to the smallest one that still fails, OUT, and its inputs, OUT's name with .npz.

    It fails where a result differs, compiling or running it ends with an error, or its process crashes or hangs. Each try runs in a
    process of its own.
    """
    from graphc.reduce import Case, Trial
    from graphc.reduce import reduce as search

    arrays = out.with_suffix(".npz")
    refuse_inputs([out, arrays], (model, *input_files(inputs)))
    graph = load_graph(model, dict(shapes), settings.pop("reading"))
    feeds = make_feeds(
        graph.inputs,
        inputs,
        dict(shapes),
        batch,
        seed,
        cast,
        described(how, graph.meta.get("described", {}), model),
    )
    trial = Trial(compile_arguments(**settings), against, tolerance, limit=float(hang))
    found = search(Case(graph, feeds), trial, seconds=seconds, say=partial(click.echo, err=True))
    _write(found, out, arrays)
    click.echo(f"{found.verdict.kind}: {found.verdict.text}")
    click.echo(f"wrote {out}, {found.case}, and {arrays}, its inputs, after {found.tried} tries")
    for node in found.case.graph.nodes:
        click.echo(f"  {node}")
    nodes = [{"name": node.name, "op": node.op.name} for node in found.case.graph.nodes]
    told = {"kind": found.verdict.kind, "what": found.verdict.text, "tried": found.tried}
    return {"name": graph.name, "written": out, "inputs": arrays, **told, "nodes": nodes}


def _write(found: Reduced, out: Path, arrays: Path) -> None:
    from graphc.frontends.onnx_export import to_onnx
    from graphc.reduce.reducer import own_domains

    graph = found.case.graph
    data = to_onnx(graph, domains=own_domains(graph)).SerializeToString()
    feeds = {key: a for name, value in found.case.feeds.items() for key, a in tensors_of(name, value).items()}
    write_file(out, lambda f: f.write(data))
    write_file(arrays, partial(save_arrays, feeds))
