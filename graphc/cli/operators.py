"""graphc operators: what models may be made of."""

from __future__ import annotations

import sys
import textwrap

import click

from graphc.cli.console import PIPED_WIDTH, terminal_width
from graphc.cli.machine import Record, json_option
from graphc.cli.options import import_option


@click.command()
@click.argument("word", required=False, default="")
@import_option
@json_option
def operators(word: str) -> Record:
    """List the operators of ONNX and YAML files, by domain, and the layers of YAML files.

    With a WORD, those that have it in their name, or are of that domain.
    """
    from graphc.frontends.yaml_registry import layers
    from graphc.op import named_ops

    found: dict[str, list[str]] = {}
    for name in sorted(named_ops()):
        domain, _, operator = name.rpartition("::")
        if word.lower() in name.lower():
            found.setdefault(domain or "ONNX", []).append(operator)
    named = [name for name in sorted(layers()) if word.lower() in name.lower()]
    width = terminal_width(sys.stdout) or PIPED_WIDTH
    for title, names in [*found.items(), *([("layers of YAML", named)] if named else [])]:
        click.echo(textwrap.fill(f"{title}: {', '.join(names)}", width, subsequent_indent="  "))
    if not found and not named:
        click.echo(f"none has '{word}' in its name")
    return {"operators": found, "layers": named}
