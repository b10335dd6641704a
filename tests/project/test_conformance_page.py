"""docs/conformance.md holds figures in the form that `python -m tests.conformance --page` writes, and its parts work."""

from __future__ import annotations

import re

import pytest
from conformance.cases import KINDS
from conformance.figures import BEGIN, END, PAGE, Outcome, figures, outcomes, table


def test_the_figures_fit_each_other():
    """Of each kind no more cases are right than there are, and the kinds add up to all."""
    part = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    rows = {
        row[0]: [int(n) for n in row[1:]]
        for row in re.findall(r"^\| ([\w-]+) " + r"\| (\d+) " * 4 + r"\|$", part, re.M)
    }
    assert set(rows) == {*KINDS, "all"}
    assert [sum(column) for column in zip(*(rows[kind] for kind in KINDS))] == rows["all"]
    assert all(cases >= compiled >= native for cases, _, compiled, native in rows.values())


@pytest.mark.slow  # the suite is made as a whole
def test_a_case_is_run_both_ways():
    found = {one.name: one for one in outcomes(["node/test_relu", "node/test_string_concat"])}
    assert found["node/test_relu"] == Outcome("node/test_relu", None, None, ())
    assert found["node/test_string_concat"].host[0].startswith("StringConcat: ")


def test_what_is_counted():
    found = [
        Outcome("node/a", None, None, ()),
        Outcome("node/b", "wrong", "AssertionError: differs\nmore", ()),
        Outcome("simple/c", None, None, ("Loop: its body",)),
    ]
    assert table(found)[2:] == ["| node | 2 | 1 | 1 | 1 |", "| simple | 1 | 1 | 1 | 0 |", "| all | 3 | 2 | 2 | 1 |"]
    text = figures(found)
    assert "NumPy: `Loop` (1)." in text and "- `node/b`: wrong\n" in text and "`ai.onnx.ml`: " in text
