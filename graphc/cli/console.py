"""What goes to the terminal: tables, progress, and numbers as people read them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import click

from graphc.progress import Progress, chosen
from graphc.tables import text_table
from graphc.words import count as count
from graphc.words import many as many
from graphc.words import seconds as seconds

PIPED_WIDTH = 160  # columns of a table that goes into a file or another program
NARROWEST = 80  # columns of a table on a terminal: narrower ones wrap its lines, rather than lose its columns


def terminal_width(stream: TextIO) -> int | None:
    """Columns that a table has there; None where nobody looks on: a file or another program."""
    return max(shutil.get_terminal_size().columns, NARROWEST) if stream.isatty() else None


def table_width() -> int:
    """Columns of a table on stdout."""
    return terminal_width(sys.stdout) or PIPED_WIDTH


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "", footer: Sequence[Any] = ()
) -> None:
    """A table on stdout, as `graphc.tables` makes it, between empty lines."""
    width = table_width()
    click.echo(
        f"\n{text_table(columns, rows, width=width, title=title, footer=footer)}\n".removeprefix("\n" * bool(title))
    )


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A callback (stage, done, total) that draws a bar on a terminal's stderr, and is silent anywhere else: see graphc.progress."""
    bar = chosen(None)
    try:
        yield bar or (lambda stage, done, total: None)
    finally:
        if bar:
            bar("", 1, 1)  # whatever came between, it goes
