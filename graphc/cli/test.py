"""graphc test: random uses of operators on targets against their references."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from graphc.cli.console import many
from graphc.cli.exits import DIFFERENT
from graphc.cli.machine import Failed, Record, json_option
from graphc.cli.options import TargetName
from graphc.cli.paths import PathParam
from graphc.errors import InputError


@click.command()
@click.argument("files", nargs=-1, type=PathParam(exists=True, dir_okay=False))
@click.option("-k", "pattern", metavar="NAME", default="", help="Only operators with this in their name.")
@click.option("--examples", type=click.IntRange(min=1), default=100, show_default=True, help="Uses of each operator.")
@click.option(
    "--target",
    "targets",
    type=TargetName(),
    multiple=True,
    default=("cpu",),
    show_default=True,
    help="What to compile for; may be repeated.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the uses that are drawn.")
@click.option(
    "--out",
    type=PathParam(file_okay=False, path_type=Path),
    default="graphc-failures",
    show_default=True,
    help="Folder for programs that do again what has failed.",
)
@json_option
def test(files: Sequence[str], pattern: str, examples: int, targets: tuple[str, ...], seed: int, out: Path) -> Record:
    """Test the operators that the Python FILES register, or those of graphc where there is none.

    Draws uses of each operator as the samples of its record describe them, and compares what each target computes with its reference
    in float64. What fails is made small first; then the last line names a program that does it again, and the exit code is 1.
    """
    from graphc.own import FILES, load_file
    from graphc.testing.operators import operators, own_operators
    from graphc.testing.trial import try_operator, try_target

    before = {*own_operators()}
    for file in files:
        load_file(file)
    paths = {os.path.abspath(file) for file in files}
    names = [n for n in own_operators() if n not in before or FILES.get(n) in paths] if files else operators()
    if files and not names:
        raise InputError(
            f"{' and '.join(files)} registers no operator", hint="call graphc.op.register(Op(…)) when it is imported"
        )
    chosen = [n for n in names if pattern.lower() in n.lower()]
    if not chosen:
        raise InputError(f"no operator has '{pattern}' in its name", hint=f"there are {', '.join(names[:20])}")
    for target in targets:
        try_target(target)
    tried: list[Record] = []
    for name in chosen:
        result = try_operator(name, targets, examples, seed, out)
        tried.append({"name": name, "uses": result.examples, "host": result.hosted, "failure": result.failure or None})
        if result.failure:
            click.echo(f"{name}: FAILED\n{result.failure}", err=True)
        else:
            hosted = f"; runs on the host: {', '.join(result.hosted)}" if result.hosted else ""
            click.echo(f"{name}: {many(result.examples, 'use')} right{hosted}")
    record = {"targets": targets, "operators": tried}
    if any(one["failure"] for one in tried):
        raise Failed(DIFFERENT, record)
    return record
