"""Files that mean harm do none; and what would be found if they did. `python -m tests.harm` tries more of them."""

from __future__ import annotations

import re

import pytest
from harm import campaign
from harm.campaign import run
from harm.hostile import KINDS
from harm.make import SHARES
from harm_faults import SECRET, WAITS

FILES = 1000


def test_files_that_mean_harm():
    """Each is refused with one clear error, or loads and runs."""
    summary = run(0, range(FILES), 2)
    assert not summary.faults, f"\n{summary}"
    assert summary.files == FILES and summary.table.keys() == SHARES.keys()
    assert all(summary.table[kind]["refused"] and summary.table[kind]["ran"] for kind in SHARES if kind != "inputs")
    assert summary.table["inputs"]["run refused"] and summary.table["inputs"]["ran"]
    assert summary.names["hostile"].keys() == KINDS.keys()


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (1, "exception", "ValueError: no GraphcError"),
        (2, "message", "0 characters"),
        (3, "memory", "MemoryError"),
        (4, "crash", "Segmentation fault"),
        (5, "hang", "in _hang"),
        (6, "watch", "writes .*written-by-a-test-of-harm"),
        (7, "exception", "RecursionError"),
        (SECRET, "watch", "opens .*/outside/secret.bin"),
    ],
)
def test_a_planted_fault_is_found(number: int, kind: str, text: str, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    summary = run(0, [number, 0], 1, module="harm_faults")
    assert summary.files == 2, "the next file is tried after one that ends the process"
    (found,) = summary.faults.items()
    (said, where), (numbers, told) = found
    assert (said, numbers) == (kind, [number])
    assert re.search(text, f"{where}\n{told}")


def test_a_process_that_waits_is_ended(monkeypatch: pytest.MonkeyPatch):
    """The clock counts the CPU's time; who waits for a pipe takes none."""
    monkeypatch.setattr(campaign, "PATIENCE", 6.0)
    summary = run(0, [WAITS], 1, module="harm_faults")
    assert [kind for kind, _ in summary.faults] == ["hang"]
