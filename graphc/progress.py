"""The bar that tells how far long work is, where somebody looks on: a terminal's stderr. GRAPHC_PROGRESS=0 turns it off."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

Progress = Callable[[str, int, int], None]

PATIENCE = 1.0  # seconds of work that nobody is told of
PAUSE = 0.1  # seconds between two drawings: they take time


def wanted(stream: TextIO | None) -> bool:
    """Does somebody look on, who has not turned it off?"""
    return os.environ.get("GRAPHC_PROGRESS", "1") != "0" and stream is not None and stream.isatty()


def chosen(progress: Progress | bool | None) -> Progress | None:
    """What to tell of long work: a function of the caller's; by default a bar, if somebody looks on and rich is installed, which
    graphc-runtime does not require; with False nobody."""
    if callable(progress):
        return progress
    if progress is False or not wanted(sys.stderr):
        return None
    from importlib.util import find_spec

    return Bar(sys.stderr) if find_spec("rich") else None


class Bar:
    """A bar on a terminal, drawn anew at reports, and gone when all is done."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._began, self._drawn = stream, monotonic(), 0.0
        self._bar: RichProgress | None = None  # while it is shown
        self._broken = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = monotonic()
        if done == 0 and self._bar is None:
            self._began = now
        try:
            if done >= total:
                bar, self._bar = self._bar, None
                if bar:
                    bar.stop()
            elif now - self._began > PATIENCE and not self._broken:
                self._draw(stage, done, total, now)
        except (OSError, ValueError):  # a terminal that is gone, or lacks the characters, is no reason to stop the work
            self._bar, self._broken = None, True

    def _draw(self, stage: str, done: int, total: int, now: float) -> None:
        if self._bar is None:
            self._bar = _bar(self._stream)
            self._bar.add_task(stage, completed=done, total=total)
            self._bar.start()
        elif now - self._drawn > PAUSE:
            self._bar.update(self._bar.task_ids[0], description=stage, completed=done, total=total, refresh=True)
        else:
            return
        self._drawn = now


def _bar(stream: TextIO) -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    class Terminal(Console):
        def show_cursor(self, show: bool = True) -> bool:
            return False  # work that fails has no last report, which would bring it back

        def on_broken_pipe(self) -> None:
            raise  # where rich would end the process

    console = Terminal(file=stream, force_jupyter=False, markup=False, emoji=False, highlight=False)
    console.quiet = not console.is_interactive  # a dumb terminal can take nothing back
    columns = (TextColumn("graphc: {task.description}", markup=False), BarColumn(30), MofNCompleteColumn())
    # stdout may go elsewhere, and what others write is theirs: rich must not take it over
    return Progress(
        *columns, console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    )
