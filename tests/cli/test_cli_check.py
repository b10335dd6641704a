"""What graphc check and run say of inputs, results, and what runs on the host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from click.testing import CliRunner

from graphc.cli import main
from graphc.cli.answers import Classes
from graphc.cli.results import summary


def said(*args) -> list[str]:
    result = CliRunner().invoke(main, list(map(str, args)))
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    text = """<ir_version: 8, opset_import: ["" : 15, "ai.onnx.ml" : 3]>
    g (float[n, 3] x) => (seq(map(int64, float)) y, float[n, 3] p) {
      p = Softmax<axis = 1>(x)
      [ZipMap] y = ai.onnx.ml.ZipMap<classlabels_int64s = [3, 5, 7]>(p)
    }"""
    onnx.save(onnx.parser.parse_model(text), path := tmp_path / "m.onnx")
    return path


def test_check_lists_inputs_and_says_nothing_twice(maps: Path):
    assert said("check", maps)[1:] == [
        "inputs: x float32[n, 3]",
        "  n = 1 is assumed: --batch, --shape or --size say others",
        "results: y sequence(map(int64, float32[])), p float32[1, 3]",
        "on the host, in NumPy:",
        "  ai.onnx.ml::ZipMap × 1, has no CPU kernel",
    ]
    assert said("check", maps, "--size", "n=4")[2:4] == [
        "  n = 4",
        "results: y sequence(map(int64, float32[])), p float32[4, 3]",
    ]


def test_check_tells_types_that_passes_find(tmp_path: Path):
    """Reshape to a shape that the file computes: its own types leave the rank open. Names that are numbers stand in quotes."""
    text = """<ir_version: 8, opset_import: ["" : 15]>
    g (float[batch, 6] x) => (float[batch, k] result)
    <int64[1] two = {2}, int64 step = {1}, int64 first = {0}, int64 last = {2}, int64 three = {3}> {
      r = Range(first, last, step)
      shape = Shape(x)
      some = NonZero(r)
      kept = Squeeze(some)
      ends = Gather(shape, r)
      result = Reshape(x, ends)
    }"""
    model = onnx.parser.parse_model(text)
    model.graph.node[-1].output[0] = model.graph.output[0].name = "4195"
    onnx.save(model, tmp_path / "m.onnx")
    assert "results: '4195' float32[1, 6]" in said("check", tmp_path / "m.onnx")


def test_run_sums_maps_up(maps: Path, tmp_path: Path):
    np.save(tmp_path / "x.npy", np.log(np.float32([[1, 2, 5]] * 6)))
    lines = said("run", maps, "--input", tmp_path / "x.npy")
    (row,) = [line.split() for line in lines if line.startswith("y ")]
    assert " ".join(row) == "y 6 maps of 3 sequence(map(int64, float32[])) 0.125 0.333333 0.625"
    assert [line for line in lines if line.startswith(("y[", "y:"))] == [
        *(f"y[{i}] top 3: 7 (0.625), 5 (0.25), 3 (0.125)" for i in range(4)),
        "y: … and 2 more rows",
    ]


def test_long_sequences_are_cut():
    rows = summary("s", [np.zeros(i) for i in range(7)], "sequence(float64[?])")
    assert [row[0] for row in rows] == ["s[0]", "s[1]", "s[2]", "s[3]", "s: … and 3 more"]


def test_maps_of_several_sizes():
    maps = [{"a": 1.0}, {"a": 2.0, "b": 3.0}]
    assert summary("m", maps, "t")[0][:6] == ("m", "2 maps of 1 to 2", "t", "1", "2", "3")
    assert summary("m", maps[1], "t")[0][:3] == ("m", "map of 2", "t")
    assert Classes({}, []).told("y", maps) == []
