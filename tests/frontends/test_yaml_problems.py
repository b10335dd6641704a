"""All problems of a YAML file at once, each once and none that follows from another; and what nothing uses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from graphc import frontends
from graphc.cli import main
from graphc.errors import GraphcError
from graphc.frontends import yaml_net, yaml_weights
from graphc.frontends.yaml_load import check, loads_yaml

HEAD = "graphc: 1\ninputs: {x: [n, 3, 8, 8], i: {shape: [n], dtype: int64}}\n"
NET = """\
graphc: 1
params: {c: 4, classes: 10}
inputs:
  x: [n, 3, 8, 8]
  y: [n, 4]
defaults: {conv: {pad: same}}
blocks:
  cbr: {args: {c: required, k: 3}, body: [{conv: {out: $c, k: $k}}, bn, relu]}
  spare: {args: {c: 2}, body: [{conv: {out: $c}}, {maxpool: 2}]}
net:
  - cbr: {c: $c, from: x, as: one}
  - conv: {out: 8, s: 2, as: half}
  - relu
  - {repeat: {n: 2, of: cbr, c: 8}}
  - spare
  - {branch: {join: add, paths: {a: [{conv: {out: 2}}], b: []}, as: joined}}
  - flatten
  - dense: {out: 4, as: d}
  - {add: {from: [d, y], as: both}}
  - dense: $classes
