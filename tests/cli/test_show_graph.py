"""graphc show --graph."""

from __future__ import annotations

import struct
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner
from zoo import EXAMPLES

from graphc.cli import app

LENET = EXAMPLES / "lenet5.yaml"


def invoke(*args: object, code: int = 0):
    result = CliRunner().invoke(app.main, ["show", *map(str, args)])
    assert result.exit_code == code, result.output
    return result


def texts(path: Path) -> list[str | None]:
    return [text.text for text in ET.parse(path).getroot().iter("{http://www.w3.org/2000/svg}text")]


def test_it_draws_instead_of_printing(tmp_path: Path):
    out = tmp_path / "lenet5.svg"
    assert invoke(LENET, "--graph", out).output == f"wrote {out}, 10 boxes\n"
    assert {"Conv", "5×5, 6", "Tanh", "AveragePool", "400 → 120", "batch×6×28×28"} <= set(texts(out))


def test_sizes_of_inputs(tmp_path: Path):
    out = tmp_path / "net.svg"
    invoke(LENET, "--graph", out, "--batch", 7)
    assert "7×6×28×28" in texts(out)
    invoke(EXAMPLES / "char_rnn.yaml", "--graph", out, "--shape", "characters=2,9")
    assert any(text.startswith("2×9×") for text in texts(out) if text)


def test_folds(tmp_path: Path):
    out = tmp_path / "net.svg"
    invoke(LENET, "--graph", out, "--fold", "none")
    assert texts(out).count("Tanh") == 4
    invoke(EXAMPLES / "squeezenet.yaml", "--graph", out, "--fold", "all")
    assert "fire" in texts(out) and "Concat" not in texts(out)


def test_kernels_are_frames(tmp_path: Path):
    out = tmp_path / "net.svg"
    invoke(LENET, "--graph", out, "--fused")
    found = [text for text in texts(out) if text is not None]
    assert any(text.endswith("direct") for text in found) and {"Conv", "Tanh", "Gemm"} <= set(found)


def test_kernels_of_control_flow(tmp_path: Path):
    out = tmp_path / "net.svg"
    invoke(EXAMPLES / "art1.yaml", "--graph", out, "--fused", "--shape", "pattern=6", "--shape", "prototypes=4,6")
    found = texts(out)
    assert "Loop" in found and "ScatterElements" in found and "4×6" in found


def test_png(tmp_path: Path):
    out = tmp_path / "net.png"
    invoke(LENET, "--graph", out)
    data = out.read_bytes()
    assert data.startswith(b"\x89PNG")
    wide, high = struct.unpack(">II", data[16:24])
    assert 500 < wide < high < 3000


@pytest.mark.parametrize(
    "options, said",
    [
        (["--graph", "net.pdf"], "known: .svg, .png"),
        (["--fold", "all"], "--graph"),
        (["--fused"], "--graph"),
        (["--graph", "net.svg", "--fused", "--fold", "none"], "leave --fold away"),
    ],
)
def test_mistakes(options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert said in invoke(LENET, *options, code=2).output


@pytest.mark.parametrize("package, suffix", [("pygraphviz", "svg"), ("resvg_py", "png")])
def test_what_to_install(package: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, package, None)
    result = invoke(LENET, "--graph", tmp_path / f"net.{suffix}", code=5)
    assert "pip install 'graphc[draw]'" in result.output and not any(tmp_path.iterdir())
