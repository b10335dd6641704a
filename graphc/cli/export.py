"""graphc export: any model that graphc reads, as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphc.cli.machine import Record, json_option
from graphc.cli.options import model_argument, say_net
from graphc.cli.output import OutputFile, refuse_inputs, write_file
from graphc.errors import GraphcError, UnsupportedError
from graphc.report import format_bytes

if TYPE_CHECKING:
    import numpy as np

    from graphc.graph import Graph
    from graphc.reading import Reading

MAX_BYTES = 2**31 - 2**20  # of a protobuf message, less what is not weights


@click.command()
@model_argument
@click.argument("out", type=OutputFile(".onnx"))
@json_option
def export(model: str, reading: Reading, out: Path) -> Record:
    """Write MODEL as the ONNX file OUT."""
    from graphc import frontends, source_files
    from graphc.frontends.onnx_export import to_onnx

    refuse_inputs([out], [model])
    with source_files.Files(mapped=False).reading() as read:
        graph = frontends.load(model, reading)
        say_net(graph.meta.get("nets", ()), reading)
        open_graph, defaults = _with_optional_inputs(model, graph)
    refuse_inputs([out], read.paths)
    require_one_file(sum(v.data.nbytes for v in graph.constants()))
    made = to_onnx(graph) if open_graph is None else to_onnx(open_graph, defaults)
    data = made.SerializeToString()
    write_file(out, lambda f: f.write(data))
    click.echo(f"wrote {out}, {format_bytes(len(data))}")
    renamed = {a: o.name for a, o in zip(graph.output_names, made.graph.output) if a != o.name}
    for name, written in renamed.items():
        click.echo(f"result '{name}' is '{written}' there: in ONNX no result has the name of an input")
    return {"written": out, "bytes": len(data), "renamed": renamed}


def require_one_file(size: int) -> None:
    """Raises UnsupportedError where weights of so many bytes are more than an ONNX file holds."""
    if size > MAX_BYTES:
        raise UnsupportedError(f"its weights have {format_bytes(size)}, an ONNX file holds {format_bytes(MAX_BYTES)}")


def _with_optional_inputs(model: str, graph: Graph) -> tuple[Graph | None, dict[str, np.ndarray]]:
    """MODEL with inputs in the place of the constants that are their defaults, and those; None where there are none, or where
    graphc can't do without their values."""
    from graphc import frontends
    from graphc.reading import Reading

    optional = {spec.name for spec in graph.meta.get("optional", ())}
    defaults = {v.name: v.data for v in graph.constants() if v.name in optional}
    if not defaults:
        return None, {}
    try:
        read = frontends.load(model, Reading(given=frozenset(defaults)))
    except GraphcError:
        return None, {}
    typed = all(v.type is not None for v in (*read.inputs, *read.values()))
    return (read, defaults) if typed and not read.meta["partial"] else (None, {})
