"""graphc show: the layer table of a model."""

from __future__ import annotations

from typing import Any

import click

from graphc.cli.console import count, many, print_table
from graphc.cli.feeds import load_graph, resolve_shapes
from graphc.cli.layers import layers, results
from graphc.cli.options import model_argument, shape_options
from graphc.errors import InputError


@click.command()
@model_argument
@shape_options
def show(model: str, params: dict[str, Any], shapes: tuple, batch: int | None) -> None:
    """Print the layer table of MODEL.

    Where each layer reads, its output, parameters and multiply-adds (MACs), and their totals; of several results also
    what leads to each of them.
    """
    graph = load_graph(model, dict(shapes), params)
    try:
        resolved = resolve_shapes(graph.inputs, dict(shapes), batch)
    except InputError:
        if shapes or batch:
            raise
        resolved = None  # open dims beyond the batch: shapes stay symbolic, and MACs unknown
    rows = layers(graph, resolved)
    known = [row.macs for row in rows if row.macs is not None]
    macs = sum(known) if len(known) == len(rows) else None
    parameters, statistics = sum(r.parameters for r in rows), sum(r.statistics for r in rows)
    print_table(
        (">#", "name", "op", "from", "output", ">parameters", ">MACs"),
        [
            (
                row.index,
                row.name,
                row.op,
                ", ".join(row.sources),
                ", ".join(row.outputs),
                _number(row.parameters),
                _number(row.macs),
            )
            for row in rows
        ],
        title=f"{graph.name}: {', '.join(map(repr, graph.inputs))}",
    )
    text = f"{len(rows)} layers, {parameters:,} parameters"
    if statistics:
        text += f" (and {statistics:,} batch-norm statistics)"
    if macs is None and resolved is not None:
        open_ = len(rows) - len(known)
        text += f", {sum(known):,} MACs and those of {many(open_, 'layer')} whose shapes follow from data"
    elif macs is None:
        text += "; MACs need shapes: --shape NAME=…"
    else:
        sizes = ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in (resolved or {}).items())
        text += f", {macs:,} MACs ({count(macs)}) for {sizes}"
    click.echo(text)
    if len(graph.outputs) == 1:
        click.echo(f"output: {graph.output_names[0]} {graph.outputs[0].type or '?'}")
        return
    print_table(
        ("result", "type", ">layers", ">parameters", ">MACs"),
        [(r.name, r.type, r.layers, _number(r.parameters), _number(r.macs)) for r in results(graph, rows)],
    )


def _number(n: int | None) -> str:
    """Nothing for 0, '?' for what is not known."""
    return "?" if n is None else f"{n:,}" if n else ""
