"""graphc layers: the layers of YAML models, and the arguments that each takes."""

from __future__ import annotations

import inspect
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

import click

from graphc.cli.console import print_table
from graphc.cli.machine import Record, json_option
from graphc.errors import InputError

if TYPE_CHECKING:
    from graphc.frontends.yaml_registry import LayerDefinition


def names_of_layers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from graphc.frontends.yaml_registry import layers

    return [name for name in layers() if name.startswith(incomplete)]


@click.command("layers")
@click.argument("name", required=False, shell_complete=names_of_layers)
@json_option
def layers_(name: str | None) -> Record:
    """List the layers of YAML models; of one called NAME the arguments, and what it does."""
    from graphc.frontends.yaml_registry import layers

    known = layers()
    if name is None:
        rows = [(layer.name, _first_sentence(layer.doc)) for layer in known.values()]
        print_table(("layer", "what it is"), rows)
        click.echo("graphc layers NAME tells its arguments; graphc help yaml has the language")
        return {"layers": [layer_record(layer) for layer in known.values()]}
    if name not in known:
        close = get_close_matches(name.lower(), known, 3, 0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "`graphc layers` lists all"
        raise InputError(f"there is no layer '{name}'", hint=hint)
    show_layer(known[name])
    return {"layers": [layer_record(known[name])]}


def layer_record(layer: LayerDefinition) -> Record:
    from graphc.frontends.yaml_args import describe

    arguments = [
        {"name": key, "type": describe(hint), "required": key in layer.required, "default": _default(value)}
        for key, (hint, value) in layer.args.items()
    ]
    return {
        "name": layer.name,
        "operands": layer.operands,
        "main": layer.main,
        "arguments": arguments,
        "doc": layer.doc,
    }


def show_layer(layer: LayerDefinition) -> None:
    record = layer_record(layer)
    click.echo(f"{layer.name}: {layer.doc}\n")
    inputs = {None: "any number of values", 0: "no value", 1: "the value of the step before"}
    click.echo(f"takes {inputs.get(layer.operands, f'{layer.operands} values')}")
    if record["arguments"]:
        rows = [
            (a["name"], a["type"], "must be given" if a["required"] else _shown(a["default"]))
            for a in record["arguments"]
        ]
        print_table(("argument", "what", "default"), rows)
    if layer.required == (layer.main,):
        click.echo(f"`{layer.name}: …` alone sets {layer.main}")


def _first_sentence(doc: str) -> str:
    return re.split(r"(?<!et al)\.\s+(?=[A-Z])", " ".join(doc.split()))[0].rstrip(".")


def _default(value: object) -> object:
    return None if value is inspect.Parameter.empty else value


def _shown(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
