"""graphc schema: the JSON Schema by which editors complete and check YAML models."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("model", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to this file.")
def schema(model: Path | None, output: Path | None) -> None:
    """Print the JSON Schema of YAML models.

    With a MODEL, one that knows its blocks and params, too, so that a misspelt name of a layer is told of. Editors with a YAML
    language server use it where the model's first line says: # yaml-language-server: $schema=FILE
    """
    from graphc.frontends.yaml_schema import Known, known_by, text

    written = text(Known() if model is None else known_by(model))
    if output is None:
        click.echo(written, nl=False)
    else:
        output.write_text(written, encoding="utf-8")
