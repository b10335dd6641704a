"""Params of a YAML file from outside: graphc.compile(params=…), --param."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import graphc
from graphc.cli import main
from graphc.errors import GraphcError, InputError

TEXT = """graphc: 1
params: {classes: 3, scale: 2.0, act: relu, wide: false}
inputs: {x: [n, 4]}
net:
  - dense: {out: $classes, weights: {weight: 1, bias: 0}}
  - $act
  - scale: $scale
  - if: $wide
    then: [{concat: {from: [last, last]}}]
"""
X = np.ones((1, 4), np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "m.yaml"
    file.write_text(TEXT)
    return file


def test_each_has_plans_of_its_own(path: Path):
    for _ in range(2):  # made, and found on disk
        assert graphc.compile(path)(X).tolist() == [[8.0] * 3]
        model = graphc.compile(path, params={"classes": np.int64(5), "scale": 3})
        assert model(X).tolist() == [[12.0] * 5]
        assert graphc.compile(path, params={"act": "neg"})(X).tolist() == [[-8.0] * 3]
    assert pickle.loads(pickle.dumps(model))(X).tolist() == [[12.0] * 5]


@pytest.mark.parametrize(
    "params, message",
    [
        ({"clases": 5}, "no param 'clases'"),
        ({"classes": "five"}, "param 'classes' must be a whole number"),
        ({"classes": [1]}, r"param 'classes' must be a number, text or a boolean, not \[1\]"),
        ({1: 2}, "params must map names to values, and 1 is no name"),
        ({"classes": 2.5}, "param 'classes' must be a whole number, not 2.5"),
        ({"wide": "no"}, "param 'wide' must be a boolean, not 'no'"),
        ({"wide": 1}, "param 'wide' must be a boolean, not 1"),
        ({"act": 1}, "param 'act' must be text, not 1"),
        (["classes"], "params must map names to values"),
    ],
)
def test_what_is_wrong(path: Path, params: object, message: str):
    with pytest.raises(GraphcError, match=message):
        graphc.compile(path, params=params)


def test_only_yaml_has_them(path: Path, tmp_path: Path):
    graph = graphc.compile(path).source_graph
    with pytest.raises(InputError, match="only YAML files have params"):
        graphc.compile(graph, params={"classes": 5})
    CliRunner().invoke(main, ["export", str(path), str(tmp_path / "m.onnx")], catch_exceptions=False)
    with pytest.raises(InputError, match="only YAML files have params"):
        graphc.compile(tmp_path / "m.onnx", params={"classes": 5})


@pytest.mark.parametrize("command", ["run", "bench", "compile", "check", "compare", "explain", "show"])
def test_every_command_takes_them(path: Path, command: str):
    more = ["--rounds", "1"] if command == "bench" else []
    set_ = ["--param", "classes=7", "--param", "wide=true", "--batch", "1", *more]
    done = CliRunner().invoke(main, [command, str(path), *set_], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert command in ("bench", "compile", "compare", "explain") or "14" in done.output


def test_an_exported_file_has_them(path: Path, tmp_path: Path):
    out = tmp_path / "m.onnx"
    done = CliRunner().invoke(main, ["export", str(path), str(out), "--param", "classes=7"], catch_exceptions=False)
    assert done.exit_code == 0 and onnx.load(out).graph.output[0].type.tensor_type.shape.dim[1].dim_value == 7


@pytest.mark.parametrize(
    "given, message",
    [
        (["classes"], "'classes' sets no param"),
        (["classes=1", "classes=2"], "'classes' is given twice"),
        (["clases=1"], "no param 'clases'"),
        (["classes=many"], "param 'classes' must be a whole number"),
    ],
)
def test_wrong_ones_on_the_command_line(path: Path, given: list[str], message: str):
    done = CliRunner().invoke(main, ["check", str(path), *(w for g in given for w in ("--param", g))])
    assert done.exit_code == (3 if message.endswith(("'clases'", "number")) else 2) and message in done.output


LISTS = """\
graphc: 1
params: {kinds: [cat, dog, bird], data: {shape: [n, 3]}}
inputs: {x: $data}
net: [relu]
labels: $kinds
"""


def test_lists_and_mappings_as_text(tmp_path: Path):
    path = tmp_path / "lists.yaml"
    path.write_text(LISTS)
    model = graphc.compile(path, params={"kinds": "[yes, no]", "data": "{shape: [n, 2]}"}, target="reference")
    assert model.labels == {"output": ("yes", "no")} and model(np.zeros((1, 2), np.float32)).shape == (1, 2)


@pytest.mark.parametrize(
    "param, message",
    [
        ("kinds=yes", "param 'kinds' is a list in the file, and 'yes' is none\n  write it as in YAML: --param 'kinds=[a, b]'"),
        ("kinds=[a", "param 'kinds' is a list in the file, and '[a' is none"),
        ("data=[2]", "param 'data' is a mapping in the file, and '[2]' is none"),
        ("kinds=[a, [b], c]", "--param kinds: line 1, column 5: "),
    ],
)  # fmt: skip
def test_lists_that_are_none(tmp_path: Path, param: str, message: str):
    path = tmp_path / "lists.yaml"
    path.write_text(LISTS)
    result = CliRunner().invoke(main, ["show", str(path), "--param", param])
    assert result.exit_code == 3 and message in result.output and "^" not in result.output
