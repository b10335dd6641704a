"""The `graphc` command: what each command prints, and how each mistake ends."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import graphc
from graphc import frontends, pipeline
from graphc.backends.cpu import hardware
from graphc.backends.cpu.stages import STAGES
from graphc.cli import app, compare, main
from graphc.cli.answers import Classes
from graphc.cli.check import hosted_nodes
from graphc.cli.feeds import make_feeds, resolve_shapes
from graphc.cli.layers import layers, results
from graphc.cli.passes import pass_names, removable
from graphc.cli.results import save_arrays
from graphc.dims import UNKNOWN
from graphc.errors import InputError
from graphc.frontends.yaml_load import loads_yaml
from graphc.graph import Builder, Graph
from graphc.report import MemoryReport, Plan, StepInfo
from graphc.types import Sym, TensorType

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "zoo"
YAML = """\
graphc: 1
inputs: {x: {shape: [batch, 3, 16, 16]}}
net:
  - conv: {out: 8, k: 3, pad: same}
  - bn
  - relu
  - maxpool: {k: 2, s: 2}
  - flatten
  - dense: 10
outputs: {logits: last}
weights: {seed: 0}
"""


def invoke(*args: object, code: int = 0) -> Result:
    """Run the command; fails where it ends with another exit code than `code`."""
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def yaml_model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(YAML)
    return path


@pytest.fixture
def onnx_model(tmp_path: Path) -> Path:
    """scores = x @ w + 1 for x [batch, 4], w [4, 6]."""
    w = numpy_helper.from_array(np.arange(24, dtype=np.float32).reshape(4, 6), "w")
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "dense"),
        helper.make_node("Add", ["h", "one"], ["scores"], "plus"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 6])
    graph = helper.make_graph(nodes, "tiny", [x], [y], [w, one])
    path = tmp_path / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


# --- the commands ----------------------------------------------------------------------------
@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_run_reads_arrays_and_writes_results(onnx_model: Path, tmp_path: Path, target: str):
    x = np.random.default_rng(1).random((3, 4), np.float32)
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "out.npz"
    result = invoke("run", onnx_model, "--input", f"x={tmp_path / 'x.npy'}", "--output", out, "--target", target)
    assert "3×6" in result.output
    assert "top 5" not in result.output, "nothing tells that they are classes"
    want = x @ np.arange(24, dtype=np.float32).reshape(4, 6) + 1
    np.testing.assert_allclose(np.load(out)["scores"], want, rtol=1e-5)


def test_run_takes_a_batch_and_a_seed(yaml_model: Path, tmp_path: Path):
    outs = []
    for seed in (0, 0, 1):
        out = tmp_path / f"{len(outs)}.npz"
        invoke("run", yaml_model, "--batch", 2, "--seed", seed, "--output", out, "--target", "reference")
        outs.append(np.load(out)["logits"])
    assert outs[0].shape == (2, 10)
    np.testing.assert_array_equal(outs[0], outs[1])
    assert not np.array_equal(outs[0], outs[2])


def test_compile_says_what_it_made(yaml_model: Path):
    assert "steps and" in invoke("compile", yaml_model).output


def test_compile_stops_after_a_pass(yaml_model: Path):
    before = invoke("compile", yaml_model, "--stop-after", "dead_code").output
    assert before.startswith("graph ") and "BatchNormalization(" in before and "batch" in before
    after = invoke("compile", yaml_model, "--stop-after", "fold_batch_norm").output
    assert "Conv(" in after and "BatchNormalization(" not in after
    bound = invoke("compile", yaml_model, "--stop-after", "bound:fold_constants", "--batch", 7).output
    assert "float32[7, 8, 16, 16]" in bound and "batch" not in bound


@pytest.mark.parametrize("name", [*pass_names("cpu"), *(f"bound:{p.name}" for p in pipeline.BOUND), "layout"])
def test_compile_stops_after_every_pass(yaml_model: Path, name: str):
    assert invoke("compile", yaml_model, "--stop-after", name).output.startswith("graph ")


@pytest.mark.parametrize("name", [s.name for s in STAGES])
def test_compile_stops_after_every_stage(yaml_model: Path, name: str):
    assert invoke("compile", yaml_model, "--stop-after", name).output.strip()
    assert (
        "no pass is named"
        in invoke("compile", yaml_model, "--stop-after", name, "--target", "reference", code=4).stderr
    )


def test_a_pass_that_runs_without_shapes_only_is_said_to(yaml_model: Path):
    said = invoke("compile", yaml_model, "--stop-after", "bound:dead_code", code=4).stderr
    assert "'dead_code' runs before shapes are known" in said and "without 'bound:'" in said


def test_passes_that_need_no_shapes_ask_for_none():
    lstm = EXAMPLES / "lstm_classifier.yaml"
    assert "steps" in invoke("compile", lstm, "--stop-after", "fold_constants").output
    assert "steps must be known" in invoke("compile", lstm, "--stop-after", "batch_first", code=4).stderr


def test_every_pass_can_be_left_out(yaml_model: Path, tmp_path: Path):
    want = None
    for name in ["", *removable("cpu")]:
        out = tmp_path / f"without_{name}.npz"
        invoke("run", yaml_model, "--output", out, *(["--disable", name] if name else []))
        found = np.load(out)["logits"]
        want = found if want is None else want
        np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-5, err_msg=name)


def test_explain_tells_why_rewrites_did_not_apply(tmp_path: Path):
    """Nested concatenations are joined, but for one whose result others read; also when the plan comes from disk."""
    path = tmp_path / "dense.yaml"
    body = "{repeat: {n: 3, of: [{conv: {out: 4, pad: same}}], join: concat}}"
    path.write_text(f"graphc: 1\ninputs: {{x: [1, 3, 8, 8]}}\nnet: [{body}]\n")
    for _ in range(2):
        listed = invoke("explain", path, "--why").output
        assert "identities: Concat 'net.0.1.concat': concat_of_concat: 'net.0.0.concat' is read by others" in listed
        assert "read by others" in listed[listed.index("passes") :]
        assert "--why lists them" in invoke("explain", path).output


def test_explain_says_so_when_nothing_was_refused(onnx_model: Path):
    assert "every rewrite that matched has been applied" in invoke("explain", onnx_model, "--why").output


@pytest.mark.parametrize("option", ["--stop-after", "--disable"])
def test_compile_names_the_passes_when_one_is_unknown(yaml_model: Path, option: str):
    assert "fold_batch_norm" in invoke("compile", yaml_model, option, "nonsense", code=4).stderr


def test_check_accepts_a_good_model(onnx_model: Path):
    assert "no problems" in invoke("check", onnx_model).output


def test_check_needs_no_shapes_but_tells_what_they_would_show():
    lstm = EXAMPLES / "lstm_classifier.yaml"
    assert "--shape tokens=1,steps" in invoke("check", lstm).output
    checked = invoke("check", lstm, "--shape", "tokens=3,4").output
    assert "no problems, 10 nodes" in checked and "results: positive float32[3, 1]" in checked


def test_check_says_what_runs_on_the_host_and_why():
    steps = [
        StepInfo(0, ("a",), ("Unique",), "host", reason="no kernel", host=True),
        StepInfo(1, ("b",), ("Relu",), "relu"),
        StepInfo(2, ("c",), ("Unique",), "host", reason="no kernel", host=True),
    ]
    assert hosted_nodes(Plan("cpu", 1, {}, tuple(steps), MemoryReport(0, 0, 0, 0))) == ["Unique × 2, no kernel: a, c"]


def test_check_lists_every_problem(onnx_model: Path, tmp_path: Path):
    model = onnx.load(onnx_model)
    model.graph.node[0].op_type, model.graph.node[1].op_type = "MatMull", "Addd"
    bad = tmp_path / "bad.onnx"
    onnx.save(model, bad)
    result = invoke("check", bad, code=3)
    assert "MatMull" in result.output and "Addd" in result.output and "dense" in result.output
    assert "2 problems" in result.stderr


def test_show_counts_parameters_and_macs(yaml_model: Path):
    text = invoke("show", yaml_model).output
    conv, dense = 8 * 3 * 9, 10 * 8 * 8 * 8
    biases = 10
    macs = conv * 16 * 16 + dense
    with_conv_bias = f"{conv + 8 + 16 + dense + biases:,} parameters"
    without = f"{conv + 16 + dense + biases:,} parameters"
    assert with_conv_bias in text or without in text
    assert f"{macs:,} MACs" in text
    assert "16 batch-norm statistics" in text


@pytest.mark.parametrize("name", ["lenet5", "squeezenet", "lstm_classifier", "deep_belief_net", "art1"])
def test_show_counts_what_the_front_end_counts(name: str):
    graph = frontends.load(str(EXAMPLES / f"{name}.yaml"))
    assert f"{graph.meta['parameters']:,} parameters" in invoke("show", EXAMPLES / f"{name}.yaml").output


SEVERAL = """\
graphc: 1
inputs: {x: [batch, steps, 8]}
net:
  - dense: {out: 4, as: short}
  - scan:
      over: {now: short}
      states: {h: {shape: [batch, 4]}}
      of: [{dense: {out: 4, from: h}}, {let: {h: tanh(now + last)}}]
  - relu: {from: short, as: positive}
