"""graphc init: a page of the zoo to begin with, or an example with trained weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shutil import copyfile

import click

import graphc
from graphc.cli.machine import Record, json_option
from graphc.cli.paths import PathParam
from graphc.errors import InputError

EXAMPLES = Path(graphc.__file__).parent / "examples"


def examples() -> dict[str, Path]:
    """Folders of the examples that are no zoo, by name."""
    return {path.name: path for path in sorted(EXAMPLES.iterdir()) if (path / "run.py").exists()}


def _names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from graphc import zoo

    return [name for name in (*examples(), *zoo.names()) if name.startswith(incomplete)]


@click.command()
@click.argument("name", shell_complete=_names)
@click.argument("folder", required=False, type=PathParam(file_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Write over files that are there already.")
@json_option
def init(name: str, folder: Path | None, force: bool) -> Record:
    """Copy the network NAME of the zoo into FOLDER (default: this one), with the files that it reads.

    Or one of the examples that are trained, with its data and its program: digits, characters or elnino (default: into a folder of
    that name).
    """
    from graphc import zoo
    from graphc.frontends import YAML_SUFFIXES

    if folder is not None and folder.suffix in YAML_SUFFIXES and not folder.is_dir():
        hint = "the page keeps its name; name a folder, or none"
        raise InputError(f"'{folder}' is to be a folder, and ends as a file", hint=hint)
    if name in examples():
        page = (folder or Path(name)) / f"{name}.yaml"
        targets = {source: page.parent / source.name for source in examples()[name].iterdir() if source.is_file()}
        commands = [f"python {page.parent / 'run.py'}", *(f"graphc {command} {page}" for command in ("show", "run"))]
        about = f"{name}, trained"
        if page.parent.exists() and not page.parent.is_dir():
            raise InputError(f"'{page.parent}' is there, and is no folder", hint=f"name one: graphc init {name} FOLDER")
    else:
        network = zoo.network(name)
        page = (folder or Path()) / network.path.name
        targets = {source: page.parent / source.name for source in (network.path, *network.beside)}
        commands = [f"graphc {c} {page}{network.options * (c != 'show')}" for c in ("show", "run", "bench")]
        about = network.page.title
    _copy(targets, force)
    click.echo(f"{about}. Go on with:")
    for command in commands:
        click.echo(f"  {command}")
    return {"page": page, "written": [*targets.values()], "next": commands}


def _copy(targets: Mapping[Path, Path], force: bool) -> None:
    """Files to where they shall be. Raises InputError where something is there and is not to be lost."""
    there = [str(target) for target in targets.values() if target.exists() or target.is_symlink()]
    if there and not force:
        are, them = ("is", "it") if len(there) == 1 else ("are", "them")
        hint = f"--force writes over {them}; or name another folder"
        raise InputError(f"{', '.join(there)} {are} there already", hint=hint)
    for source, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # a link stays out of it
        copyfile(source, target)
        click.echo(f"wrote {target}")
