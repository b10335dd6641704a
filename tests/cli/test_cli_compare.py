"""graphc compare: what is a difference, what rounding explains, and what is said of either."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest
from click.testing import CliRunner

from graphc.backends.cpu.target import detect
from graphc.cli import compare, main
from graphc.cli.difference import Difference, error_of, told
from graphc.cli.rounding import excused
from graphc.graph import Builder, Graph, Node
from graphc.interpret import run_node


def invoke(*args, code: int = 0):
    result = CliRunner().invoke(main, ["compare", *map(str, args)])
    assert result.exit_code == code, result.output
    return result


def saved(path: Path, text: str) -> Path:
    onnx.save(onnx.parser.parse_model(text), path)
    return path


QUANTIZED = """<ir_version: 10, opset_import: ["" : 21]>
g (float[n, 64] x) => (float[n, 64] y)
<float s = {0.01}, uint8 z = {128}, float half = {0.5}> {
  t = Tanh(x)
  [codes] q = QuantizeLinear(t, s, z)
  d = DequantizeLinear(q, s, z)
  y = Mul(d, half)
}"""


def test_what_follows_from_a_step_is_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A target that rounds tanh otherwise: bytes behind it are a step off, and so is all that follows."""
    path = saved(tmp_path / "m.onnx", QUANTIZED)
    honest = compare.Taps.expected

    def rounded_otherwise(taps: compare.Taps):
        values = honest(taps)
        for v, a in values.items():
            if v.name == "q":
                a[0, 3] += 1
            elif v.name in ("d", "y"):
                a[0, 3] += 0.01 if v.name == "d" else 0.005
        return values

    monkeypatch.setattr(compare.Taps, "expected", rounded_otherwise)
    said = invoke(path).output
    assert "4 values of 4 nodes agree within 0.0001 on the same operands, and so does the whole model" in said
    assert "first QuantizeLinear 'codes': 1 of 64 elements differ, by 1 step or less, most at [0, 3]" in said
    assert "y is " in said and "which itself moves by" in said


def node_of(graph: Graph) -> Node:
    (node,) = graph.nodes
    return node


def test_bytes_may_be_a_step_off_only_where_what_is_rounded_lies_near_halfway():
    b = Builder()
    scale, zero = b.constant(np.float32(0.01)), b.constant(np.int8(0))
    node = node_of(b.build({"y": b.add("QuantizeLinear", b.input("x", "float32", (3,)), scale, zero)}))
    x = np.float32([0.50499, 0.502, 1.27])
    operands = [x, scale.data, zero.data]
    (codes,) = run_node(node, operands)
    assert codes.tolist() == [50, 50, 127]
    assert excused(node, 0, np.int8([51, 50, 127]), operands, 1e-4)
    assert not excused(node, 0, np.int8([50, 51, 127]), operands, 1e-4)
    assert not excused(node, 0, np.int8([52, 50, 127]), operands, 1e-4)


def test_floats_may_differ_as_far_as_rounding_of_operands_moves_them():
    b = Builder()
    node = node_of(b.build({"y": b.add("Sin", b.input("x", "float32", (100,)))}))
    near, far = np.linspace(0, 1, 100, dtype=np.float32), np.linspace(1e7, 2e7, 100, dtype=np.float32)
    assert excused(node, 0, np.sin(far + 1), [far], 1e-4)
    assert not excused(node, 0, np.sin(near + np.float32(1e-3)), [near], 1e-4)


CHAOTIC = """<ir_version: 10, opset_import: ["" : 21]>
g (float[4] x) => (float[4] y)
<int64 n = {60}, bool go = {1}, float r = {3.9}, float one = {1}> {
  y = Loop(n, go, x) <body = step (int64 i, bool c, float[4] v) => (bool d, float[4] w) {
    d = Identity(c)
    rest = Sub(one, v)
    rv = Mul(r, v)
    w = Mul(rv, rest)
  }>
}"""


