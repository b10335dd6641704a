"""Files that commands write: refused before the work where they can't be written, and never left half written."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import click

from graphc.cli.paths import unusable
from graphc.errors import InputError


class OutputFile(click.ParamType):
    """The path of a file to write, whose suffix says what is written."""

    name = "file"

    def __init__(self, *suffixes: str) -> None:
        self.suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path. Fails on an unknown suffix, and raises InputError where no file can be written."""
        path = Path(value)
        if path.suffix.lower() not in self.suffixes:
            what = f"has the unknown suffix '{path.suffix}'" if path.suffix else "has no suffix"
            self.fail(f"'{value}' {what}; known: {', '.join(self.suffixes)}", param, ctx)
        problem = _problem(path)
        if problem:
            raise unusable(f"'{value}' {problem}", param, ctx)
        return path


def _problem(path: Path) -> str | None:
    """Why the file can't be written."""
    real = Path(os.path.realpath(path))
    folder = real.parent
    if real.is_dir():
        return "is a folder"
    if real.exists() and not real.is_file():
        return "is there, and is no file"
    if not folder.is_dir():
        return f"can't be written: there is no folder '{folder}'"
    if real.exists() and not os.access(real, os.W_OK):
        return "can't be written: permission denied"
    try:  # the only sure test, and what `write_file` will do
        probe = _beside(real)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        return f"can't be written: {(error.strerror or str(error)).lower()}"
    return None


def _beside(path: Path) -> Path:
    """A new name in the same folder."""
    return path.parent / f".graphc-{secrets.token_hex(6)}"


def refuse_inputs(written: Iterable[Path | None], read: Iterable[str | os.PathLike]) -> None:
    """Raises InputError where a file to write is one of those that are read, under any name."""
    read = [Path(p) for p in read if Path(p).exists()]
    for path in written:
        if path is None or not path.exists():
            continue
        for other in read:
            if path.samefile(other):
                same = "" if path == other else f" (it is '{other}')"
                raise InputError(f"'{path}' is read by this command{same}", hint="write to another file")


def write_file(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Replace the file by what `write` writes: what was there stays until all of it is written.

    Raises InputError where that fails.
    """
    real = Path(os.path.realpath(path))
    temporary = _beside(real)
    try:
        with temporary.open("xb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        if real.exists():
            shutil.copymode(real, temporary)
        os.replace(temporary, real)
    except OSError as error:
        raise InputError(f"can't write '{path}': {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)
