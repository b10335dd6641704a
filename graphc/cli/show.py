"""graphc show: the layer table of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from graphc.cli.console import count, many, print_table
from graphc.cli.feeds import load_graph, resolve_shapes
from graphc.cli.layers import layers
from graphc.cli.options import model_argument, shape_options
from graphc.errors import InputError

if TYPE_CHECKING:
    from graphc.reading import Reading


@click.command()
@model_argument
@shape_options
def show(model: str, reading: Reading, shapes: tuple, batch: int | None) -> None:
    """Print the layer table of MODEL.

    Where each layer reads, its output, parameters and multiply-adds (MACs), and their totals.
    """
    graph = load_graph(model, dict(shapes), reading)
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
                f"{row.parameters:,}" if row.parameters else "",
                "?" if row.macs is None else (f"{row.macs:,}" if row.macs else ""),
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
    click.echo(f"outputs: {', '.join(f'{n} {v.type or chr(63)}' for n, v in zip(graph.output_names, graph.outputs))}")
