"""What commands tell of nodes whose shapes follow from data or from the values of inputs, before anything runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

import graphc
from graphc.cli import main
from graphc.frontends.onnx_export import to_onnx
from graphc.frontends.yaml_load import loads_yaml
from graphc.graph import Graph

HEAD = "graphc: 1\ninputs: {x: [3, 4], b: {shape: [1, 6, 4]}, s: {shape: [1, 2, 6]}}\nnet:\n"
# name -> steps; what runs on the host, by numbers of steps
NETS = {
    "positions": "[{NonZero: {inputs: x}}, {Transpose: {perm: [1, 0]}}, {GatherND: {inputs: [x, last]}}, {Exp: {}}]",
    "several": "[{NonZero: {inputs: x, as: p}}, {Gather: {inputs: [x, [0, 2]], axis: 1}}, {Cast: {to: int64}}, {Unique: {as: [u, i]}}, {Cast: {to: float32, inputs: u}}, {Sqrt: {as: r}}, {ReduceSum: {inputs: [p, [1]], as: q}}, {Cast: {inputs: b, to: float64}}, {Reshape: {inputs: [last, [-1, 4]]}}, {Pad: {inputs: [last, [0, 1, 0, 0]], as: five}}, {Cast: {inputs: x, to: float64}}, {Reshape: {inputs: [last, [1, 1, 3, 4]]}}, {MaxRoiPool: {inputs: [last, five], pooled_shape: [1, 1]}}]\noutputs: {r: r, q: q, d: last}",
    "boxes": "[{NonMaxSuppression: {inputs: [b, s, 3]}}, {Gather: {inputs: [last, 2], axis: 1, as: at}}, {Squeeze: {inputs: [b, [0]], as: rows}}, {Gather: {inputs: [rows, at], as: kept}}, {softmax: {}}, {matmul: {from: [last, w]}}, {Shape: {inputs: kept}}, {ConstantOfShape: {value: [2.0]}}, {Mul: {inputs: [kept, last]}}]",
    "values": "[{NonZero: {inputs: x, as: p}}, {Shape: {inputs: p}}, {Slice: {inputs: [last, [1], [2]], as: n}}, {Slice: {inputs: [p, [0], n, [1]]}}, {Tile: {inputs: [last, [1, 2]], as: t}}, {ReduceMax: {inputs: [p, [0, 1]], keepdims: 0}}, {Unsqueeze: {inputs: [last, [0]], as: k}}, {TopK: {inputs: [x, k]}}, {Exp: {as: e}}, {ReduceMax: {inputs: [p, [1]], keepdims: 0, as: to}}, {Expand: {inputs: [[[1.0]], to]}}, {Sqrt: {}}]\noutputs: {t: t, e: e, y: last}",
    "none": "[{relu: {from: x}}, {dense: 5}]",
    "composite": "[{Compress: {inputs: [x, c], axis: 0}}, {Celu: {}}, {Shrink: {}}, {Gelu: {}}, {Hardmax: {}}]",
}  # fmt: skip


def invoke(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exit_code == code, result.output
    return result


def net(name: str) -> Graph:
    steps = NETS[name]
    if name == "boxes":
        steps = "[{param: {shape: [4, 4], as: w}}, " + steps[1:]
    if name == "composite":
        steps = "[{Greater: {inputs: [x, 0]}}, {Gather: {inputs: [last, 1], axis: 1, as: c}}, " + steps[1:]
    return loads_yaml(HEAD.replace("net:\n", "net: ") + steps)


FEEDS = {
    "x": np.array([[0, 1, 2, 0], [3, 0, 0, 4], [5, 6, 0, 0]], np.float32),
    "b": np.array([[[0, 0, k + 1, 1] for k in range(6)]], np.float32),
    "s": np.linspace(0, 1, 12, dtype=np.float32).reshape(1, 2, 6),
}


@pytest.mark.parametrize("name", NETS)
def test_the_outlook_is_what_comes(name: str):
    """Nodes that are said to run on the host do, and no others; nothing is left out, and nothing is left when it has run."""
    graph = net(name)
    model = graphc.compile(graph)
    before = model.plan()
    assert {n.node for n in before.pending}.isdisjoint(n for s in before.steps for n in s.nodes)
    assert len(before.pending) == len({n.node for n in before.pending})
    assert bool(before.pending) == (name != "none")
    model.run(FEEDS)
    after = model.plan()
    assert after.pending == ()
    hosted = {s.nodes[0] for s in after.steps if s.host}
    assert {s.nodes[0] for s in before.steps if s.host} | {n.node for n in before.pending if n.host} == hosted
    assert {n.node for n in model.outlook() if n.host} == hosted


@pytest.mark.parametrize("kind", ["yaml", "onnx"])
def test_check_and_explain_go_on_behind_data(kind: str, tmp_path: Path):
    path = tmp_path / f"m.{kind}"
    if kind == "onnx":
        onnx.save(to_onnx(net("several")), path)
    else:
        path.write_text(HEAD.replace("net:\n", "net: ") + NETS["several"])
    found = invoke("check", path).output
    assert "MaxRoiPool × 1, has no float64 kernel" in found and "NonZero ×" not in found
    behind = found[found.index("planned when the model runs") :]
    for op in ("Cast", "Sqrt", "ReduceSum"):
        assert op in behind
    table = invoke("explain", path).output
    for row in (
        ("Sqrt", "Unique(", "compiled"),
        ("ReduceSum", "int64[2, 1]", "compiled"),
        ("Cast", "float32[", "compiled"),
    ):
        assert any(all(word in line for word in row) for line in table.splitlines()), row
    shown = invoke("show", path).output
    assert all(op in shown for op in ("NonZero", "Unique", "Sqrt", "ReduceSum")) and "None" not in shown
    assert "is planned when the model runs" in invoke("compile", path).output


def test_show_counts_what_can_be_counted(tmp_path: Path):
    path = tmp_path / "m.yaml"
    known = "{param: {shape: [4, 5], as: v}}, {matmul: {from: [x, v], as: known}}"
    unknown = (
        "{param: {shape: [5, 2], as: w}}, {NonZero: {inputs: x}}, {Cast: {to: float32}}, {matmul: {from: [w, last]}}"
    )
    path.write_text(
        f"graphc: 1\ninputs: {{x: [3, 4]}}\nnet: [{known}, {unknown}]\noutputs: {{known: known, y: last}}\n"
    )
    assert "60 MACs and those of 1 layer whose shapes follow from data" in invoke("show", path).output


def _loop(path: Path) -> Path:
    """While the sum is below a limit: twice the value, whose steps are collected; then their mean."""
    make = helper.make_node
    body = helper.make_graph(
        [make("Add", ["v", "v"], ["v2"]), make("ReduceSum", ["v2"], ["sum"], keepdims=0), make("Less", ["sum", "limit"], ["go"]), make("Identity", ["v2"], ["all"])],
        "body",
        [helper.make_tensor_value_info(n, t, s) for n, t, s in (("i", 7, ()), ("c", 9, ()), ("v", 1, (3,)))],
        [helper.make_tensor_value_info(n, t, s) for n, t, s in (("go", 9, ()), ("v2", 1, (3,)), ("all", 1, (3,)))],
    )  # fmt: skip
    nodes = [
        make("Loop", ["", "", "x"], ["end", "steps"], "loop", body=body),
        make("ReduceMean", ["steps", "axis"], ["mean"], "mean"),
        make("Add", ["mean", "end"], ["y"], "sum"),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", (3,)), ("y", (1, 3))))
    kept = [numpy_helper.from_array(np.array([0]), "axis"), numpy_helper.from_array(np.float32(100), "limit")]
    graph = helper.make_graph(nodes, "g", [x], [y], kept)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_check_goes_on_behind_a_loop(tmp_path: Path):
    path = _loop(tmp_path / "m.onnx")
    found = invoke("check", path).output
    assert "1 step" in found and "compiled: ReduceMean" in found
    assert "float32[?" in invoke("show", path).output
    model = graphc.compile(str(path))
    pending = {n.node for n in model.plan().pending}
    model.run({"x": np.ones(3, np.float32)})
    assert "mean" in pending and model.plan().pending == ()


def test_bench_tells_of_all_steps_and_why_it_has_no_profile(tmp_path: Path):
    path = tmp_path / "m.yaml"
    path.write_text(HEAD.replace("net:\n", "net: ") + NETS["positions"])
    assert "median" in invoke("bench", path, "--rounds", 2).output
    assert (
        "follow from data can't be timed step by step"
        in invoke("bench", path, "--rounds", 2, "--profile", code=3).stderr
    )


VALUED = """graphc: 1
inputs: {x: [n, 4], to: {shape: [2], dtype: int64}}
net: [{Reshape: {inputs: [x, to]}}, relu, {"com.microsoft::Inverse": {}}]
"""


def test_inputs_whose_values_decide_shapes(tmp_path: Path):
    path, values = tmp_path / "m.yaml", tmp_path / "to.npy"
    path.write_text(VALUED)
    np.save(values, np.array([2, 2]))
    found = invoke("check", path).output
    assert "the values of to" in found and "--input to=FILE.npy" in found
    assert "compiled: Reshape, Relu" in found and "com.microsoft::Inverse × 1, has no CPU kernel" in found
    assert "Relu" in invoke("explain", path).output
    assert "--input to=FILE.npy" in invoke("compile", path, code=4).stderr
    assert "3 nodes, " in invoke("check", path, "--input", f"to={values}").output
    assert "com.microsoft::Inverse has no CPU kernel" in invoke("explain", path, "--input", f"to={values}").output
    assert "3 nodes in 3 steps" in invoke("compile", path, "--input", f"to={values}").output
    assert "median" in invoke("bench", path, "--rounds", 2, "--input", f"to={values}", "--profile").output


def test_plans_for_values():
    model = graphc.compile(loads_yaml(VALUED))
    assert model.valued == ("to",)
    plan = model.plan({"x": (1, 4)}, {"to": np.array([2, 2])})
    assert [s.ops for s in plan.steps if s.host] == [("com.microsoft::Inverse",)]
    with pytest.raises(graphc.errors.InputError, match="values of 'to'"):
        model.plan({"x": (1, 4)})


def test_the_reference_runs_everything_on_the_host():
    assert all(n.host for n in graphc.compile(net("several"), target="reference").outlook())
