"""What goes to the terminal: tables, progress bars, and numbers as people read them."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from graphc.progress import wanted

PIPED_WIDTH = 160  # columns of a table that goes into a file or another program
NARROWEST = 80  # columns of a table on a terminal: narrower ones wrap its lines, rather than lose its columns


def console(stderr: bool = False) -> Any:
    """A rich console that prints text as it is: names of nodes may hold brackets and colons."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:  # rich would end the process
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    width = terminal_width(sys.stderr if stderr else sys.stdout) or PIPED_WIDTH
    return Plain(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


def terminal_width(stream: TextIO) -> int | None:
    """Columns that a table has there; None where nobody looks on: a file or another program."""
    return max(shutil.get_terminal_size().columns, NARROWEST) if stream.isatty() else None


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "", footer: Sequence[Any] = ()
) -> None:
    """A table on stdout. A column name that starts with '>' is aligned to the right."""
    from rich import box
    from rich.table import Table

    table = Table(
        title=title or None, box=box.SIMPLE_HEAD, title_justify="left", show_footer=bool(footer), pad_edge=False
    )
    for i, name in enumerate(columns):
        right = name.startswith(">")
        table.add_column(
            name.lstrip(">"),
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=right,
            footer=str(footer[i]) if footer else "",
        )
    for row in rows:
        table.add_row(*map(str, row))
    console().print(table)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A callback (stage, done, total) that draws bars on a terminal's stderr, and is silent anywhere else: see graphc.progress."""
    if not wanted(sys.stderr):
        yield lambda stage, done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:>20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


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
