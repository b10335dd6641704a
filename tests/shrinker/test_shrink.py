"""Methods one after the other, layers that are kept, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from quantizer.quantized_nets import Net, data, in_onnxruntime, net

import graphc
from graphc.errors import InputError, UnsupportedError
from graphc.shrinker import Channels, Codebook, LowRank, Signs, Sparse, methods_of, shrink

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"


def test_all_methods_after_each_other(tmp_path: Path):
    """A file that other runtimes read, and errors of results as they are."""
    with np.load(DIGITS / "digits.npz") as file:
        x = file["test_x"][:64, None].astype(np.float32)
    made = graphc.shrink(
        DIGITS / "digits.yaml", x, channels=0.1, low_rank=0.3, sparse=0.3, block="1x1", codebook=5, threads=1
    )
    made.save(tmp_path / "small.onnx")
    model = onnx.load(tmp_path / "small.onnx")
    onnx.checker.check_model(model, full_check=True)
    expected = graphc.compile(DIGITS / "digits.yaml", threads=1)(x)
    (found,) = in_onnxruntime(model, {"image": x})
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert made.report.error == pytest.approx(error, rel=1e-3)
    steps = made.report.steps
    assert [step.method for step in steps] == [
        "10 % of the output channels removed",
        "low rank, a relative error of weights of 0.3 at most",
        "30 % of the weights' blocks of 1x1 set to zero",
        "codebooks of 32 weights",
    ]
    assert made.report.before > steps[0].bytes > steps[1].bytes == steps[2].bytes > steps[3].bytes > made.report.coded
    assert steps[2].coded < steps[2].bytes and made.report.samples == 64


def test_layers_that_are_kept():
    """By name, by a pattern, by the operator; their inputs may be fewer."""
    graph = net("classifier")
    first, *others = [row.name for row in shrink(graph, [Codebook(4)]).report.steps[0].layers]
    made = shrink(graph, [Channels(0.5), Codebook(4)], keep=[first, "Gemm"])
    assert [[row.name for row in step.layers] for step in made.report.steps] == [[others[0]], [others[0]]]
    second = others[0]
    sizes = {n.name: n.inputs[1].shape for n in made.graph.nodes if n.op.name in ("Conv", "Gemm")}
    assert sizes[second][:2] == (4, 8) and [s for n, s in sizes.items() if n in others[1:]] == [(16, 16), (16, 10)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "nothing says how the model becomes smaller"),
        ({"channels": 0}, "channels must be a number between 0 and 1, not 0"),
        ({"channels": 1.5}, "channels must be a number between 0 and 1, not 1.5"),
        ({"channels": "half"}, "channels must be a number between 0 and 1, not 'half'"),
        ({"sparse": float("nan")}, "sparse must be a number between 0 and 1"),
        ({"low_rank": -0.1}, "low_rank must be a relative error"),
        ({"low_rank": 1}, "low_rank must be a relative error"),
        ({"sparse": 0.5, "block": "16"}, "a block has rows and columns"),
        ({"sparse": 0.5, "block": (0, 4)}, "a block has rows and columns"),
        ({"sparse": 0.5, "block": 16}, "a block has rows and columns"),
        ({"channels": 0.5, "block": "1x16"}, "block is the size of what sparse sets to zero"),
        ({"codebook": 0}, "codebook must be bits from 1 to 8, not 0"),
        ({"codebook": 4.0}, "codebook must be bits from 1 to 8"),
        ({"signs": "quaternary"}, "signs must be one of binary, ternary"),
        ({"signs": "binary", "codebook": 4}, "not by both"),
    ],
    ids=str,
)
def test_options_that_make_no_sense(options: dict, said: str):
    with pytest.raises(InputError) as caught:
        methods_of(**options)
    assert said in str(caught.value) and caught.value.hint or "must be one of" in said


def test_methods():
    found = methods_of(signs="ternary", sparse=0.5, block=[2, 4], low_rank=0, channels=0.25)
    assert found == [Channels(0.25), LowRank(0), Sparse(0.5, (2, 4)), Signs("ternary")]


def test_models_that_are_refused():
    b = Net()
    with pytest.raises(UnsupportedError, match="nothing to make smaller"):
        shrink(b.build({"y": b.relu(b.image())}), [Codebook(4)])
    graph = net("classifier")
    with pytest.raises(InputError, match="no layer that could be made smaller is named 'Covn'"):
        shrink(graph, [Codebook(4)], keep=["Covn"])
    with pytest.raises(InputError, match="every layer that could be made smaller is kept"):
        shrink(graph, [Codebook(4)], keep=["*"])
    quantized = graphc.quantize(graph, data(graph)).graph
    with pytest.raises(InputError, match="quantised already"):
        shrink(quantized, [Codebook(4)])
    with pytest.raises(InputError, match="no input 'z'"):
        shrink(graph, [Codebook(4)], {"z": np.zeros(3)})


@pytest.mark.parametrize(
    "options", [{"channels": 0.5}, {"low_rank": 0.5}, {"sparse": 0.5}, {"codebook": 2}, {"signs": "ternary"}]
)
def test_weights_that_are_not_finite(options: dict):
    b = Net()
    w = np.full((8, 3, 1, 1), np.nan, np.float32)
    graph = b.build({"y": b.conv(b.add("Conv", b.image(), b.constant(w), name="layer"), 4)})
    (step,) = shrink(graph, methods_of(**options)).report.steps
    assert step.layers[0].name == "layer" and step.layers[0].kept == "its weights are not finite"
