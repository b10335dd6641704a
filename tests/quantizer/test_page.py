"""docs/quantize.md: its commands and snippets run, and say what it says."""

from __future__ import annotations

import re
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
TEXT = (ROOT / "docs" / "quantize.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which the examples are."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def numbers(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", text)]


def test_the_commands_say_what_the_page_says(folder: Path):
    """Names and words as they stand; errors in dB, whose last digits hang on the machine's float32, to some tenths."""
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
            both = numbers(a), numbers(b)
            if both[1]:
                np.testing.assert_allclose(*both, rtol=0.02, atol=1.1)
            else:
                assert a == b
    assert (folder / "digits.svg").exists() and (folder / "digits_int8.onnx").exists()


def test_the_snippets_run(folder: Path):
    space: dict = {}
    for code in re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S):
        exec(code, space)
    assert f"relative: {space['quantized'].report.error:.4f}" in TEXT and (folder / "digits_int8.onnx").exists()


def test_every_option_is_told():
    options = {name for p in main.commands["quantize"].params for name in p.opts if name.startswith("--")}
    others = {
        "--import",
        "--param",
        "--net",
        "--no-preprocess",
        "--threads",
        "--json",
        "--percentile",
    }  # as of other commands, or in a table
    told = TEXT + (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")  # how pictures become samples
    assert [name for name in sorted(options - others) if f"`{name}" not in told and f" {name}" not in told] == []


@pytest.mark.parametrize(
    "row", re.findall(r"^\| (\(none\)|`--[^|]*`) \| (0\.\d+) \| ([\d.]+) % \| ([\d,]+) \|$", TEXT, re.M)
)
def test_the_table_of_the_digits(row: tuple[str, ...]):
    words = row[0].strip("`").split() if row[0] != "(none)" else []
    options: dict = {}
    for word in words:
        if word == "--per-tensor":
            options["per_channel"] = False
        elif word in ("--symmetric", "--reduce-range"):
            options[word[2:].replace("-", "_")] = True
        elif word.startswith("--"):
            key = word[2:]
        else:
            options[key] = word
    with np.load(ROOT / "examples/digits/digits.npz") as file:
        samples, images, truth = file["train_x"][:256, None], file["test_x"][:, None].astype(np.float32), file["test_y"]
    made = graphc.quantize(ROOT / "examples/digits/digits.yaml", samples, threads=1, **options)
    models = (ROOT / "examples/digits/digits.yaml", made.graph)
    expected, found = (graphc.compile(m, threads=1).run({"image": images})["probabilities"] for m in models)
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) == pytest.approx(float(row[1]), rel=0.1)
    assert 100 * np.mean(found.argmax(1) == truth) == pytest.approx(float(row[2]))
    assert made.report.bytes[1] == int(row[3].replace(",", ""))
