"""graphc init: a page of the zoo to begin with."""

from __future__ import annotations

from pathlib import Path
from shutil import copyfile

import click

from graphc.cli.console import stop


@click.command()
@click.argument("name")
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Write over files that are there already.")
def init(name: str, folder: Path, force: bool) -> None:
    """Copy the network NAME of the zoo into FOLDER (default: this one), with the files that it reads."""
    from graphc import zoo
    from graphc.frontends import YAML_SUFFIXES

    network = zoo.network(name)
    if folder.suffix in YAML_SUFFIXES and not folder.is_dir():
        stop(
            2,
            f"graphc: error: '{folder}' is to be a folder, and ends as a file\n  the page keeps its name; name a folder, or none",
        )
    targets = {source: folder / source.name for source in (network.path, *network.beside)}
    there = [str(target) for target in targets.values() if target.exists() or target.is_symlink()]
    if there and not force:
        are, them = ("is", "it") if len(there) == 1 else ("are", "them")
        said = f"{', '.join(there)} {are} there already\n  --force writes over {them}; or name another folder"
        stop(2, f"graphc: error: {said}")
    folder.mkdir(parents=True, exist_ok=True)
    for source, target in targets.items():
        target.unlink(missing_ok=True)  # a link stays out of it
        copyfile(source, target)
        click.echo(f"wrote {target}")
    page = targets[network.path]
    click.echo(f"{network.page.title}. Go on with:")
    for command in (f"show {page}", f"run {page}{network.options}", f"bench {page}{network.options}"):
        click.echo(f"  graphc {command}")
