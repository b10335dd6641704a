"""graphc show: the layer table of a model, or its picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphc.cli.console import count, many, print_table
from graphc.cli.feeds import load_graph, make_plan, resolve_shapes
from graphc.cli.layers import bound_to, layers, of_one, results, weights_of
from graphc.cli.machine import Record, json_option
from graphc.cli.options import model_argument, open_model, shape_options
from graphc.cli.output import OutputFile, refuse_inputs, write_file
from graphc.errors import InputError, Location
from graphc.graph import Graph

if TYPE_CHECKING:
    from graphc.dims import Dim
    from graphc.reading import Reading


@click.command()
@model_argument
@shape_options
@click.option("--weights", is_flag=True, help="List the weights instead: names, types, and where they come from.")
@click.option("--graph", "out", type=OutputFile(".svg", ".png"), help="Draw the network to this file instead.")
@click.option(
    "--fold",
    type=click.Choice(["auto", "all", "none"]),
    default="auto",
    show_default=True,
    help="Of a picture: auto draws once what repeats, and makes inner blocks boxes until it is readable; all makes every "
    "block a box; none draws every operator.",
)
@click.option("--fused", is_flag=True, help="Of a picture: frames are the CPU's kernels, not blocks.")
@json_option
def show(
    model: str,
    reading: Reading,
    shapes: tuple,
    batch: int | None,
    weights: bool,
    out: Path | None,
    fold: str,
    fused: bool,
) -> Record:
    """Print the layer table of MODEL, list its weights, or draw it.

    Where each layer reads, its output, parameters and multiply-adds (MACs), and their totals; of several results also
    what leads to each of them.
    """
    if weights and out is not None:
        raise click.UsageError("--weights lists, --graph draws: one of the two")
    if out is None and (fused or fold != "auto"):
        raise click.UsageError("--fold and --fused are of a picture: --graph FILE.svg")
    if fused and fold != "auto":
        raise click.UsageError("--fused draws kernels, and folds no blocks: leave --fold away")
    if out is not None:
        return _draw(model, reading, shapes, batch, out, fold, fused)
    if weights:
        return _show_weights(load_graph(model, dict(shapes), replace(reading, fitting=False)))
    graph = load_graph(model, dict(shapes), reading)
    sizes: Mapping[str, tuple[Dim, ...]]
    missing = ""
    try:
        sizes = resolve_shapes(graph.inputs, dict(shapes), batch)
    except InputError as error:
        if shapes or batch:
            raise
        sizes, missing = of_one(graph.inputs), error.hint or ""
    rows = layers(graph, sizes)
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
    given = ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in sizes.items())
    if macs is not None:
        text += f", {macs:,} MACs ({count(macs)}) for {given}"
    else:
        open_ = many(len(rows) - len(known), "layer")
        text += f", {sum(known):,} MACs and those of {open_} whose shapes "
        text += f"are open ({given}); {missing}" if missing else "follow from data"
    click.echo(text)
    found = results(graph, rows)
    if len(found) == 1:
        click.echo(f"output: {found[0].name} {found[0].type}")
    else:
        print_table(
            ("result", "type", ">layers", ">parameters", ">MACs"),
            [(r.name, r.type, r.layers, _number(r.parameters), _number(r.macs)) for r in found],
        )
    return {
        "name": graph.name,
        "inputs": [{"name": v.name, "type": str(v.type)} for v in graph.inputs],
        "shapes": sizes,
        "layers": rows,
        "parameters": parameters,
        "statistics": statistics,
        "macs": macs,
        "results": found,
    }


def _number(n: int | None) -> str:
    """Nothing for 0, '?' for what is not known."""
    return "?" if n is None else f"{n:,}" if n else ""


def _draw(model: str, reading: Reading, shapes: tuple, batch: int | None, out: Path, fold: str, fused: bool) -> Record:
    from graphc import draw

    refuse_inputs([out], [model])
    sizes = dict(shapes)
    if fused:
        compiled = open_model(model, reading=reading)
        plan, graph = make_plan(compiled, (), sizes, batch), compiled.source_graph
    else:
        graph = load_graph(model, sizes, reading)
    if sizes or batch:
        graph = bound_to(graph, resolve_shapes(graph.inputs, sizes, batch))
    picture = draw.picture_of_kernels(graph, plan) if fused else draw.picture(graph, fold)
    text = draw.svg(picture)
    data = draw.png_of(text) if out.suffix.lower() == ".png" else text.encode()
    write_file(out, lambda f: f.write(data))
    click.echo(f"wrote {out}, {len(picture.boxes)} boxes")
    return {"name": graph.name, "written": out, "boxes": len(picture.boxes)}


def _show_weights(graph: Graph) -> Record:
    """By the names that files of weights have: of a YAML model with the lines of their steps, of others the initializers."""
    known = graph.meta.get("weights")
    if known is None:
        listed = [{"name": v.name, "type": str(v.type)} for v in weights_of(graph)]
        print_table(("name", "type"), [(w["name"], w["type"]) for w in listed], title=graph.name)
        unused = {}
    else:
        listed = [{"name": w.name, "type": str(w.type), "step": w.source.place, "from": w.origin} for w in known]
        own = Path(graph.meta["file"])
        rows = [(w.name, str(w.type), _place(w.source, own), w.origin) for w in known]
        print_table(("name", "type", "step", "from"), rows, title=graph.name)
        if unused := graph.meta["unused_arrays"]:
            shapes = [(name, str(list(shape))) for name, shape in unused.items()]
            click.echo("arrays of the file that nothing uses:")
            print_table(("name", "shape"), shapes)
        if misfits := graph.meta["misfits"]:
            click.echo(f"{many(len(misfits), 'problem')} with these weights: graphc check {graph.meta['file']}")
    return {"name": graph.name, "weights": listed, "unused": unused}


def _place(source: Location, own: Path) -> str:
    """Of a step; with the name of its file where that is another than the model's."""
    line = (source.place or "").partition(",")[0]
    if source.file is None or Path(source.file) == own:
        return line
    return f"{Path(source.file).name}:{line.removeprefix('line ')}"
