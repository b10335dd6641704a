"""graphc help: the pages of docs/, which are installed with graphc, and what else has a name."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import click

import graphc
from graphc.cli.console import print_table
from graphc.cli.language import layer_record, show_layer
from graphc.cli.machine import Record, json_option
from graphc.errors import InputError

PAGES = Path(graphc.__file__).parent / "docs"


def pages() -> dict[str, Path]:
    return {path.stem: path for path in sorted(PAGES.glob("*.md"))}


def _names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in pages() if name.startswith(incomplete)]


@click.command("help")
@click.argument("word", required=False, shell_complete=_names)
@json_option
def help_(word: str | None) -> Record:
    """List the pages of the documentation; show the one called WORD, or the help of a command or a layer of that name."""
    ctx = click.get_current_context()
    found, commands = pages(), _commands(ctx)
    if word is None:
        titles = {name: _title(path) for name, path in found.items()}
        print_table(("page", "title"), titles.items())
        click.echo("graphc help PAGE shows one, graphc help COMMAND the options of a command")
        return {"pages": [{"name": name, "title": title, "path": found[name]} for name, title in titles.items()]}
    name = word.removeprefix("docs/").removesuffix(".md")
    if name in found:
        text = found[name].read_text(encoding="utf-8")
        more = f"\ngraphc {name} --help lists the options of that command\n" if name in commands else ""
        click.echo_via_pager(text + more)
        return {"page": name, "path": found[name], "text": text}
    if name in commands:
        with click.Context(commands[name], info_name=name, parent=ctx.parent) as of:
            text = of.get_help()
        click.echo_via_pager(f"{text}\n")
        return {"help_of": name, "text": text}
    from graphc.frontends.yaml_registry import layers

    if name in layers():
        show_layer(layers()[name])
        return {"layers": [layer_record(layers()[name])]}
    close = get_close_matches(name.lower(), [*found, *commands, *layers()], 3)
    guess = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    raise InputError(f"there is no page, command or layer '{word}'", hint=f"{guess}`graphc help` lists the pages")


def _commands(ctx: click.Context) -> dict[str, click.Command]:
    group = ctx.find_root().command
    return dict(group.commands) if isinstance(group, click.Group) else {}


def _title(page: Path) -> str:
    with page.open(encoding="utf-8") as lines:
        return next((line.lstrip("# ").strip() for line in lines if line.startswith("# ")), page.stem)
