"""The bar that tells how far long work is: on a terminal only, and only of what takes long."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

import graphc
from graphc import progress
from graphc.graph import Builder
from graphc.progress import Bar, chosen

CLEARED = "\x1b[1A\x1b[2K"  # up, and the line is erased


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Full(Terminal):
    """Where nothing can be written any more."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


@pytest.fixture(autouse=True)
def capable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal without colours, whatever the tests run in."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "GRAPHC_PROGRESS"):
        monkeypatch.delenv(name, raising=False)


def terminal_for(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """In the place of stderr: called within a test, since pytest has its own between setup and call."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    return now


def test_short_work_is_silent(clock: list[float]):
    stream = Terminal()
    bar = Bar(stream)
    for i in range(11):
        bar("lowering", i, 10)
        clock[0] += 0.05
    assert stream.getvalue() == ""


def test_long_work_has_a_bar_that_goes(clock: list[float]):
    stream = Terminal()
    bar = Bar(stream)
    for i in range(5):
        bar("compiling kernels", i, 4)
        clock[0] += 0.6
    shown = stream.getvalue()
    assert "graphc: compiling kernels ━━━" in shown and shown.index("2/4") < shown.index("3/4")
    assert "0/4" not in shown and "1/4" not in shown and shown.endswith(CLEARED)
    assert "\x1b[?25l" not in shown  # the cursor is never hidden: what fails would leave it so


def test_many_reports_are_few_drawings(clock: list[float]):
    stream = Terminal()
    bar = Bar(stream)
    clock[0] += 2
    for i in range(1, 1001):
        bar("lowering", i, 1001)
        clock[0] += 0.001
    assert 9 <= stream.getvalue().count("graphc: lowering") <= 11


def test_each_work_begins_anew(clock: list[float]):
    stream = Terminal()
    bar = Bar(stream)
    bar("lowering", 0, 2)
    clock[0] += 100  # the caller did something else
    bar("lowering", 0, 2)
    clock[0] += 0.5
    bar("lowering", 1, 2)
    assert stream.getvalue() == ""


def test_who_is_told(monkeypatch: pytest.MonkeyPatch):
    terminal_for(monkeypatch)
    assert isinstance(chosen(None), Bar) and chosen(False) is None and chosen(print) is print
    monkeypatch.setenv("GRAPHC_PROGRESS", "0")
    assert chosen(None) is None and chosen(print) is print
    monkeypatch.delenv("GRAPHC_PROGRESS")
    for nobody in (io.StringIO(), None):
        monkeypatch.setattr(sys, "stderr", nobody)
        assert chosen(None) is None


def test_without_rich_nobody_is_told(monkeypatch: pytest.MonkeyPatch):
    """As beside graphc-runtime, which requires NumPy alone."""
    terminal_for(monkeypatch)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert chosen(None) is None and chosen(print) is print


def test_compile_tells_of_long_work(monkeypatch: pytest.MonkeyPatch):
    terminal = terminal_for(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE", -1.0)
    builder = Builder("net")  # plans of graphs are not kept on disk
    graph = builder.build({"y": builder.add("Relu", builder.input("x", "float32", (1, 4)))})
    graphc.compile(graph)
    said = terminal.getvalue()
    assert "graphc: lowering" in said and said.endswith(CLEARED)
    terminal.seek(0)
    terminal.truncate()
    model = graphc.compile(graph, progress=False)
    assert terminal.getvalue() == "" and model(np.float32([[-1, 0, 1, 2]])).tolist() == [[0, 0, 1, 2]]


def test_a_dumb_terminal_is_left_alone(clock: list[float], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    bar = Bar(stream)
    clock[0] += 2
    bar("lowering", 1, 2)
    bar("lowering", 2, 2)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("error", [OSError(5, "gone"), BrokenPipeError(), ValueError("closed")], ids=repr)
def test_a_terminal_that_is_gone_stops_nothing(error: Exception, clock: list[float]):
    for shown in (False, True):  # before the bar, or while it is there
        stream: Terminal = Terminal() if shown else Full(error)
        bar = Bar(stream)
        clock[0] += 2
        bar("lowering", 1, 4)
        if shown:
            stream.__class__, stream.error = Full, error
        for done in (2, 3, 4):
            clock[0] += 1
            bar("lowering", done, 4)


def test_a_closed_stream_stops_nothing(clock: list[float]):
    stream = Terminal()
    bar = Bar(stream)
    clock[0] += 2
    stream.close()
    bar("lowering", 1, 2)
    bar("lowering", 2, 2)
