"""Tables of text fit the width that they are given."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from graphc.tables import text_table

COLUMNS = (">#", "name", "+why", ">time")


def test_numbers_are_right_and_text_is_left():
    text = text_table(COLUMNS, [(1, "conv", "fast", "2 ms"), (12, "relu6", "", "13 µs")], width=80, title="steps")
    assert text.splitlines() == [
        "steps",
        " #  name   why    time",
        "──────────────────────",
        " 1  conv   fast   2 ms",
        "12  relu6        13 µs",
    ]


def test_details_go_below_where_there_is_no_room():
    text = text_table(COLUMNS, [(1, "conv", "of its many channels", "2 ms"), (2, "relu", "", "1 ms")], width=26)
    assert text.splitlines() == [
        "#  name  time",
        "─────────────",
        "1  conv  2 ms",
        "      why of its many",
        "      channels",
        "2  relu  1 ms",
    ]


def test_long_names_are_folded_at_their_parts():
    text = text_table(("name", ">n"), [("encoder/layer.11/attention", 5)], width=20, footer=("all", 5))
    assert text.splitlines()[2:] == ["encoder/layer.11/  5", "attention", "─" * 20, "all                5"]


WORDS = st.text(st.characters(codec="utf-8"), max_size=40)


@settings(max_examples=30)
@given(
    rows=st.lists(st.tuples(st.integers(0, 10**6), WORDS, WORDS, st.integers(0, 99)), max_size=5),
    width=st.integers(40, 160),
)
def test_nothing_is_wider_and_nothing_is_lost(rows: list[tuple], width: int):
    text = text_table(COLUMNS, rows, width=width)
    assert all(cell_len(line) <= width for line in text.splitlines())
    shown = "".join(text.split())
    for number, *_ in rows:
        assert str(number) in shown
    kept = sum(not c.isspace() for row in rows for cell in row for c in str(cell) if c.isprintable())
    assert len(shown) >= kept


@pytest.mark.parametrize(("text", "cells"), [("abc", 3), ("数字", 4), ("e\u0301", 1), ("µs", 2)])
def test_columns_of_a_terminal(text: str, cells: int):
    assert cell_len(text) == cells
