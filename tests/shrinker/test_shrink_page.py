"""docs/shrink.md and examples/digits/smaller.py: commands and snippets run, and say what the page says."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import graphc
from graphc.cli import main

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits"
TEXT = (ROOT / "docs" / "shrink.md").read_text(encoding="utf-8")
ROW = r"^\| (\(none\)|`--[^|]*) \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) % \| \d+ µs \|$"
ENDS = ["net.1.conv", "net.10.dense"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which the examples are."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_say_what_the_page_says(folder: Path):
    """Words as they stand; numbers to what another library of linear algebra changes in them."""
    commands, table = re.findall(r"^```\n(.*?)^```", TEXT, re.M | re.S)[:2]
    for line in commands.splitlines():
        first, *args = shlex.split(line)
        if first == "python":
            subprocess.run([sys.executable, *args], check=True)
        else:
            assert first == "graphc"
            result = CliRunner().invoke(main, args)
            assert result.exit_code == 0, result.output
    said, wanted = ([line.split() for line in text.splitlines() if line.strip(" ─")] for text in (result.output, table))
    for ours, theirs in zip(said, wanted, strict=True):
        assert len(ours) == len(theirs), (ours, theirs)
        for a, b in zip(ours, theirs):
            if re.fullmatch(r"[\d.,]+", b):
                assert float(a.replace(",", "")) == pytest.approx(float(b.replace(",", "")), rel=0.03)
            else:
                assert a == b


def test_the_snippets_run(folder: Path):
    space: dict = {}
    for code in re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S):
        exec(code, space)
    assert f"before and after: {space['small'].report.bytes}" in TEXT and (folder / "digits_small.onnx").exists()


def test_every_option_is_told():
    options = {name for p in main.commands["shrink"].params for name in p.opts if name.startswith("--")}
    others = {
        "--param",
        "--net",
        "--no-preprocess",
        "--threads",
        "--json",
        "--import",
    }  # as of other commands
    told = TEXT + (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")  # how pictures become samples
    assert [name for name in sorted(options - others) if f"`{name}" not in told and f" {name}" not in told] == []


def test_the_page_has_the_rows_of_the_example():
    methods = runpy.run_path(str(DIGITS / "smaller.py"))["METHODS"]
    assert [options_of(row[0]) for row in re.findall(ROW, TEXT, re.M)[1:]] == [
        {**options, "keep": [*options.get("keep", ())]} for options in methods.values()
    ]


def options_of(cell: str) -> dict:
    """'`--sparse 0.3`, ends kept' -> the arguments of `graphc.shrink`."""
    words = iter(cell.split("`")[1].split())
    found: dict = {"keep": ENDS if "ends kept" in cell else []}
    for name, value in zip(words, words):
        text = name in ("--block", "--signs")
        found[name[2:].replace("-", "_")] = value if text else int(value) if name == "--codebook" else float(value)
    return found


@pytest.mark.sample(3)
@pytest.mark.parametrize("row", re.findall(ROW, TEXT, re.M)[1:], ids=lambda row: row[0])
def test_the_table_of_the_digits(row: tuple[str, ...]):
    """An image more or less is what rounding changes."""
    with np.load(DIGITS / "digits.npz") as file:
        images, truth = file["test_x"][:, None].astype(np.float32), file["test_y"]
    made = graphc.shrink(DIGITS / "digits.yaml", threads=1, **options_of(row[0]))
    found = graphc.compile(made.graph, threads=1).run({"image": images})["probabilities"]
    size, coded = (int(n.replace(",", "")) for n in row[1:3])
    assert made.report.bytes[1] == size and (made.report.coded or size) == pytest.approx(coded, rel=0.01)
    assert 100 * np.mean(found.argmax(1) == truth) == pytest.approx(float(row[3]), abs=0.41)


def test_the_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["smaller.py", "--rounds", "2"])
    runpy.run_path(str(DIGITS / "smaller.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()[1:]
    rows = [re.fullmatch(r"(.+?) +([\d,]+) +([\d,]+) +([\d.]+) % +\d+ µs", line) for line in lines]
    assert len(rows) == 11 and all(rows), lines
    assert rows[0].groups() == ("as it is", "161,596", "161,596", "99.6")
    sizes = [tuple(int(n.replace(",", "")) for n in row.groups()[1:3]) for row in rows]
    assert all(coded <= size <= 161_596 for size, coded in sizes) and max(coded for _, coded in sizes[1:]) < 161_596
