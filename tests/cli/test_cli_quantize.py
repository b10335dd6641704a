"""`graphc quantize`: what it writes and tells, and what it says to mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from PIL import Image
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
    out = tmp_path / "q.onnx"
    said = invoke("quantize", model, out, "--data", data, "--threads", 1).output
    assert "weights int8 per channel, activations uint8 by minmax: signal to noise" in said
    assert re.search(r"net\.0\.conv +Conv +0 … [\d.]+ +\d\d\.\d dB +\d\d\.\d dB +\d", said), said
    assert "alone" not in said and "4 layers quantised; weights take" in said
    error = float(re.search(r"relative error of the results over 6 samples: ([\d.e-]+)", said)[1])
    expected, found = (graphc.compile(p, threads=1)(samples()) for p in (model, out))
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) == pytest.approx(error, rel=0.01)
    onnx.checker.check_model(onnx.load(out), full_check=True)
    assert "no problems" in invoke("check", out, "--batch", 2).output


def test_the_options_are_those_of_the_function(model: Path, data: Path, tmp_path: Path):
    options = ("--method", "entropy", "--activations", "int8", "--symmetric", "--per-tensor", "--keep", "Gemm")
    invoke("quantize", model, tmp_path / "q.onnx", "--data", data, "--batch", 2, "--samples", 5, *options)
    made = graphc.quantize(
        model,
        samples(),
        method="entropy",
        activations="int8",
        symmetric=True,
        per_channel=False,
        keep=["Gemm"],
        samples=5,
        batch=2,
    )
    assert (tmp_path / "q.onnx").read_bytes() == made.to_onnx().SerializeToString()


def test_reports(model: Path, data: Path, tmp_path: Path):
    for suffix in ("svg", "json", "png"):
        args = ("--data", data, "--sensitivity", "--report", tmp_path / f"r.{suffix}", "--threads", 1)
        said = invoke("quantize", model, tmp_path / "q.onnx", *args).output
        assert f"wrote {tmp_path / f'r.{suffix}'}" in said and "alone" in said
    text = "".join(ElementTree.parse(tmp_path / "r.svg").getroot().itertext())
    assert "net.0.conv (Conv)" in text and "if it alone is quantised" in text
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((tmp_path / "r.json").read_text())
    assert [layer["op"] for layer in report["layers"]] == ["Conv", "Conv", "GlobalAveragePool", "Gemm"]
    assert all(0 < layer["alone"] < 0.1 and 0 < layer["output"] < 0.1 for layer in report["layers"])
    assert report["samples"] == 6 and 0 < report["error"] < 0.1


def test_the_largest_error(model: Path, data: Path, tmp_path: Path):
    said = invoke("quantize", model, tmp_path / "q.onnx", "--data", data, "--max-error", 0.004, "--threads", 1).output
    assert "kept by its error" in said and "kept in float; weights" in said
    assert float(re.search(r"over 6 samples: ([\d.e-]+)", said)[1]) <= 0.004


def test_reports_print_as_the_command_does(model: Path, tmp_path: Path):
    said = invoke("quantize", model, tmp_path / "q.onnx", "--weights", "int4", "--block", 16).output
    made = graphc.quantize(model, weights="int4", block=16)
    assert said.startswith(f"{made.report.text(160)}\nwrote") and str(made.report).startswith(
        "weights int4 in blocks of 16"
    )


def test_weights_of_4_bits(model: Path, tmp_path: Path):
    said = invoke("quantize", model, tmp_path / "q.onnx", "--weights", "int4", "--block", 16).output
    assert "weights int4 in blocks of 16" in said and "1 layer quantised" in said and "relative error" not in said
    assert {n.op_type for n in onnx.load(tmp_path / "q.onnx").graph.node} >= {"DequantizeLinear", "Conv", "Gemm"}


def test_folders(model: Path, tmp_path: Path):
    """Files of one sample or several, in the order of their names; others are left alone."""
    folder = tmp_path / "samples"
    folder.mkdir()
    x = samples(5)
    np.save(folder / "1.npy", x[0])
    np.save(folder / "2.npy", x[1:2])
    np.savez(folder / "3.npz", x=x[2:])
    (folder / "notes.txt").write_text("no data")
    said = invoke("quantize", model, tmp_path / "q.onnx", "--data", folder, "--threads", 1).output
    assert "over 5 samples" in said
    made = graphc.quantize(model, x, threads=1)
    assert (tmp_path / "q.onnx").read_bytes() == made.to_onnx().SerializeToString()


def test_pictures(tmp_path: Path):
    page = tmp_path / "net.yaml"
    inputs = "inputs: {image: {shape: [n, height, width, 3], dtype: uint8}}"
    steps = "preprocess: {image: [to_nchw, {cast: float32}, {resize: [8, 8]}, {scale: 1/255}]}"
    page.write_text(NET.replace("inputs: {x: [batch, 3, 8, 8]}", f"{inputs}\n{steps}"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (10 + i, 12, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    said = invoke("quantize", page, tmp_path / "q.onnx", "--data", folder, "--threads", 1).output
    assert "over 3 samples" in said


def test_what_is_there_is_replaced(model: Path, data: Path, tmp_path: Path):
    out = tmp_path / "q.onnx"
    out.write_bytes(b"old")
    invoke("quantize", model, out, "--data", data, "--threads", 1)
    assert out.read_bytes() != b"old"


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": samples()[:, :2]}, "input 'x' is [batch, 3, 8, 8], its data [6, 2, 8, 8]"),
        ({"x": samples(), "labels": np.zeros(6)}, "the model has no input 'labels'"),
        ({"x": np.full((2, 3, 8, 8), np.nan, np.float32)}, "the data of input 'x' has NaN at [0, 0, 0, 0]"),
        ({"x": samples(0)}, "there is no data to calibrate with"),
    ],
)
def test_data_that_does_not_fit(arrays: dict, said: str, model: Path, tmp_path: Path):
    np.savez(tmp_path / "bad.npz", **arrays)
    assert said in invoke("quantize", model, tmp_path / "q.onnx", "--data", tmp_path / "bad.npz", code=4).stderr
    assert not (tmp_path / "q.onnx").exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            (),
            "want data to find their ranges with\n  --data FOLDER names samples as the model will see them; --weights int4",
        ),
        (("--data", "none.npz"), "does not exist"),
        (("--data", "empty"), "holds no data"),
        (("--data", "net.yaml"), "is no .npy or .npz file"),
        (("--weights", "int2"), "'int2' is not one of 'int8', 'int4', 'uint4'"),
        (("--nbits",), "--nbits is a form of weights of 4 bits\n  --weights int4"),
        (("--weights", "int4", "--max-error", "0.1"), "can't be measured without data"),
        (("--data", "samples.npz", "--keep", "conv"), "no layer that could be quantised is named 'conv'"),
        (("--data", "samples.npz", "--percentile", "50"), "50.0 is not in the range"),
        (("--data", "samples.npz", "--max-error", "nan"), "not a number"),
        (("--data", "samples.npz", "--max-error", "1e-12"), "with any layer quantised the error is above 1e-12"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("model", "data")
def test_mistakes(args: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    code = 2 if any(word in said for word in ("is not ", "not a ")) else 4
    assert said in invoke("quantize", "net.yaml", "q.onnx", *args, code=code).stderr
    assert not (tmp_path / "q.onnx").exists()
