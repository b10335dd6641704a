"""What goes to the terminal: tables, progress bars, and numbers as people read them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import click

from graphc.progress import Progress, chosen
from graphc.tables import text_table

PIPED_WIDTH = 160  # columns of a table that goes into a file or another program
NARROWEST = 80  # columns of a table on a terminal: narrower ones wrap its lines, rather than lose its columns


def terminal_width(stream: TextIO) -> int | None:
    """Columns that a table has there; None where nobody looks on: a file or another program."""
    return max(shutil.get_terminal_size().columns, NARROWEST) if stream.isatty() else None


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "", footer: Sequence[Any] = ()
) -> None:
    """A table on stdout, as `graphc.tables` makes it, between empty lines."""
    width = terminal_width(sys.stdout) or PIPED_WIDTH
    click.echo(
        f"\n{text_table(columns, rows, width=width, title=title, footer=footer)}\n".removeprefix("\n" * bool(title))
    )


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A callback (stage, done, total) that draws a line on a terminal's stderr, and is silent anywhere else: see graphc.progress."""
    line = chosen(None)
    try:
        yield line or (lambda stage, done, total: None)
    finally:
        if line:
            line("", 1, 1)  # whatever came between, it goes


def many(n: int, what: str) -> str:
    """(1, 'node') -> '1 node', (2, 'node') -> '2 nodes'."""
    return f"{n} {what}{'s' * (n != 1)}"


def count(n: float) -> str:
    """1234567 -> '1.23 M'."""
    for unit in ("", " k", " M", " G", " T"):
        if abs(n) < 1000:
            return f"{n:.0f}" if unit == "" else f"{n:.3g}{unit}"
        n /= 1000
    return f"{n:.3g} P"


def seconds(s: float) -> str:
    """0.00123 -> '1.23 ms'."""
    if s >= 1:
        return f"{s:.2f} s"
    return f"{s * 1e3:.3g} ms" if s >= 1e-3 else f"{s * 1e6:.3g} µs"
