"""The line that tells how far long work is, where somebody looks on: a terminal's stderr. GRAPHC_PROGRESS=0 turns it off."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

Progress = Callable[[str, int, int], None]

PATIENCE = 1.0  # seconds of work that nobody is told of
WIDTH = 30  # characters of the bar
CLEAR = "\r\x1b[2K"


def wanted(stream: TextIO | None) -> bool:
    """Does somebody look on, who has not turned it off?"""
    return os.environ.get("GRAPHC_PROGRESS", "1") != "0" and stream is not None and stream.isatty()


def chosen(progress: Progress | bool | None) -> Progress | None:
    """What to tell of long work: a function of the caller's; by default a line, if somebody looks on; with False nobody."""
    if callable(progress):
        return progress
    return Line(sys.stderr) if progress is not False and wanted(sys.stderr) else None


class Line:
    """A line on a terminal, drawn anew at each report, and gone when all is done."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._began, self._drawn = stream, time.monotonic(), False

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done == 0 and not self._drawn:
            self._began = now
        if done >= total:
            if self._drawn:
                self._write(CLEAR)
            self._drawn = False
        elif now - self._began > PATIENCE:
            self._drawn = True
            filled = WIDTH * done // total
            self._write(f"{CLEAR}graphc: {stage} {'━' * filled}{'─' * (WIDTH - filled)} {done}/{total}")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # a terminal that is gone, or lacks the characters, is no reason to stop the work
            self._drawn = False
