"""The JSON Schema: every page of the zoo fits it, and what a person writes by mistake does not."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from graphc.cli import main
from graphc.frontends.yaml_load import loads_yaml
from graphc.frontends.yaml_registry import layers
from graphc.frontends.yaml_schema import known_by, schema
from graphc.frontends.yaml_syntax import parse, read_file
from graphc.op import named_ops

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(ROOT.glob("examples/*/*.yaml"))
MODEL = """\
graphc: 1
params: {classes: 10, act: relu}
inputs: {x: [batch, 3, 8, 8]}
defaults: {groupnorm: {groups: 4}}
blocks:
  cbr: {doc: convolution and friends, args: {c: required, k: 3, act: relu}, body: [{conv: {out: $c, k: $k}}, groupnorm, $act]}
  tail: {body: [flatten, {dense: $classes}]}
net:
  - cbr: 8
  - cbr: {c: 2*4, k: [1, 3], as: seen}
  - $act: {from: seen}
  - {repeat: {n: 2, of: {conv: {k: 1}}, out: 8}}
  - branch: {join: add, paths: {a: [{conv: {out: 8, k: 1}}], b: []}}
  - {Softmax: {axis: -1}}
  - let: {y: "max(last, 0.5)"}
  - {if: $classes > 3, then: [relu], else: [tanh]}
  - tail
outputs: {y: last}
"""


@lru_cache
def every() -> Draft202012Validator:
    return Draft202012Validator(schema())


@pytest.fixture
def own(tmp_path: Path) -> Draft202012Validator:
    (tmp_path / "m.yaml").write_text(MODEL)
    return Draft202012Validator(schema(known_by(tmp_path / "m.yaml")))


def fits(validator: Draft202012Validator, text: str) -> bool:
    return validator.is_valid(parse(text).plain())


@pytest.mark.parametrize("page", PAGES, ids=[p.stem for p in PAGES])
def test_pages_fit_the_schema_of_every_model_and_their_own(page: Path):
    data = read_file(page).plain()
    assert not [*every().iter_errors(data)]
    assert Draft202012Validator(schema(known_by(page))).is_valid(data)


@pytest.mark.slow
def test_both_are_schemas(own: Draft202012Validator):
    for validator in (every(), own):
        Draft202012Validator.check_schema(validator.schema)


def test_the_model_itself_fits(own: Draft202012Validator):
    loads_yaml(MODEL)
    assert fits(own, MODEL) and fits(every(), MODEL)


WRONG = {
    # what is replaced by what; whether the schema of every model, which knows no blocks, tells of it too
    ("  - cbr: 8", "  - cbrr: 8"): False,
    ("  - tail\n", "  - tial\n"): False,
    ("  - tail\n", "  - {tail: {c: 3}}\n"): False,
    ("k: [1, 3], as: seen", "kk: 3, as: seen"): False,
    ("  - cbr: 8", "  - cbr: {k: 3}"): False,
    ("  - cbr: 8", "  - cbr"): False,
    ("  - cbr: 8", "  - conv"): False,
    ("  - cbr: 8", "  - conv: {k: 3}"): False,
    ("[flatten, {dense", "[flaten, {dense"): False,
    ("[flatten, {dense", "[{flaten: 1}, {dense"): False,
    ("then: [relu]", "then: [rleu]"): False,
    ("a: [{conv: {out: 8, k: 1}}]", "a: [{cnov: {out: 8, k: 1}}]"): False,
    ("of: {conv: {k: 1}}", "of: {cnov: {k: 1}}"): False,
    ("defaults: {groupnorm", "defaults: {groupnrm"): False,
    ("a: [{conv: {out: 8, k: 1}}]", "a: [{conv: {outt: 8, k: 1}}]"): True,
    ("{out: $c, k: $k}", "{out: $c, k: three}"): True,
    ("{out: $c, k: $k}", "{out: $c, k: 1.5}"): True,
    ("{out: $c, k: $k}", "{out: $c, pad: sames}"): True,
    ("{out: $c, k: $k}", "{out: $c, bias: zeros}"): True,
    ("{Softmax: {axis: -1}}", "{Softmax: {axes: -1}}"): True,
    ("{Softmax: {axis: -1}}", "{Softmax: {axis: last}}"): True,
    ("join: add", "join: plus"): True,
    ("join: add", "joins: add"): True,
    ("{groups: 4}", "{group: 4}"): True,
    ("body: [flatten", "boddy: [flatten"): True,
    ("graphc: 1", "graphc: 2"): True,
    ("outputs: {y: last}", "output: {y: last}"): True,
    ("x: [batch, 3, 8, 8]", "x: {shape: [batch, 3, 8, 8], dtype: float}"): True,
    ("x: [batch, 3, 8, 8]", "x: {shap: [batch, 3, 8, 8]}"): True,
    ("outputs: {y: last}", "weights: {sede: 1}"): True,
}  # fmt: skip


@pytest.mark.parametrize("change", WRONG, ids=[b for _, b in WRONG])
def test_what_is_wrong_does_not_fit(change: tuple[str, str], own: Draft202012Validator):
    assert change[0] in MODEL
    text = MODEL.replace(*change)
    assert not fits(own, text)
    assert fits(every(), text) != WRONG[change]


def test_blocks_and_operators_tell_what_editors_show(own: Draft202012Validator):
    step: dict[str, Any] = own.schema["$defs"]["step"]["anyOf"][-1]["properties"]
    assert step.keys() >= {*layers(), *named_ops(), "cbr", "tail"}
    assert step["cbr"]["description"] == "convolution and friends"
    full = step["cbr"]["anyOf"][0]
    assert full["required"] == ["c"] and full["properties"]["k"] == {"default": 3}
    assert {*step["Conv"]["properties"]} == {*named_ops()["Conv"].attrs, "inputs"}
    assert own.schema["$defs"]["whole"]["anyOf"][1]["examples"] == ["$classes", "$act"]


def test_the_command_writes_it(tmp_path: Path):
    path, out = tmp_path / "m.yaml", tmp_path / "s.json"
    path.write_text(MODEL)
    run = CliRunner().invoke
    assert json.loads(run(main, ["schema"]).output) == schema()
    assert json.loads(run(main, ["schema", str(path)]).output) == schema(known_by(path))
    assert run(main, ["schema", str(path), "-o", str(out)]).output == f"wrote {out}\n"
    assert json.loads(out.read_text()) == schema(known_by(path))
    path.write_text(MODEL.replace("body: [flatten", "boddy: [flatten"))  # a block that can't be read is not known
    assert "tail" not in json.loads(run(main, ["schema", str(path)]).output)["$defs"]["step"]["anyOf"][-1]["properties"]
    refused = run(main, ["schema", str(path), "-o", str(path)])
    assert refused.exit_code == 2 and "suffix" in refused.output
    (tmp_path / "m.onnx").touch()
    assert "is no YAML model" in run(main, ["schema", str(tmp_path / "m.onnx")]).output
    path.write_text("net: [")
    assert "is not valid YAML" in run(main, ["schema", str(path)]).output