outputs: {h: h, positive: positive, x: x}
"""


def test_show_says_what_leads_to_each_result(tmp_path: Path):
    """A layer that several results need counts in each; what a scan needs, as often as it steps."""
    path = tmp_path / "several.yaml"
    path.write_text(SEVERAL)

    def shown(*options: str) -> dict[str, list[str]]:
        table = invoke("show", path, *options).output.rpartition(" result ")[2].splitlines()
        return {line.split()[0]: line.rpartition("]")[2].split() for line in table if "]" in line}

    short, step = 8 * 4, 4 * 4
    at = shown("--shape", "x=3,5,8")
    weights = short + 4, step + 4  # of a dense layer, which is MatMul and Add here
    assert at["positive"] == ["3", str(weights[0]), str(3 * 5 * short)]
    assert at["h"][1:] == [str(sum(weights)), str(3 * 5 * (short + step))]
    assert at["x"] == ["0"]
    assert shown()["positive"] == ["3", str(weights[0]), "?"]


def test_show_reads_onnx_too(onnx_model: Path):
    text = invoke("show", onnx_model).output
    assert "dense" in text and "25 parameters" in text and "24 MACs" in text


def test_explain_has_all_four_parts(yaml_model: Path):
    text = invoke("explain", yaml_model).output
    for part in ("steps", "fusion:", "arena", "lower bound", "passes"):
        assert part in text


def test_explain_of_the_reference_has_no_tables_without_rows(yaml_model: Path):
    text = invoke("explain", yaml_model, "--target", "reference").output
    assert "node by node" in text and "passes" in text
    assert "steps" not in text and "fusion:" not in text and "arena" not in text


def test_names_to_disable_need_no_gpu_where_kernels_are_compiled_ahead(yaml_model: Path):
    options = ("--target", "cuda", "--arch", "sm_90", "--disable", "nope")
    assert "no pass is named 'nope'" in invoke("check", yaml_model, *options, code=4).output


def test_compare_agrees(yaml_model: Path):
    assert "agree within" in invoke("compare", yaml_model).output


def test_compare_names_the_first_node_that_differs(onnx_model: Path, monkeypatch: pytest.MonkeyPatch):
    honest = compare.open_model

    def wrong_weights(graph: Graph, **settings):
        graph = copy.deepcopy(graph)
        for node in graph.nodes:
            if node.name == "dense":
                spoiled = node.inputs[1].data.copy()
                spoiled[2, 3] += 1000
                object.__setattr__(node.inputs[1], "data", spoiled)
        return honest(graph, **{**settings, "target": "reference"})

    monkeypatch.setattr(compare, "open_model", wrong_weights)
    error = invoke("compare", onnx_model, "--target", "reference", code=1).stderr
    assert error.startswith("first difference: MatMul 'dense'")
    assert "most at [0, 3]" in error


def test_export_says_which_result_has_another_name(tmp_path: Path):
    text = "graphc: 1\ninputs: {x: [n, 2], state: [n, 2]}\nnet: [{let: {h: x + state}}]\noutputs: {state: h, y: h}\n"
    (tmp_path / "m.yaml").write_text(text)
    said = invoke("export", tmp_path / "m.yaml", tmp_path / "m.onnx").output
    (name, *_) = onnxruntime_outputs(tmp_path / "m.onnx")
    assert name == "state_1" and f"result 'state' is '{name}' there" in said and "'y'" not in said


def onnxruntime_outputs(path: Path) -> list[str]:
    import onnxruntime

    return [o.name for o in onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_outputs()]


def test_export_writes_a_model_that_computes_the_same(yaml_model: Path, tmp_path: Path):
    exported = tmp_path / "tiny.onnx"
    invoke("export", yaml_model, exported)
    onnx.checker.check_model(onnx.load(exported), full_check=True)
    x = np.random.default_rng(0).random((1, 3, 16, 16), np.float32)
    want = graphc.compile(str(yaml_model), target="reference").run({"x": x})["logits"]
    got = graphc.compile(str(exported), target="reference").run({"x": x})["logits"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


# --- mistakes ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    "content", [b"", b"\x08\x07\x12\x03abc", bytes(range(256)) * 8], ids=["empty", "truncated", "noise"]
)
@pytest.mark.parametrize("command", ["run", "check", "show", "explain"])
def test_a_file_that_is_no_model_is_one_message(tmp_path: Path, command: str, content: bytes):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    result = invoke(command, path, code=3)
    assert "broken.onnx" in result.output
    assert "Traceback" not in result.output


def test_a_typo_in_yaml_names_line_and_file(tmp_path: Path):
    path = tmp_path / "typo.yaml"
    path.write_text(YAML.replace("maxpool", "maxpol"))
    error = invoke("show", path, code=3).stderr
    assert "typo.yaml" in error and "7" in error and "maxpool" in error


@pytest.mark.parametrize(
    "options, said",
    [
        (["--input", "y=random"], "inputs: x"),
        (["--input", "x=nowhere.npy"], "no file or folder 'nowhere.npy'"),
        (["--shape", "x=2,5"], "the model wants [batch, 4]"),
        (["--shape", "x=2,4,1"], "the model wants [batch, 4]"),
        (["--shape", "two"], "name=2,3,224,224"),
        (["--target", "gpu"], "'gpu'"),
        (["--threads", "0"], "--threads"),
    ],
)
def test_wrong_options_are_one_message(onnx_model: Path, options: list[str], said: str):
    usage = options[0] != "--input" and "the model wants" not in said  # what can be told without the model
    result = invoke("run", onnx_model, *options, code=2 if usage else 4)
    assert said in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("threads, warned", [(2, False), (3, True)])
def test_more_threads_than_cpus_are_a_warning(
    onnx_model: Path, monkeypatch: pytest.MonkeyPatch, threads: int, warned: bool
):
    monkeypatch.setattr(hardware, "cpu_count", lambda: 2)
    result = invoke("check", onnx_model, "--threads", threads)
    assert ("--threads 2 is likely to be faster" in result.stderr) == warned
    assert len(result.stderr.splitlines()) == warned


def test_a_missing_model_is_one_message():
    assert "no.onnx" in invoke("run", "no.onnx", code=4).output


def test_an_unwritable_output_is_one_message(onnx_model: Path, tmp_path: Path):
    result = invoke("run", onnx_model, "--output", tmp_path / "none" / "out.npz", "--target", "reference", code=4)
    assert "out.npz" in result.stderr and "Traceback" not in result.output


@pytest.mark.parametrize(
    "error, code, said", [(KeyboardInterrupt(), 130, "interrupted"), (KeyError("oh"), 70, "bug in graphc")]
)
def test_other_ends(onnx_model: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(graphc, "compile", fail)
    assert said in invoke("run", onnx_model, code=code).stderr


def test_a_reader_that_leaves_is_not_an_error(onnx_model: Path):
    program = "import sys; from graphc.cli import main; main(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "show", str(onnx_model)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    _, error = process.communicate(timeout=60)
    assert b"Traceback" not in error and b"bug" not in error


def test_every_command_has_help():
    text = invoke("--help").output
    listed = "run compile build check show explain report bench compare reduce test export quantize shrink"
    listed += " schema operators layers zoo init help"
    commands = set(listed.split())
    assert set(app.main.commands) == commands
    for name in commands:
        assert name in text
        assert "Usage" in invoke(name, "--help").output


def test_operators_are_listed():
    assert invoke("operators", "gelu").output.splitlines() == [
        "ONNX: Gelu",
        "com.microsoft: BiasGelu, BiasSplitGelu, FastGelu, Gelu, GemmFastGelu, QuickGelu",
        "layers of YAML: gelu",
    ]
    assert all(line.startswith("com.microsoft: ") for line in invoke("operators", "Microsoft").output.splitlines()[:1])
    assert "RoundTo" not in invoke("operators").output, "only passes make it"
    assert "none has 'nonesuch'" in invoke("operators", "nonesuch").output


# --- the parts ----------------------------------------------------------------------------
def specs(**shapes):
    b = Builder()
    return [b.input(name, "int64" if name == "ids" else "float32", shape) for name, shape in shapes.items()]


def test_shapes_bind_symbols_everywhere():
    want = specs(x=(Sym("batch"), Sym("seq")), h=(1, Sym("batch"), 32))
    assert resolve_shapes(want, {"x": (4, 7)}) == {"x": (4, 7), "h": (1, 4, 32)}


def test_the_batch_goes_to_open_first_dims_only():
    want = specs(x=(Sym("n"), 3), y=(5, 3), z=(UNKNOWN, 2))
    assert resolve_shapes(want, {}, 8) == {"x": (8, 3), "y": (5, 3), "z": (8, 2)}
    assert resolve_shapes(want, {}) == {"x": (1, 3), "y": (5, 3), "z": (1, 2)}


def test_unnamed_dims_are_not_the_same_dim():
    assert resolve_shapes(specs(x=(UNKNOWN, UNKNOWN)), {"x": (2, 3)}) == {"x": (2, 3)}


@pytest.mark.parametrize(
    "shapes, batch, said",
    [
        ({}, None, "seq must be known"),
        ({"x": (2, 3), "y": (2, 9)}, None, "dim 1 differs"),
        ({"x": (2, 3), "y": (4, 3)}, None, "with batch = 2"),
        ({"x": (2, 3), "y": (4, 3)}, None, "can't be"),
        ({"z": (1,)}, None, "no input 'z'"),
    ],
)
def test_shapes_that_do_not_fit(shapes, batch, said):
    with pytest.raises(InputError) as error:
        resolve_shapes(specs(x=(Sym("batch"), Sym("seq")), y=(Sym("batch"), 3)), shapes, batch)
    assert said in str(error.value)


def test_a_fixed_batch_is_not_overruled():
    with pytest.raises(InputError, match="no input takes a batch of 2"):
        resolve_shapes(specs(x=(1, 3)), {}, 2)


def test_feeds_come_from_files_and_fills(tmp_path: Path):
    ids = np.array([[1, 2, 3]])
    np.savez(tmp_path / "in.npz", ids=ids)
    want = specs(ids=(Sym("batch"), Sym("seq")), x=(Sym("batch"), 4), y=(Sym("seq"),))
    feeds = make_feeds(want, [str(tmp_path / "in.npz"), "x=ones"], {}, seed=3)
    np.testing.assert_array_equal(feeds["ids"], ids)
    np.testing.assert_array_equal(feeds["x"], np.ones((1, 4), np.float32))
    assert feeds["y"].shape == (3,) and feeds["y"].dtype == np.float32 and 0 <= feeds["y"].min() <= feeds["y"].max() < 1


def test_pickled_arrays_are_refused(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match="no .npy or .npz file"):
        make_feeds(specs(x=(1,)), [f"x={tmp_path / 'x.npy'}"])


def test_results_are_saved_under_any_name(tmp_path: Path):
    arrays = {"file": np.arange(3), "a/b": np.array(["x", "yy"], object)}
    with (tmp_path / "out.npz").open("wb") as stream:
        save_arrays(arrays, stream)
    loaded = np.load(tmp_path / "out.npz", allow_pickle=False)
    assert set(loaded) == {"file", "a/b"}
    assert list(loaded["a/b"]) == ["x", "yy"]


@pytest.mark.parametrize(
    "net, output, best",
    [
        ("[relu]", "logits", True),
        ("[relu]", "distances", False),
        ("[relu]", "log_probabilities", False),  # of the words of a caption, say
        ("[softmax]", "y", True),
        ("[log_softmax, {reshape: [-1, 6, 1, 1]}]", "y", True),
        ("[{softmax: {axis: 0}}]", "y", False),
        ("[softmax, {topk: {k: 5}}]", "y", False),
    ],
)
def test_the_best_classes_are_those_of_scores(tmp_path: Path, net: str, output: str, best: bool):
    path = tmp_path / "m.yaml"
    path.write_text(f"graphc: 1\ninputs: {{x: [batch, 6]}}\nnet: {net}\noutputs: {{{output}: last}}\n")
    for _ in range(2):  # the second from what is kept on disk
        done = invoke("run", path, "--batch", 6)
        assert (f"{output}[3] top 5: class" in done.output) is best, done.output
        assert (f"{output}: … and 2 more rows" in done.output) is best


def test_top_classes_only_of_scores():
    assert (
        Classes({}, ["y"])
        .told("y", np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1))[0]
        .startswith("y[0] top 5: class 5 (5)")
    )
    assert Classes({}, ["y"]).told("y", np.float32([[0, 1]])) == ["y[0] top 2: class 1 (1), class 0 (0)"]
    assert Classes({}, ["y"]).told("y", np.zeros((1, 1), np.float32)) == []
    assert Classes({}, ["y"]).told("y", np.zeros((1, 6, 2, 2), np.float32)) == []
    assert Classes({}, ["y"]).told("y", np.zeros((1, 6), np.int64)) == []


def test_layers_count_shared_weights_once():
    b = Builder("tied")
    x, w = b.input("x", "float32", (Sym("batch"), 4)), b.constant(np.ones((4, 4), np.float32))
    h = b.add("MatMul", x, w, name="one")
    y = b.add("MatMul", h, w, name="two")
    rows = layers(b.build({"y": y}), {"x": (3, 4)})
    assert [r.parameters for r in rows] == [16, 0]
    assert [r.sources for r in rows] == [("x",), ("0",)]
    assert [r.macs for r in rows] == [48, 48]
    assert rows[0].outputs == (str(TensorType("float32", (Sym("batch"), 4))),)


def test_layers_count_what_scans_loops_and_ways_hold():
    text = """\
