"""graphc build: what the command writes, and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from scripts import ROOT

import graphc
from graphc.backends.cpu.hardware import cpu_flags
from graphc.cli import main

DIGITS = str(ROOT / "examples/digits/digits.onnx")
pytestmark = pytest.mark.skipif("avx2" not in cpu_flags(), reason="no AVX2")


def build(*args: object) -> Result:
    return CliRunner().invoke(main, ["build", *map(str, args)])


def test_a_file_and_its_run(tmp_path: Path):
    out = tmp_path / "d.gcm"
    said = build(DIGITS, "-o", out, "--target", "cpu:avx2", "--shapes", "image=2..4,1,8,8", "--shapes", "batch=1")
    assert said.exit_code == 0, said.output
    assert f"wrote {out}, " in said.stdout and "for cpu:avx2 (2 plans)" in said.stdout
    assert graphc.load(out)(np.zeros((4, 1, 8, 8), np.float32)).shape == (4, 10)
    ran = CliRunner().invoke(main, ["run", str(out), "--batch", "1"])
    assert ran.exit_code == 0 and "probabilities" in ran.stdout


def test_a_library(tmp_path: Path):
    said = build(DIGITS, "--c", "-o", tmp_path / "libd.so", "--target", "cpu:avx2", "--shapes", "batch=1", "--json")
    record = json.loads(said.stdout)
    assert record["header"] == str(tmp_path / "d.h") and record["bytes"] == (tmp_path / "libd.so").stat().st_size
    assert "int d_run(const float image[64], float probabilities[10]);" in (tmp_path / "d.h").read_text()


@pytest.mark.parametrize(
    "args, code, why",
    [
        (("-o", "m.so"), 2, "--c writes a .so"),
        (("-o", "m.gcm", "--c"), 2, "--c writes a .so"),
        (("-o", "m.gcm", "--target", "cpu,cpu:sse"), 2, "'cpu:sse' is not one of cpu"),
        (("-o", "m.gcm", "--shapes", "image=1..x,2"), 2, "'image=1..x,2' is no shape of an input"),
        (("-o", "m.gcm", "--shapes", "image=4..2,1,8,8"), 2, "'image=4..2,1,8,8' is no shape"),
        (("-o", "m.gcm", "--shapes", "batch=1 batch=2"), 2, "'batch=2' is no shape"),
    ],
)
def test_mistakes(args: tuple[str, ...], code: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    said = build(DIGITS, *args)
    assert said.exit_code == code
    assert why in " ".join(said.stderr.split())
    assert not any(tmp_path.iterdir())
