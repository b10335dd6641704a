"""Names of classes: from the file to the compiled model, the command line, ONNX and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import graphc
from graphc.cli import main
from graphc.errors import GraphcError, LoadError
from graphc.frontends.onnx_export import to_onnx
from graphc.frontends.onnx_labels import KEY
from graphc.frontends.onnx_load import load_onnx
from graphc.frontends.yaml_load import load_yaml, loads_yaml

TEXT = (
    "graphc: 1\nparams: {kinds: [one, two]}\ninputs: {x: [n, 3]}\nnet: [{neg: {as: y}}]\noutputs: {y: y}\nlabels: %s\n"
)
PAIR = "graphc: 1\nparams: {kinds: [one, two]}\ninputs: {x: [n, 3]}\nnet: [{neg: {as: y}}, {dense: 2}]\noutputs: {y: y, two: last}\nlabels: %s\n"
X = np.array([[-3, -1, -2], [0, 0.5, -0.25]], np.float32)


def compiled(path: Path, text: str) -> graphc.Model:
    path.write_text(text)
    return graphc.compile(path)


@pytest.mark.parametrize(
    "said", ["[zero, one, 2]", "{y: [zero, one, 2]}", "{file: names.txt}", "{y: {file: names.txt}}"]
)
def test_ways_to_say_them(tmp_path: Path, said: str):
    (tmp_path / "names.txt").write_text("zero\none\n2\n")
    text = (TEXT % said).replace("params: {kinds: [one, two]}\n", "")
    for _ in range(2):  # made, and found on disk
        model = compiled(tmp_path / "m.yaml", text)
        assert model.labels == {"y": ("zero", "one", "2")}
    graph = load_yaml(tmp_path / "m.yaml")
    assert graph.meta["labels"] == model.labels and graph.meta["warnings"] == ()


def test_a_list_that_is_a_param_and_several_outputs():
    graph = loads_yaml(PAIR % "{two: $kinds, y: [a, a, b]}")
    assert graph.meta["labels"] == {"two": ("one", "two"), "y": ("a", "a", "b")}
    assert graph.meta["warnings"] == ()
    assert graphc.compile(graph).labels == graph.meta["labels"]
    assert graphc.compile(loads_yaml(PAIR.replace("labels: %s\n", ""))).labels == {}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_editors_end_them(tmp_path: Path, end: str):
    """Empty lines at the end are none, and characters within a line end none."""
    names = ("a", "b\x0cc", "d\u2028e\x85")
    (tmp_path / "names.txt").write_bytes(end.join([*names, "", ""]).encode())
    assert compiled(tmp_path / "m.yaml", TEXT % "{file: names.txt}").labels == {"y": names}


def test_labels_of_a_file_that_changes(tmp_path: Path):
    for names in (("a", "b", "c"), ("c", "b", "a")):
        (tmp_path / "names.txt").write_text("\r\n".join(names))
        assert compiled(tmp_path / "m.yaml", TEXT % "{file: names.txt}").labels == {"y": names}
    assert [p.name for p in compiled(tmp_path / "m.yaml", TEXT % "{file: names.txt}").files] == ["m.yaml", "names.txt"]


def test_an_output_that_is_called_file():
    text = (TEXT % "{file: [a, b, c]}").replace("outputs: {y: y}", "outputs: {file: y}")
    assert loads_yaml(text).meta["labels"] == {"file": ("a", "b", "c")}


def test_each_net_has_its_own():
    text = """graphc: 1
nets:
  a: {inputs: {x: [n, 2]}, net: [relu], labels: [p, q]}
  b: {inputs: {x: [n, 2]}, net: [a]}
