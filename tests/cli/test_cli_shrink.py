"""`graphc shrink`: what it writes and tells, and what it says to mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from test_cli import invoke

import graphc

NET = """\
graphc: 1
inputs: {x: [batch, 3, 8, 8]}
net: [{conv: {out: 8, k: 3, pad: same}}, bn, relu, {conv: {out: 8, k: 3, pad: same}}, relu, global_avgpool, flatten, {dense: 16}]
outputs: {y: last}
weights: {seed: 0}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.yaml"
    path.write_text(NET)
    return path


def samples(count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "samples.npz"
    np.savez(path, x=samples())
    return path


def test_a_file_and_a_table(model: Path, data: Path, tmp_path: Path):
    out = tmp_path / "s.onnx"
    said = invoke("shrink", model, out, "--channels", 0.25, "--codebook", 4, "--data", data, "--threads", 1).output
    assert "25 % of the output channels removed" in said and "codebooks of 16 weights" in said
    assert re.search(r"net\.0\.conv +Conv +6 of 8 channels +0\.\d+ +864 +648", said), said
    assert re.search(r"net\.7\.dense +Gemm +kept: its channels are a result of the model +512 +384", said), said
    errors = re.findall(r"relative error of the results over 6 samples: ([\d.e-]+)", said)
    expected, found = (graphc.compile(p, threads=1)(samples()) for p in (model, out))
    assert len(errors) == 2
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) == pytest.approx(float(errors[1]), rel=0.01)
    onnx.checker.check_model(onnx.load(out), full_check=True)
    assert re.search(r"all weights: [\d.]+ KiB before, \d+ B now, 0\.\d\d of it", said), said
    assert "no problems" in invoke("check", out, "--batch", 2).output


def test_the_options_are_those_of_the_function(model: Path, tmp_path: Path):
    options = ("--low-rank", 0.4, "--sparse", 0.5, "--block", "1x4", "--signs", "ternary", "--keep", "Gemm")
    said = invoke("shrink", model, tmp_path / "s.onnx", *options).output
    made = graphc.shrink(model, low_rank=0.4, sparse=0.5, block=(1, 4), signs="ternary", keep=["Gemm"])
    assert (tmp_path / "s.onnx").read_bytes() == made.to_onnx().SerializeToString()
    assert "relative error of the results" not in said and "coded" in said and "Gemm" not in said


def test_reports_print_as_the_command_does(model: Path, tmp_path: Path):
    said = invoke("shrink", model, tmp_path / "s.onnx", "--codebook", 4).output
    made = graphc.shrink(model, codebook=4)
    assert said.startswith(f"{made.report.text(160)}\nwrote") and str(made.report).startswith(
        made.report.steps[0].method
    )


def test_a_report(model: Path, data: Path, tmp_path: Path):
    args = ("--codebook", 3, "--data", data, "--samples", 4, "--batch", 2, "--report", tmp_path / "r.json")
    assert f"wrote {tmp_path / 'r.json'}" in invoke("shrink", model, tmp_path / "s.onnx", *args, "--threads", 1).output
    report = json.loads((tmp_path / "r.json").read_text())
    (step,) = report["steps"]
    assert report["samples"] == 4 and 0 < step["error"] < 1 and step["coded"] < report["before"]
    assert [layer["made"] for layer in step["layers"]] == ["8 numbers"] * 3
    assert all(0 < layer["error"] < 0.3 and layer["coded"] < layer["bytes"][0] for layer in step["layers"])


def test_what_is_there_is_replaced(model: Path, tmp_path: Path):
    out = tmp_path / "s.onnx"
    out.write_bytes(b"old")
    invoke("shrink", model, out, "--codebook", 4)
    assert out.read_bytes() != b"old"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "nothing says how the model becomes smaller\n  name a method: --channels, --low-rank"),
        (("--channels", "2"), "channels must be a number between 0 and 1, not 2.0"),
        (("--low-rank", "nan"), "low_rank must be a relative error"),
        (("--low-rank", "much"), "'much' is not a valid float"),
        (("--sparse", "0.5", "--block", "16"), "a block has rows and columns"),
        (
            ("--block", "1x16", "--codebook", "4"),
            "--block is the size of what --sparse sets to zero\n  --sparse 0.5 --block 16x1",
        ),
        (("--codebook", "9"), "codebook must be bits from 1 to 8, not 9"),
        (("--signs", "unary"), "'unary' is not one of 'binary', 'ternary'"),
        (("--signs", "binary", "--codebook", "2"), "not by both"),
        (("--codebook", "4", "--keep", "conv"), "no layer that could be made smaller is named 'conv'"),
        (("--codebook", "4", "--data", "none.npz"), "does not exist"),
        (("--codebook", "4", "--data", "net.yaml"), "is no .npy or .npz file"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("model")
def test_mistakes(args: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    code = 2 if any(word in said for word in ("is not ", "not a ")) else 4
    assert said in invoke("shrink", "net.yaml", "s.onnx", *args, code=code).stderr
    assert not (tmp_path / "s.onnx").exists()