outputs: {logits: last, half: half, both: both}
weights: {seed: 1}
"""
# what is replaced by what -> where the problem is, and what is said of it; none needs another
FAULTS = {
    ("graphc: 1\n", "graphc: 1\nnmae: x\n"): "a model has no 'nmae'",
    ("y: [n, 4]", "y: {shape: [n, 4], dtype: flaot32}"): "unknown dtype 'flaot32'",
    ("pad: same}}", "pda: same}}"): "defaults of 'conv' has no 'pda'",
    ("defaults: {conv", "defaults: {cnov: {}, conv"): "defaults for an unknown layer 'cnov'",
    ("args: {c: 2}, body", "args: {c: 2}, bdy: 1, body"): "block 'spare' has no 'bdy'",
    ("{c: required, k: 3}, body: [{conv: {out: $c, k: $k", "{c: required, k: 3}, body: [{conv: {out: $cc, k: $k"): "unknown variable '$cc'",
    ("{out: 8, s: 2,", "{out: 8, s: two,"): "'s' of 'conv' must be",
    ("  - relu\n", "  - {relu: {}, tanh: {}}\n"): "a step has one name, not 2",
    ("n: 2, of: cbr, c: 8", "n: 2, of: cbr, c: 8, kk: 9"): "'cbr' has no 'kk'",
    ("  - flatten\n", "  - flaten\n"): "unknown layer 'flaten'",
    ("{add: {from: [d, y], as: both}}", "{add: {from: [d, yy], as: both}}"): "no value is named 'yy'",
    ("  - dense: $classes", "  - dense: $classes/0"): "division by zero",
    ("half: half", "half: hafl"): "no value is named 'hafl'",
    ("{seed: 1}", "{sede: 1}"): "weights has no 'sede'",
}  # fmt: skip


def problems(text: str) -> list[GraphcError]:
    try:
        loads_yaml(text, file="m.yaml")
    except GraphcError as error:
        return list(getattr(error, "problems", [error]))
    return []


def said(text: str) -> list[str]:
    return [str(p) for p in problems(text)]


def lines(text: str) -> list[int]:
    return [int(re.search(r"line (\d+)", p.source.place)[1]) for p in problems(text)]


@pytest.mark.parametrize("fault", FAULTS, ids=list(FAULTS.values()))
def test_each_fault_by_itself_is_one_problem(fault: tuple[str, str]):
    assert not problems(NET)
    assert fault[0] in NET
    (found,) = said(NET.replace(*fault))
    assert FAULTS[fault] in found


def test_all_faults_at_once():
    text = NET
    for fault in FAULTS:
        text = text.replace(*fault)
    found = said(text)
    assert len(found) == len(FAULTS)
    for message in FAULTS.values():
        assert sum(message in f for f in found) == 1, message
    assert lines(text) == sorted(lines(text))


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from(list(FAULTS)), min_size=2, max_size=5))
def test_any_faults_are_reported_and_nothing_that_follows_from_them(faults: set[tuple[str, str]]):
    text = NET
    for fault in faults:
        text = text.replace(*fault)
    found = said(text)
    assert len(found) == len(faults)
    assert all(any(FAULTS[fault] in f for f in found) for fault in faults)


@pytest.mark.parametrize(
    ("net", "wanted"),
    [
        # wrong shapes: what reads the result is not reported, what reads something else is
        ("[{conv: {out: 4, k: 55, from: x, as: a}}, bn, {conv: {out: 8, groups: 3}}, {dense: {out: 3, from: x}}]", ["window of 55", "rank 2 or 3"]),
        # in a block that is used several times: once
        ("[{wide: {from: x}}, {wide: {from: x}}, {repeat: {n: 3, of: wide, from: x}}]", ["groups 5"]),
        ("[{repeat: {n: 3, of: [{Add: {inputs: [x, [1, true]]}}]}}]", ["booleans and numbers"]),
        # in every path of a branch, and none for the branch
        ("[{branch: {from: x, join: add, paths: {a: [{dense: 3}], b: [{conv: 3}, {lstm: 3}]}}}, {dense: 3}]", ["rank 2 or 3", "needs an input of rank 3"]),
        # names that are given by steps with a problem are known
        ("[{dense: {out: 3, from: x, as: a}}, {relu: {from: a, as: b}}, {add: {from: [a, b]}}]", ["rank 2 or 3"]),
        ("[{tanh: {from: x}, relu: {}, as: m}, {mul: {from: [m, m]}}]", ["one name"]),
        ("[{repeat: {n: $c, of: [{relu: {from: x, as: r}}]}}, {loop: {n: 2, of: [{dense: {out: 3, from: x, as: r}}]}}, {tanh: {from: r}}]", ["'$c'", "rank 2 or 3"]),
        # behind what is lost: names and arguments
        ("[{dense: {out: 3, from: x}}, {conv: {out: 3, s: $channels*2}}, {relu: {from: q}}, {conv: {out: 8, k: 3/2}}]", ["rank 2 or 3", "no value is named 'q'", "'k' of 'conv'"]),
        ("[{dense: {out: 3, from: x}}, {repeat: {n: 4, of: [{softmax: {axis: 9, from: x}}, {relu: {from: q}}]}}]", ["rank 2 or 3", "axis 9", "'q'"]),
        ("[{dense: {out: 3, from: x}}, {branch: {join: add, paths: {a: [{relu: {from: q}}], b: []}}}]", ["rank 2 or 3", "'q'"]),
        # inputs of too few axes
        ("[{ReduceSum: {inputs: x, keepdims: 0, as: r}}, {dense: {out: 3, from: r}}, {groupnorm: {groups: 1, from: r}}, {layernorm: {from: r}}, {prelu: {from: r}}]", ["rank 2 or 3", "axis 1, the number of channels", "axis -1, the number of features", "axis 1, the number of channels"]),
        # several in one step
        ("[{conv: {out: ten, k: 1.5, pad: sam, from: q}}]", ["'out' of", "'k' of", "'pad' of", "'q'"]),
        ("[{conv: {out: 4*$i, k: 9//0, pad: 1/0, from: x}}]", ["'$i'", "'9//0'", "'1/0'"]),
        ("[{Concat: {axis: a, inputs: [x, q, r]}}]", ["'axis'", "'q'", "'r'"]),
        ("[{Softmax: {axes: 1, foo: 2, inputs: [x]}}]", ["has no 'axes'", "has no 'foo'"]),
        ("[{if: $yes, then: [{relu: {from: x}}]}, {sub: {from: [x]}}]", ["'$yes'", "two operands"]),
        # in what is not expanded
        ("[{if: 1 == 2, then: [nope, {conv: {k: x}}], else: [{relu: {from: x}}]}]", ["'nope'", "needs 'out'", "'k' of"]),
        # other kinds of trouble
        ("[{branch: {joins: add}}, {repeat: {of: relu}}, {loop: {n: 3}}]", ["has no 'joins'", "needs 'n'", "needs 'of'"]),
        ("[{dense: {out: 99999999999, from: x}}, {embedding: {vocab: 5, dim: 99999999999, from: i}}]", ["rank 2 or 3", "would have shape"]),
    ],
)  # fmt: skip
def test_what_follows_is_not_reported(net: str, wanted: list[str]):
    text = HEAD + f"blocks: {{wide: {{body: [{{conv: {{out: 8, groups: 5}}}}, {{flatten: {{}}}}]}}}}\nnet: {net}\n"
    found = said(text)
    assert len(found) == len(wanted), found
    assert all(sum(w in f for f in found) >= 1 for w in wanted), found


def test_what_is_wrong_with_the_syntax_is_reported_with_the_rest():
    text = "graphc: 1\ninputs: {x: [n, 4], x: [n, 5]}\nnet:\n  - dense: {out: 3, out: 5}\n  - dense: !!int 3\n  - [a]: 1\n    flaten: 2\n  - scale: 1e999\n"
    found = said(text)
    for line, message in (
        (2, "'x' is given twice"),
        (4, "'out' is given twice"),
        (5, "tag"),
        (6, "a key must be a name"),
        (7, "unknown layer 'flaten'"),
        (8, "too large"),
    ):
        assert sum(message in f and f"line {line}," in f for f in found) == 1, (message, found)
    assert len(found) == 6
    found = said(text + "  - {{")
    assert len(found) == 6 and "is not valid YAML" in found[-1], found


def test_blocks_that_nothing_uses_are_checked():
    blocks = (
        "blocks:\n  a: {body: [{relu: {alpha: 3}}]}\n  b: {body: [{c: {}}, {Softmax: {axis: x}}, {loop: {n: 2}}]}\n"
    )
    found = said(HEAD + blocks + "net: [{relu: {from: x}}]")
    assert len(found) == 4 and all(f"line {k}" in f for k, f in zip((4, 5, 5, 5), found))


def test_endless_nets_end(monkeypatch: pytest.MonkeyPatch):
    """Both would take for ever to look through."""
    monkeypatch.setattr(yaml_net, "MAX_STEPS", 500)
    body = "blocks: {f: {args: {n: 0}, body: [{f: $n + 1}, {f: $n + 1}]}}\n"
    found = said(HEAD + body + "net: [{f: {from: x}}, {dense: {from: x, out: 2}}]")
    assert len(found) == 1 and "nested deeper" in found[0]
    found = said(HEAD + "net: [{dense: {from: x, out: 2}}, {repeat: {n: 49999, of: [identity, identity], from: x}}]")
    assert len(found) == 2 and "more than 500 steps" in found[1]


def test_too_many_random_weights_are_told_of_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(yaml_weights, "MAX_ELEMENTS", 5000)
    each = "{embedding: {vocab: 90, dim: 30, from: i}}"
    found = said(HEAD + f"net: [{', '.join([each] * 5)}]")
    assert len(found) == 1 and "more than 5000 random weights" in found[0]


def test_left_over_weights_are_told_of_complete_nets_only(tmp_path: Path):
    arrays = {"net.0.dense.weight": np.ones((3, 4), np.float32), "net.0.dense.bais": np.ones(3, np.float32)}
    np.savez(tmp_path / "w.npz", **arrays)
    path = tmp_path / "m.yaml"
    text = "graphc: 1\ninputs: {x: [n, 4]}\nnet: [{dense: 3}, {dense: %s}]\nweights: {file: w.npz}\n"
    path.write_text(text % "2")
    assert [k for p in check(path) for k in ("missing", "no layer asks") if k in str(p)] == ["missing"] * 3 + ["no layer asks"]  # fmt: skip
    path.write_text(text % "two")
    assert ["must be a whole number" in str(p) or "'net.0.dense.bias' [3] is missing" in str(p) for p in check(path)] == [True, True]  # fmt: skip


_WORDS = ["", "-1", "relu", "$c", "$zz", "[", "{", "0", "n", "null", "1.5", "x", "as", "from", "last", "conv"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_mutilated_file_has_problems_with_places(data):
    """Lose or swap words: every problem is ours, has a place, and is told once."""
    words = re.split(r"(\W)", NET)
    for _ in range(data.draw(st.integers(1, 5))):
        words[data.draw(st.integers(0, len(words) - 1))] = data.draw(st.sampled_from(_WORDS))
    found = problems("".join(words))
    assert all(p.source.file == "m.yaml" for p in found)
    assert len({(p.source.place, p.message) for p in found}) == len(found)


# --- warnings ---------------------------------------------------------------------------------------------------------
def warnings(text: str) -> list[str]:
    return [str(w) for w in loads_yaml(text, file="m.yaml").meta["warnings"]]


def test_a_tidy_file_has_no_warnings():
    assert warnings(NET) == []


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (("params: {c: 4", "params: {d: 1, c: 4"), ["line 2, column 10: nothing uses the param 'd'"]),
        (("  y: [n, 4]", "  y: [n, 4]\n  z: [n, 4]"), ["line 6, column 3: no output depends on the input 'z'"]),
        (("  - spare\n", "  - cbr: 2\n  - maxpool: 2\n"), ["line 9, column 3: nothing uses the block 'spare'"]),
        (("from: [d, y]", "from: [d, d]"), ["line 5, column 3: no output depends on the input 'y'"]),
        (("logits: last, half: half, both: both", "half: half, d: d"), ["line 5, column 3: no output depends on the input 'y'",
            "line 19, column 6: no output depends on the result of layer 'net.8.add'", "line 20, column 5: nothing reads"]),
        (("- flatten\n", "- flatten: {from: half}\n"), [
            "line 8, column 44 (in cbr): no output depends on the result of layer 'net.3.0.conv' (nor of 1 others",
            "line 8, column 69 (in cbr)", "line 8, column 73 (in cbr)",
            "line 9, column 33 (in spare): no output", "line 9, column 52 (in spare)",
            "line 13, column 5: no output depends on the result of layer 'net.2.relu'",
            "line 16, column 6: nothing reads the result of layer 'net.5.add'", "line 16, column 39: no output",
        ]),
    ],
)  # fmt: skip
def test_what_nothing_uses_is_warned_about(change: tuple[str, str], wanted: list[str]):
    text = NET.replace(*change)
    assert text != NET
    found = warnings(text)
    assert len(found) == len(wanted), "\n".join(found)
    for f, w in zip(found, wanted):
        assert w in f


def test_names_that_come_from_anywhere_are_uses():
    head = "graphc: 1\nparams: {of: b, s: 2, deep: 1, size: 8}\ninputs: {x: [n, 3, $size, 8]}\ndefaults: {maxpool: {s: $s}}\n"
    blocks = "blocks: {a: {body: [tanh]}, b: {args: {act: a}, body: [$act, maxpool, {if: $deep > 1, then: [c]}]}, c: {body: [relu]}}\n"
    assert warnings(head + blocks + "net: [{repeat: {n: 1, of: $of}}]") == []


def test_an_argument_is_not_a_param_of_the_same_name():
    text = (
        "graphc: 1\nparams: {c: 4}\ninputs: {x: [n, 3]}\nblocks: {b: {args: {c: 2}, body: [{dense: $c}]}}\nnet: [b]\n"
    )
    assert len(warnings(text)) == 1
    assert warnings(text.replace("net: [b]", "net: [{b: $c}]")) == []


def test_check_prints_warnings_and_all_problems(tmp_path: Path):
    path = tmp_path / "m.yaml"
    path.write_text(NET.replace("params: {c: 4", "params: {d: 1, c: 4"))
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == 0
    assert (
        "warning: " in result.output
        and "nothing uses the param 'd'" in result.output
        and "no problems" in result.output
    )
    path.write_text(NET.replace("flatten", "flaten").replace("half: half", "half: hafl"))
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == 3
    assert "line 17" in result.output and "line 21" in result.output and "2 problems" in result.stderr


def _onnx(path: Path) -> Path:
    """y = If(c, x + k, -x), beside a chain that leads nowhere and inputs that are not read."""

    def value(name: str, dtype: int = 1, shape: Sequence[str] = ("n",)) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, dtype, shape)

    add = helper.make_graph([helper.make_node("Add", ["x", "k"], ["t"])], "then", [], [value("t")])
    neg = helper.make_graph([helper.make_node("Neg", ["x"], ["e"])], "else", [], [value("e")])
    nodes = [
        helper.make_node("If", ["c"], ["y"], then_branch=add, else_branch=neg),
        helper.make_node("Relu", ["z"], ["dead"], "first"),
        helper.make_node("Exp", ["dead"], ["end"], "last"),
        helper.make_node("Split", ["x"], ["y2", "unread"], "half", num_outputs=2),
    ]
    inputs = [
        value("c", 9, ()),
        value("x"),
        value("k"),
        value("z"),
        value("w"),
        value("spare", 1, (1,)),
        value("thin", 1, (4,)),
    ]
    kept = [helper.make_tensor("spare", 1, [1], [0.0])]
    thin = helper.make_sparse_tensor(
        helper.make_tensor("thin", 1, [1], [2.0]), helper.make_tensor("at", 7, [1], [3]), [4]
    )
    graph = helper.make_graph(nodes, "g", inputs, [value("y"), value("y2", 1, None)], kept, sparse_initializer=[thin])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_onnx_files_are_looked_through_as_well(tmp_path: Path):
    found = [str(w) for w in frontends.load(_onnx(tmp_path / "m.onnx")).meta["warnings"]]
    parts = ["input 'z': no output depends", "input 'w': no output depends", "node 1: Relu 'first': no output depends on its", "node 2: Exp 'last': nothing reads its"]  # fmt: skip
    assert len(found) == len(parts), found
    assert all(p in f for p, f in zip(parts, found))
    result = CliRunner().invoke(main, ["check", str(tmp_path / "m.onnx")])
    assert result.exit_code == 0 and result.output.count("warning: ") == 4