def test_a_chaotic_model_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The logistic map: what differs by a unit in the last place is another orbit 60 steps later."""
    path = saved(tmp_path / "m.onnx", CHAOTIC)
    honest = compare.open_model

    def rounds_otherwise(graph, **settings):
        model = honest(graph, **settings)
        run = model.run
        monkeypatch.setattr(
            model, "run", lambda feeds: run({n: np.nextafter(a, np.float32(1)) for n, a in feeds.items()})
        )
        return model

    monkeypatch.setattr(compare, "open_model", rounds_otherwise)
    said = invoke(path).output
    assert "differ no more than NumPy's do when operands move by 8 units" in said
    assert "the model enlarges rounding" in said


MAPS = """<ir_version: 8, opset_import: ["" : 15, "ai.onnx.ml" : 3]>
g (float[n, 3] x) => (seq(map(int64, float)) y) {
  p = Softmax<axis = 1>(x)
  y = ai.onnx.ml.ZipMap<classlabels_int64s = [3, 5, 7]>(p)
}"""


def test_maps_agree(tmp_path: Path):
    assert "and so does the whole model\nworst error" in invoke(saved(tmp_path / "m.onnx", MAPS)).output


def test_of_an_object_the_tensor_that_differs_most_is_named():
    wanted = [{0: 1.0, 1: 2.0}, {0: 3.0, 1: 4.0}]
    actual = [{0: 1.0, 1: 2.0}, {0: 3.0, 1: 5.0}]
    assert error_of(actual, wanted) == 0.25
    assert told(actual, wanted).startswith("of what it holds, [1][1] differs most: error 2.50e-01")
    assert told(wanted[:1], wanted) == "it holds 2 tensors, the reference 4: [1][0] is in one of them only"
    assert told(np.zeros(2, np.float32), wanted) == "it is float32[2], the reference a sequence"
    one, other = [np.zeros(2)], [np.zeros(2, np.float32)]
    assert error_of(one, other) == np.inf
    assert told(one, other) == "of what it holds, [0] differs most: it is float64[2], the reference float32[2]"


@pytest.mark.parametrize(
    "actual, expected, error",
    [
        ([1.0, 2.0], [1.0, 4.0], 0.5),
        ([0.0, np.nan], [0.0, np.nan], 0.0),
        ([0.0, 1.0], [0.0, np.nan], np.inf),
        ([np.inf, 1.0], [-np.inf, 1.0], np.inf),
        ([np.inf], [1.0], np.inf),
    ],
)
def test_error_of_floats(actual, expected, error):
    assert error_of(np.array(actual), np.array(expected)) == error


def test_error_of_other_types():
    assert error_of(np.arange(3), np.arange(3)) == 0
    assert error_of(np.array([True]), np.array([False])) == np.inf
    assert error_of(np.zeros(3, np.float32), np.zeros(3)) == np.inf
    assert error_of(np.zeros((3, 1)), np.zeros(3)) == np.inf


def test_integers_count_steps():
    a = np.int64([3, 2**62, 7])
    assert error_of(a + 1, a) == 1 / 255, "however large numbers there are besides"
    assert error_of(a + np.int64([0, 1, 0]), a) == 1 / 255, "a step that float64 does not see"
    small = np.array([1, 5], ml_dtypes.int4)
    assert error_of(np.array([1, 4], ml_dtypes.int4), small) == 0.2
    assert "1 of 2 elements differ, by 1 step or less, most at [1]: 4 against 5" in told(
        np.int8([1, 4]), np.int8([1, 5])
    )


def test_narrow_floats_may_be_rounded_to_a_neighbour():
    half = np.float16([1, 1.5])
    node = node_of((b := Builder()).build({"y": b.add("Neg", b.input("x", "float16", (2,)))}))

    def within(actual: np.ndarray) -> bool:
        return Difference("y", node, node.outputs[0], actual, half).within(1e-4)

    assert within(np.nextafter(half, np.float16(2))) and not within(half + np.float16(0.01))


def test_the_difference_stands_before_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is wrong is said before anything is left out, and what leaving out all of it does not mend is no pass's."""
    path = saved(tmp_path / "m.onnx", QUANTIZED)
    honest = compare.Taps.actual

    def wrong(taps: compare.Taps, build):
        return {v: a * np.float32(1.5) if v.name == "y" else a for v, a in honest(taps, build).items()}

    monkeypatch.setattr(compare.Taps, "actual", wrong)
    monkeypatch.setattr(compare, "SEARCH", 0)
    said = invoke(path, code=1).stderr.splitlines()
    assert said[0].startswith("first difference: Mul")
    assert said[3].startswith("it differs without all passes and parts, too") and len(said) == 4


def test_a_whole_model_that_differs_is_not_explained_by_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = saved(tmp_path / "m.onnx", QUANTIZED)
    honest = compare.open_model

    def wrong_where_it_is_fused(graph: Graph, **settings):
        model = honest(graph, **settings)
        run, last = model.run, graph.output_names[-1]
        if len(graph.nodes) > 2 and len(graph.outputs) == 1:
            monkeypatch.setattr(model, "run", lambda feeds: {last: run(feeds)[last] + np.float32(0.1)})
        return model

    monkeypatch.setattr(compare, "open_model", wrong_where_it_is_fused)
    monkeypatch.setattr(compare, "removable", lambda target: [])
    said = invoke(path, code=1).stderr
    assert "every node alone agrees, but the whole model differs in y" in said
    assert "first difference: DequantizeLinear" in said, "the last node of the shortest beginning that differs"


@pytest.mark.skipif(not detect().dots_bfloat16, reason="this CPU has no AVX512_BF16")
@pytest.mark.parametrize("off, code", [(0.0, 0), (0.05, 1)])
def test_in_bfloat16_some_of_its_steps_are_no_difference(off: float, code: int, monkeypatch: pytest.MonkeyPatch):
    digits = Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits.yaml"
    honest = compare.Taps.actual

    def wrong(taps: compare.Taps, build):
        found = honest(taps, build)
        return {v: a + np.float32(off * np.abs(a).max()) if v.name == "net.4.conv" else a for v, a in found.items()}

    monkeypatch.setattr(compare.Taps, "actual", wrong)
    monkeypatch.setattr(compare, "SEARCH", 0)
    said = invoke(digits, "--precision", "bf16", code=code)
    if code:
        assert "first difference: Conv 'net.4.conv'" in said.stderr
    else:
        assert "agree within 0.015625" in said.output and "worst error" in said.output


@pytest.mark.parametrize(("helps", "found"), [((), []), (("b",), ["b"])])
def test_where_nothing_helps_nothing_is_tried_alone(
    helps: tuple[str, ...], found: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    from graphc.cli import compare

    monkeypatch.setattr(compare, "removable", lambda target: ["a", "b"])
    monkeypatch.setattr(compare, "stages_of_parts", lambda target: {})
    tried = []

    def agrees(without: tuple[str, ...]) -> bool:
        tried.append(without)
        return any(name in helps for name in without)

    trial = compare.Trial({}, lambda graph, disable: None, ())
    assert compare.search_remedy(agrees, trial, "cpu") == found
    assert tried == [("b", "a"), ("b",), ("a",)][: 3 if helps else 1]
    assert (compare.BEYOND in capsys.readouterr().err) == (not helps)