"""
    assert loads_yaml(text).meta["labels"] == {"output": ("p", "q")}
    assert loads_yaml(text, net="b").meta["labels"] == {}


@pytest.mark.parametrize(
    "text, message",
    [
        (TEXT % "[a, b]", "line 6, column 9: 2 labels for output 'y', whose last axis has 3 entries: float32[n, 3]"),
        (TEXT % "{file: names.txt}", "1 label for output 'y', whose last axis has 3 entries"),
        (TEXT % "{z: [a, b, c]}", "line 6, column 10: there is no output 'z'"),
        (PAIR % "[a, b]", "line 6, column 9: of which output? There are y, two"),
        (PAIR % "{y: [a, b, c], tow: [a, b]}", "there is no output 'tow'\n  did you mean 'two'?"),
        (TEXT % "[a, [b], c]", "line 6, column 13: a label must be text, not a list"),
        (TEXT % "[a, true, c]", "a label must be text, not a boolean\n  write it in quotes"),
        (TEXT % "a", "labels must be a list, not text"),
        (TEXT % "{file: none.txt}", "'none.txt' does not exist"),
        (TEXT % "{file: ../names.txt}", "'../names.txt' lies outside the model's folder\n  labels are read only from"),
        (TEXT % "{file: names.csv}", "'names.csv' is no .txt file\n  write one label a line, as plain text"),
        (TEXT % "{file: bytes.txt}", "'bytes.txt' is not text: byte 0 is not UTF-8"),
        ((TEXT % "[a, b, c]").replace("[n, 3]", "[3, n]"), "output 'y' has labels, but is float32[3, n]"),
        ((TEXT % "[a, b, c]").replace("{neg: {as: y}}", "{max: {axis: [0, 1], as: y}}"), "output 'y' has labels, but is float32[]"),
        (TEXT % "$knds", "unknown variable '$knds'"),
    ],
)  # fmt: skip
def test_one_problem(tmp_path: Path, text: str, message: str):
    (tmp_path / "names.txt").write_text("a\n")
    (tmp_path / "names.csv").write_text("a\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xff")
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(GraphcError) as caught:
        load_yaml(tmp_path / "m.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize("labels", ["[a, b]", "{y: [a, b]}", "{y: [a, b], two: [c]}"])
def test_what_follows_from_other_problems_is_not_said(labels: str):
    """Of labels only what is wrong with them whatever the outputs are."""
    for broken in (("neg:", "nge:"), ("y: y", "y: yy"), ("outputs: {y: y}", "outputs: 3")):
        with pytest.raises(GraphcError) as caught:
            loads_yaml((TEXT % labels).replace(*broken), file="m.yaml")
        other = "two" in labels and broken[1] != "outputs: 3"
        assert str(caught.value).count("m.yaml:") == 1 + other, str(caught.value)


def test_run_names_the_best(tmp_path: Path):
    (tmp_path / "m.yaml").write_text(TEXT % "[zero, one, two]")
    np.save(tmp_path / "x.npy", X)
    done = CliRunner().invoke(main, ["run", str(tmp_path / "m.yaml"), "--input", str(tmp_path / "x.npy")])
    assert done.exit_code == 0
    assert "y[0] top 3: zero (3), two (2), one (1)\n" in done.output
    assert "y[1] top 3: two (0.25), zero (-0), one (-0.5)\n" in done.output
    np.save(tmp_path / "x.npy", np.zeros((9, 3), np.float32))
    done = CliRunner().invoke(main, ["run", str(tmp_path / "m.yaml"), "--input", str(tmp_path / "x.npy")])
    assert done.output.count("top 3") == 4, "of few rows"


def test_run_names_the_best_of_any_rank(tmp_path: Path):
    names = [f"c{i}" for i in range(7)]
    for shape, lines in (("[7]", ["y top 5: c0"]), ("[1, 2, 7]", ["y[0, 0] top 5: c0", "y[0, 1] top 5: c0"])):
        text = f"graphc: 1\ninputs: {{x: {shape}}}\nnet: [relu]\noutputs: {{y: last}}\nlabels: [{', '.join(names)}]\n"
        (tmp_path / "m.yaml").write_text(text)
        done = CliRunner().invoke(main, ["run", str(tmp_path / "m.yaml"), "--input", "ones"], catch_exceptions=False)
        assert all(line in done.output for line in lines), done.output


def test_they_travel_by_onnx(tmp_path: Path):
    (tmp_path / "m.yaml").write_text(TEXT % "[zero, eins, zwö]")
    out = tmp_path / "m.onnx"
    done = CliRunner().invoke(main, ["export", str(tmp_path / "m.yaml"), str(out)], catch_exceptions=False)
    assert done.exit_code == 0
    (entry,) = onnx.load(out).metadata_props
    assert entry.key == KEY and json.loads(entry.value) == {"y": ["zero", "eins", "zwö"]}
    for _ in range(2):
        assert graphc.compile(out).labels == {"y": ("zero", "eins", "zwö")}


@pytest.mark.parametrize(
    "text, message",
    [
        ("[1]", r"metadata 'graphc.labels': is not \{output: \[name, …\]\}: \[1\]"),
        ("{", "is not"),
        ('{"z": ["a", "b", "c"]}', "knows no output 'z'"),
        ('{"y": ["a"]}', r"has 1 names of output 'y', which is float32\[n, 3\]"),
    ],
)
def test_wrong_ones_in_onnx(text: str, message: str):
    model = to_onnx(loads_yaml(TEXT % "[a, b, c]"))
    model.metadata_props[0].value = text
    with pytest.raises((LoadError, GraphcError), match=message):
        load_onnx(model)
