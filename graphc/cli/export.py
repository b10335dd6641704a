"""graphc export: any model that graphc reads, as an ONNX file."""

from __future__ import annotations

from pathlib import Path

import click

from graphc.cli.options import model_argument
from graphc.memory import format_bytes


@click.command()
@model_argument
@click.argument("out", type=click.Path(dir_okay=False, writable=True))
def export(model: str, out: str) -> None:
    """Write MODEL as the ONNX file OUT."""
    from graphc import frontends
    from graphc.frontends.onnx_export import to_onnx

    data = to_onnx(frontends.load(model)).SerializeToString()
    Path(out).write_bytes(data)
    click.echo(f"wrote {out}, {format_bytes(len(data))}")