graphc: 1
inputs: {x: [batch, steps, 3], f: {shape: [], dtype: bool}}
net:
  - scan:
      over: {now: x}
      states: {h: {shape: [batch, 4]}}
      of: [{dense: {out: 4, from: now, as: a}}, {dense: {out: 4, from: h, bias: false}}, {add: {from: [a, last], as: h}}]
  - {when: f, from: h, then: [{dense: 5}], else: [{dense: {out: 5, bias: false}}]}
  - while: {states: {n: 0, g: h}, condition: f, at_most: 9, of: [{dense: {out: 4, from: g, as: g}}, {Add: {inputs: [n, 1], as: n}}]}
"""
    graph = loads_yaml(text)
    rows = {r.name: r for r in layers(graph, {"x": (2, 7, 3), "f": ()})}
    assert (rows["net.0"].parameters, rows["net.0"].macs) == (16 + 16, 7 * 2 * (3 * 4 + 4 * 4))
    assert (rows["net.1"].parameters, rows["net.1"].macs) == (25 + 20, 2 * 4 * 5)
    assert (rows["net.2"].parameters, rows["net.2"].macs) == (20, None), "data decides how often it runs"
    assert sum(r.parameters for r in rows.values()) == graph.meta["parameters"] == 97
    assert layers(graph)[3].macs is None


def test_layers_count_the_products_of_attention():
    b = Builder("attention")
    q, k, v = (b.input(name, "float32", (2, 4, length, 8)) for name, length in (("q", 5), ("k", 7), ("v", 7)))
    rows = layers(b.build({"y": b.add("Attention", q, k, v)}))
    assert [r.macs for r in rows] == [2 * 4 * 5 * 7 * (8 + 8)]


def test_multiply_adds_of_layers_whose_shapes_are_known_but_for_the_batch(tmp_path: Path):
    """Whatever the size of the picture is, it is cropped; the convolution before that reads all of it."""
    path = tmp_path / "m.yaml"
    net = "[{resize: {shorter: 8}}, {conv: {out: 4, k: 1}}, {crop: 6}, flatten, {dense: 5}]"
    path.write_text(f"graphc: 1\ninputs: {{image: [batch, 3, height, width]}}\nnet: {net}\n")
    text = invoke("show", path).output
    assert f"{4 * 6 * 6 * 5:,} MACs and those of 1 layer whose shapes are open (image [1, 3, height, width])" in text
    assert "--shape image=1,3,height,width" in text
    path.write_text(path.read_text().replace("{conv: {out: 4, k: 1}}, ", ""))
    text = invoke("show", path).output
    assert f"{3 * 6 * 6 * 5:,} MACs (540) for image [1, 3, height, width]" in text
    assert "not_smaller" not in text, "dims that are no plain arithmetic are shown as ?"


def test_a_picture_is_a_batch_of_one(tmp_path: Path):
    picture = tmp_path / "p.png"
    Image.new("RGB", (3, 2)).save(picture)
    taking = [Builder().input("image", "uint8", ("batch", "height", "width", 3))]
    assert make_feeds(taking, [f"image={picture}"], batch=1)["image"].shape == (1, 2, 3, 3)
    several = r"batch of 4\n  several files are one after the other: graphc run MODEL FILE FILE"
    with pytest.raises(InputError) as caught:
        make_feeds(taking, [f"image={picture}"], batch=4)
    assert re.search(several, str(caught.value))
    with pytest.raises(InputError) as caught:
        make_feeds(taking, [f"image={picture}"] * 2)
    assert "'image' is given twice\n  several files are one after the other" in str(caught.value)


def test_weights_stand_in_the_row_of_the_product_that_reads_them():
    """A dense layer on rows of rows turns its weights over first; shared ones count once."""
    text = (
        "graphc: 1\ninputs: {x: [batch, 5, 4]}\nnet: [{dense: 4, share: w}, relu, {dense: 4, share: w}, {dense: 3}]\n"
    )
    graph = loads_yaml(text)
    assert "Transpose" in [n.op.name for n in graph.nodes]
    rows = layers(graph, {"x": (2, 5, 4)})
    assert [r.index for r in rows] == list(range(7)) and "Transpose" not in [r.op for r in rows]
    products = [r for r in rows if r.op == "MatMul"]
    assert [(r.parameters, r.macs) for r in products] == [(16, 160), (0, 160), (12, 120)]
    assert sum(r.parameters for r in rows) == graph.meta["parameters"]
    (result,) = results(graph, rows)
    assert (result.layers, result.parameters, result.macs) == (7, graph.meta["parameters"], 440)


def test_sequences_and_optionals(tmp_path: Path):
    """Every command takes a model of values that are no tensors; a sequence is a .npz file."""
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (seq(float[n, 3]) s, float[k, 3] x, optional(float[2]) o) => (seq(float[a, 3]) t, float[c, 3] all, optional(float[2]) p) {
      t = SequenceInsert(s, x)
      all = ConcatFromSequence<axis = 0>(t)
      p = Identity(o)
    }"""
    path, exported = tmp_path / "m.onnx", tmp_path / "n.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    output = invoke("check", path).output
    assert "input 's' holds is open" in output and "compiled: SequenceInsert, ConcatFromSequence" in output
    assert "sequence(float32[?, 3])" in invoke("show", path).output
    assert "SequenceInsert" in invoke("explain", path).output
    assert "and so does the whole model" in invoke("compare", path).output
    assert "s[1] [1, 3]" in invoke("bench", path, "--rounds", 1).output
    np.savez(tmp_path / "s.npz", *[np.full((i, 3), i, np.float32) for i in (1, 2)])
    np.save(tmp_path / "o.npy", np.float32([7, 8]))
    invoke("export", path, exported)
    sources = ("--input", f"s={tmp_path / 's.npz'}", "--input", f"o={tmp_path / 'o.npy'}")
    output = invoke("check", path, *sources).output
    assert "t sequence(float32[?, 3])" in output and "on the host" not in output
    output = invoke("run", exported, *sources, "--output", tmp_path / "y.npz").output
    assert "input s[1]: float32[2, 3]" in output and "t[2]" in output
    results = np.load(tmp_path / "y.npz")
    assert results["all"][:3].tolist() == [[1] * 3, [2] * 3, [2] * 3] and results["p"].tolist() == [7, 8]
    assert "'t' is a sequence" in invoke("run", path, "--output", tmp_path / "y.npy", code=4).output
