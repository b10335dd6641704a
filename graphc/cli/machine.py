"""--json: what a command found out, as one JSON object on stdout instead of text.

    @click.command()
    @model_argument
    @json_option                      # the last decorator
    def count(model: str) -> Record:
        click.echo("3 nodes")         # with --json nobody sees it
        return {"nodes": 3}           # docs/commands.md documents the keys

The record of a command that takes a MODEL gets `model`, as it is given. `raise Failed(code, {…})` ends a command that has found out something bad. Errors become objects by themselves.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, is_dataclass
from functools import wraps
from typing import Any

import click
import numpy as np

from graphc import __version__
from graphc.cli.excerpt import line_and_column
from graphc.cli.exits import DONE
from graphc.errors import CheckError, GraphcError

Record = dict[str, Any]
GIVEN_MODEL = "graphc.cli.given_model"  # MODEL as the command line has it, in a context's `meta`


class Failed(click.exceptions.Exit):
    """Ends a command that did its work with an exit code, and a record of what it found. Says `message` on stderr."""

    def __init__(self, code: int, record: Record, message: str = "") -> None:
        super().__init__(code)
        self.record = record
        if message:
            click.echo(message, err=True)


def json_option(command: Callable[..., Record]) -> Callable[..., None]:
    """Give a command that returns a record --json: see the module."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
    @wraps(command)
    def run(*, as_json: bool, **given: Any) -> None:
        if not as_json:
            command(**given)
            return
        code = DONE
        try:
            with open(os.devnull, "w") as nobody, redirect_stdout(nobody):
                record = command(**given)
        except Failed as end:
            record, code = end.record, end.exit_code
        ctx = click.get_current_context()
        if "model" in ctx.params:
            record = {"model": ctx.meta.get(GIVEN_MODEL), **record}
        print_json(ctx.info_name, code, record)
        if code != DONE:
            raise click.exceptions.Exit(code)

    return run


def print_json(command: str | None, code: int, record: Mapping[str, Any]) -> None:
    """The one object that a command prints."""
    head = {"graphc": __version__, "command": command, "exit_code": code}
    click.echo(json.dumps(plain(head | dict(record)), indent=1, ensure_ascii=False, allow_nan=False))


_NOTHING: Record = {
    "hint": None,
    "file": None,
    "place": None,
    "line": None,
    "column": None,
    "path": (),
    "op": None,
    "node": None,
}


def error_record(error: BaseException) -> Record:
    """What is told of an error: `kind`, `message`, `hint`, where it is (`file`, `place`, `line`, `column`, `path`, `op`, `node`), and
    the `problems` of a file with several."""
    if isinstance(error, click.ClickException):  # of several classes, by what is wrong with the command line
        return _NOTHING | {"kind": "UsageError", "message": error.format_message()}
    if not isinstance(error, GraphcError):
        return _NOTHING | {"kind": type(error).__name__, "message": str(error)}
    at = error.source
    line, column = line_and_column(at) or (None, None)
    record = {
        "kind": type(error).__name__,
        "message": error.message.partition("\n")[0] if isinstance(error, CheckError) else error.message,
        "hint": error.hint,
        "file": at.file if at else None,
        "place": at.place if at else None,
        "line": line,
        "column": column,
        "path": at.path if at else (),
        "op": error.op,
        "node": error.node,
    }
    return record | ({"problems": error.problems} if isinstance(error, CheckError) else {})


def plain(value: Any) -> Any:
    """A value as JSON has it. Numbers that JSON has not are "NaN", "Infinity" and "-Infinity"; what it does not know is text."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return (
            value if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        )
    if isinstance(value, GraphcError):
        return plain(error_record(value))
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (bytes, bytearray)):
        return [plain(item) for item in value]
    return str(value)
