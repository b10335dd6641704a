"""The line that tells how far long work is: on a terminal only, and only of what takes long."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

import graphc
from graphc import progress
from graphc.graph import Builder
from graphc.progress import CLEAR, Line, chosen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal_for(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """In the place of stderr: called within a test, since pytest has its own between setup and call."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delenv("GRAPHC_PROGRESS", raising=False)
    return stream


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_short_work_is_silent(clock: list[float]):
    stream = Terminal()
    line = Line(stream)
    for i in range(11):
        line("lowering", i, 10)
        clock[0] += 0.05
    assert stream.getvalue() == ""


def test_long_work_has_a_line_that_goes(clock: list[float]):
    stream = Terminal()
    line = Line(stream)
    for i in range(5):
        line("compiling kernels", i, 4)
        clock[0] += 0.6
    shown = stream.getvalue().split(CLEAR)
    assert [text[-3:] for text in shown] == ["", "2/4", "3/4", ""] and "compiling kernels ━━━" in shown[1]


def test_each_work_begins_anew(clock: list[float]):
    stream = Terminal()
    line = Line(stream)
    line("lowering", 0, 2)
    clock[0] += 100  # the caller did something else
    line("lowering", 0, 2)
    clock[0] += 0.5
    line("lowering", 1, 2)
    assert stream.getvalue() == ""


def test_who_is_told(monkeypatch: pytest.MonkeyPatch):
    terminal_for(monkeypatch)
    assert isinstance(chosen(None), Line) and chosen(False) is None and chosen(print) is print
    monkeypatch.setenv("GRAPHC_PROGRESS", "0")
    assert chosen(None) is None and chosen(print) is print
    monkeypatch.delenv("GRAPHC_PROGRESS")
    for nobody in (io.StringIO(), None):
        monkeypatch.setattr(sys, "stderr", nobody)
        assert chosen(None) is None


def test_compile_tells_of_long_work(monkeypatch: pytest.MonkeyPatch):
    terminal = terminal_for(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE", -1.0)
    builder = Builder("net")  # plans of graphs are not kept on disk
    graph = builder.build({"y": builder.add("Relu", builder.input("x", "float32", (1, 4)))})
    graphc.compile(graph)
    said = terminal.getvalue()
    assert "graphc: lowering" in said and said.endswith(CLEAR)
    terminal.seek(0)
    terminal.truncate()
    model = graphc.compile(graph, progress=False)
    assert terminal.getvalue() == "" and model(np.float32([[-1, 0, 1, 2]])).tolist() == [[0, 0, 1, 2]]


def test_a_terminal_that_is_gone_stops_nothing(clock: list[float]):
    stream = Terminal()
    line = Line(stream)
    clock[0] += 2
    stream.close()
    line("lowering", 1, 2)
    line("lowering", 2, 2)
