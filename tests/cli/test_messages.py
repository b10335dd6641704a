"""What commands say of things that are easily given wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from graphc.cli import main
from graphc.errors import InputError
from graphc.pictures import SUFFIXES, decode
from graphc.remedies import remedy
from graphc.types import TensorType

ROOT = Path(__file__).resolve().parents[2]
ROWS = "graphc: 1\ninputs: {x: [rows, 2]}\nnet: [{mean: {axis: 1, keepdims: true}}]\noutputs: {y: last}\n"
PICTURES = ROWS.replace("x: [rows, 2]", "image: [rows, 3, 4, 4]")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rows.yaml").write_text(ROWS)
    (tmp_path / "pictures.yaml").write_text(PICTURES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*args: str, code: int = 4, stdin: bytes | None = None) -> str:
    """What a command prints on stdout and stderr."""
    result = CliRunner().invoke(main, args, input=stdin)
    assert result.exit_code == code, result.output
    return result.output


def run(*args: str, code: int = 4, stdin: bytes | None = None) -> str:
    return said("run", *args, "--target", "reference", code=code, stdin=stdin)


def test_text_on_stdin_that_is_nothing():
    assert "stdin is no picture, sound, array, or table with rows" in run("pictures.yaml", "-", stdin=b"hello\n")


def test_files_are_counted_and_not_rows():
    Path("rows.csv").write_text("1,2\n3,4\n5,6\n")
    Path("bad.csv").write_text("1,2\n3,word\n")
    assert run("rows.yaml", "rows.csv", "bad.csv", "gone").endswith("graphc: 2 of 3 failed\n")
    assert "graphc: no file or folder 'gone'" in run("rows.yaml", "gone")


def test_rows_of_a_table_have_numbers():
    Path("one.csv").write_text("1,2\n")
    assert run("rows.yaml", "one.csv", code=0).startswith("one.csv[0]  1.5")


@pytest.mark.parametrize("text", ["a;b\n5,1;3,5\n", "1;2\n5,1;3\n", "5,1;3,5\n4,9;3,0\n"])
def test_decimal_commas(text: str):
    Path("rows.csv").write_text(text)
    assert "write numbers with a point, as 5.1" in run("rows.yaml", "rows.csv")


def test_labels_that_are_no_text():
    Path("a.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    assert "'a.png' is no text, and so no names of classes\n  one a line" in run("rows.yaml", "--labels", "a.png")


def test_kinds_of_pictures_are_those_of_the_page():
    page = (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")
    row = re.search(r"^\| `cat\.jpg`, (.*?) \|", page, re.M)
    assert row and {*re.findall(r"`(\.\w+)`", row[1])} <= {*SUFFIXES}
    with pytest.raises(InputError) as caught:
        decode(b"no picture")
    assert all(suffix in str(caught.value) for suffix in SUFFIXES)


def test_an_example_where_a_file_lies():
    Path("digits").write_text("mine")
    assert "'digits' is there, and is no folder\n  name one: graphc init digits FOLDER" in said("init", "digits")


def test_an_example_is_no_network_of_the_zoo():
    assert "it is an example: `graphc init digits` copies it" in said("run", "zoo:digits", code=4)


def test_a_number_for_a_picture():
    text = run("pictures.yaml", "--input", "image=5")
    assert "input 'image' is [rows, 3, 4, 4], and '5' is a number\n  give an array: image=FILE.npy, or one of" in text


def test_dims_that_differ():
    want = TensorType("float32", (1, 3, 5, 5))
    assert remedy((1, 3, 4, 5), want).startswith("dim 2 differs;")
    assert remedy((1, 3, 4, 4), want).startswith("dims 2, 3 differ;")


@pytest.mark.parametrize("args", [["nosuch.py"], ["-m", "nosuch"], ["-m", "nosuch.inner"]], ids=" ".join)
def test_a_program_that_is_not_there(args: list[str]):
    done = subprocess.run([sys.executable, "-m", "graphc.onnxruntime", *args], capture_output=True, text=True)
    kind = "module" if "-m" in args else "file"
    assert (done.returncode, done.stderr) == (2, f"python -m graphc.onnxruntime: no {kind} '{args[-1]}'\n")


def test_warnings_have_no_line_of_source(folder: Path):
    command = [sys.executable, "-m", "graphc", "run", "rows.yaml"]
    environment = {**os.environ, "GRAPHC_CACHE_DIR": "/proc/nope"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    lines = [line for line in done.stderr.splitlines() if line]
    assert done.returncode == 0 and lines and all(line.startswith("warning: ") for line in lines), done.stderr
