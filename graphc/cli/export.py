"""graphc export: any model that graphc reads, as an ONNX file."""

from __future__ import annotations

from pathlib import Path

import click

from graphc.cli.options import model_argument
from graphc.cli.output import OutputFile, refuse_inputs, write_file
from graphc.errors import UnsupportedError
from graphc.memory import format_bytes

MAX_BYTES = 2**31 - 2**20  # of a protobuf message, less what is not weights


@click.command()
@model_argument
@click.argument("out", type=OutputFile(".onnx"))
def export(model: str, out: Path) -> None:
    """Write MODEL as the ONNX file OUT."""
    from graphc import files, frontends
    from graphc.frontends.onnx_export import to_onnx

    refuse_inputs([out], [model])
    with files.Files(mapped=False).reading() as read:
        graph = frontends.load(model)
    refuse_inputs([out], read.paths)
    size = sum(v.data.nbytes for v in graph.constants())
    if size > MAX_BYTES:
        raise UnsupportedError(f"its weights have {format_bytes(size)}, an ONNX file holds {format_bytes(MAX_BYTES)}")
    data = to_onnx(graph).SerializeToString()
    write_file(out, lambda f: f.write(data))
    click.echo(f"wrote {out}, {format_bytes(len(data))}")
