"""graphc schema: the JSON Schema by which editors complete and check YAML models."""

from __future__ import annotations

import json
from pathlib import Path

import click

from graphc.cli.machine import Record, json_option
from graphc.cli.options import ModelFile, import_option
from graphc.cli.output import OutputFile, refuse_inputs, write_file
from graphc.errors import InputError


@click.command()
@click.argument("model", required=False, type=ModelFile())
@import_option
@click.option("-o", "--output", type=OutputFile(".json"), help="Write it to this .json file.")
@json_option
def schema(model: str | None, output: Path | None) -> Record:
    """Print the JSON Schema of YAML models.

    With a MODEL, one that knows its blocks and params, too, so that a misspelt name of a layer is told of. Editors with a YAML
    language server use it where the model's first line says: # yaml-language-server: $schema=FILE
    """
    from graphc.frontends import YAML_SUFFIXES
    from graphc.frontends.yaml_schema import Known, known_by, text

    if model is not None and Path(model).suffix.lower() not in YAML_SUFFIXES:
        raise InputError(f"'{model}' is no YAML model: the schema is of {' and '.join(YAML_SUFFIXES)} files")
    refuse_inputs([output], [] if model is None else [model])
    written = text(Known() if model is None else known_by(model))
    if output is None:
        click.echo(written, nl=False)
    else:
        write_file(output, lambda f: f.write(written.encode()))
        click.echo(f"wrote {output}")
    return {"written": output, "schema": json.loads(written)}
