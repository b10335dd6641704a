"""graphc init: a page of the zoo to begin with."""

from __future__ import annotations

from pathlib import Path
from shutil import copyfile

import click

from graphc.cli.machine import Record, json_option
from graphc.errors import InputError


@click.command()
@click.argument("name")
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Write over files that are there already.")
@json_option
def init(name: str, folder: Path, force: bool) -> Record:
    """Copy the network NAME of the zoo into FOLDER (default: this one), with the files that it reads."""
    from graphc import zoo
    from graphc.frontends import YAML_SUFFIXES

    network = zoo.network(name)
    if folder.suffix in YAML_SUFFIXES and not folder.is_dir():
        hint = "the page keeps its name; name a folder, or none"
        raise InputError(f"'{folder}' is to be a folder, and ends as a file", hint=hint)
    targets = {source: folder / source.name for source in (network.path, *network.beside)}
    there = [str(target) for target in targets.values() if target.exists() or target.is_symlink()]
    if there and not force:
        are, them = ("is", "it") if len(there) == 1 else ("are", "them")
        hint = f"--force writes over {them}; or name another folder"
        raise InputError(f"{', '.join(there)} {are} there already", hint=hint)
    folder.mkdir(parents=True, exist_ok=True)
    for source, target in targets.items():
        target.unlink(missing_ok=True)  # a link stays out of it
        copyfile(source, target)
        click.echo(f"wrote {target}")
    page = targets[network.path]
    click.echo(f"{network.page.title}. Go on with:")
    commands = [f"graphc {name} {page}{network.options * (name != 'show')}" for name in ("show", "run", "bench")]
    for command in commands:
        click.echo(f"  {command}")
    return {"page": page, "written": [*targets.values()], "next": commands}
