"""Quantised models: what they compute, here and in ONNX Runtime, and what is told of their layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from quantized_nets import NETS, Net, data, in_onnxruntime, net
from targets import offered

import graphc
from graphc.backends import reference
from graphc.compiler import load
from graphc.errors import InputError, UnsupportedError
from graphc.frontends.onnx_export import to_onnx
from graphc.graph import Graph
from graphc.pipeline import PORTABLE, run
from graphc.quantizer import QuantizedModel, Scheme
from graphc.quantizer.placement import placed
from graphc.verify import verify

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
CALIBRATED = 256


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("name", NETS)
def test_onnx_runtime_computes_the_same(name: str):
    """As the file stands: sums of products are exact, and the few float operators round in their last digits. A sum that lies halfway
    between two bytes may go to either, so a value may be a step of the last quantisation away."""
    graph = net(name)
    made = graphc.quantize(graph, data(graph), threads=1)
    model = made.to_onnx()
    onnx.checker.check_model(model, full_check=True)
    assert {o.domain for o in model.opset_import} == {""}
    x = data(graph, 8, seed=2)
    ours = graphc.compile(made.graph, threads=1).run({"x": x})["y"]
    step = np.abs(ours).max() / 255
    for optimized in (False, True):
        (theirs,) = in_onnxruntime(model, {"x": x}, optimized)
        assert np.abs(ours - theirs).max() <= 2 * step
        assert np.mean(np.abs(ours - theirs) > step / 50) < 0.02  # few elements, where at all
    expected = graphc.compile(graph, threads=1).run({"x": x})["y"]
    assert relative(ours, expected) < 0.04


@pytest.mark.parametrize("name", ["residual", "squeezed"])
def test_the_file_is_what_was_measured(name: str, tmp_path: Path):
    graph = net(name)
    x = data(graph)
    made = graphc.quantize(graph, x, threads=1)
    made.save(tmp_path / "q.onnx")
    y = graphc.compile(tmp_path / "q.onnx", threads=1).run({"x": x})["y"]
    expected = graphc.compile(graph, threads=1).run({"x": x})["y"]
    assert relative(y, expected) == pytest.approx(made.report.error, rel=1e-4)


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_batches_make_no_difference(method: str):
    graph = net("residual")
    x = data(graph, 10)
    one, several = (graphc.quantize(graph, x, method=method, batch=b, threads=1) for b in (10, 3))
    parts = graphc.quantize(graph, [x[:4], {"x": x[4:]}], method=method, threads=1)
    for a, b, c in zip(one.report.layers, several.report.layers, parts.report.layers):
        extents = [layer.extent for layer in (a, b, c) if layer.extent is not None]
        assert len(extents) == (
            0 if a is one.report.layers[-1] else 3
        )  # the last makes the result, which stays in float
        for other in extents[1:]:
            np.testing.assert_allclose(other, extents[0], rtol=1e-4)
    assert several.report.samples == parts.report.samples == 10


def test_errors_of_layers_against_the_interpreter():
    """From two runs of the reference, which gives the values of all nodes."""
    graph = run(net("residual"), PORTABLE)
    x = data(graph)
    made = graphc.quantize(graph, x, threads=1)
    floats, integers = (_values(g, x) for g in (graph, made.graph))
    for layer, end in zip(made.report.layers, placed(graph, Scheme()).layers.values(), strict=True):
        seen = integers.get(f"{end.name}_dequantized", integers[end.name])  # what the next layer reads
        assert relative(seen, floats[end.name]) == pytest.approx(layer.output, rel=1e-3)
        assert 0 < layer.output < 0.02 and (layer.op == "Add") == (layer.weights is None)
    assert layer.output == pytest.approx(made.report.error)


def _values(graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    values = tuple(v for n in graph.nodes for v in n.outputs)
    return reference.run(replace(graph, outputs=values, output_names=tuple(v.name for v in values)), {"x": x})


# --- sensitivity ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def uneven() -> Graph:
    """Three convolutions; the second reads a channel that is 300 times as large as the others, and weighs it as little."""
    b = Net()
    first, second = np.ones((8, 1, 1, 1)), np.ones((1, 8, 1, 1))
    first[0], second[0, 0] = 300, 1 / 300
    x = b.add("Conv", b.image(), b.constant(b.weights(8, 3, 3, 3).data * first, np.float32), name="first")
    x = b.add("Conv", b.relu(x), b.constant(b.weights(8, 8, 3, 3).data * second, np.float32), name="second")
    y = b.add("Conv", b.relu(x), b.weights(4, 8, 3, 3), name="third")
    return b.build({"y": y})


def test_the_ranking(uneven: Graph):
    made = graphc.quantize(uneven, data(uneven), sensitivity=True, threads=1)
    ranked = [layer.name for layer in made.report.ranking()]
    assert ranked[-1] == "third" and len(ranked) == 3
    for layer in made.report.layers:
        others = [n for n in ranked if n != layer.name]
        alone = graphc.quantize(uneven, data(uneven), keep=others, threads=1)
        assert alone.report.error == pytest.approx(layer.alone, rel=1e-6)


def test_the_largest_error_is_kept_to(uneven: Graph):
    whole = graphc.quantize(uneven, data(uneven), threads=1).report.error
    limit = whole / 3
    made = graphc.quantize(uneven, data(uneven), max_error=limit, threads=1)
    kept = {layer.name for layer in made.report.kept}
    assert made.report.error <= limit and kept and "third" not in kept
    ranked = [layer.name for layer in made.report.ranking()]
    assert kept == set(ranked[: len(kept)])  # the most sensitive ones, and with one less it is above
    fewer = graphc.quantize(uneven, data(uneven), keep=ranked[: len(kept) - 1], threads=1)
    assert fewer.report.error > limit
    assert not graphc.quantize(uneven, data(uneven), max_error=2 * whole, threads=1).report.kept
    with pytest.raises(InputError, match="with any layer quantised the error is above 1e-09"):
        graphc.quantize(uneven, data(uneven), max_error=1e-9, threads=1)


# --- a trained network ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def digits() -> dict[str, np.ndarray]:
    with np.load(DIGITS / "digits.npz") as file:
        return {
            "calibration": file["train_x"][:CALIBRATED, None].astype(np.float32),
            "images": file["test_x"][:, None].astype(np.float32),
            "truth": file["test_y"],
        }


def accuracy(probabilities: np.ndarray, digits: dict[str, np.ndarray]) -> float:
    return float(np.mean(probabilities.argmax(1) == digits["truth"]))


def quantized(digits: dict[str, np.ndarray], **options) -> QuantizedModel:
    return graphc.quantize(DIGITS / "digits.yaml", digits["calibration"], threads=1, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "percentile"},
        {"method": "entropy"},
        {"activations": "int8", "symmetric": True},
        {"per_channel": False},
        {"reduce_range": True},
        {"weights": "int4"},
        {"weights": "uint4", "block": 16},
    ],
    ids=str,
)
def test_digits_are_read_as_well(options: dict, digits: dict[str, np.ndarray]):
    """Within 0.4 % of float32, which reads 99.6 %, here and in ONNX Runtime."""
    expected = graphc.compile(DIGITS / "digits.yaml", threads=1).run({"image": digits["images"]})["probabilities"]
    reached = accuracy(expected, digits)
    assert reached == pytest.approx(0.996)
    made = quantized(digits, **options)
    model = made.to_onnx()
    onnx.checker.check_model(model, full_check=True)
    found = graphc.compile(made.graph, threads=1).run({"image": digits["images"]})["probabilities"]
    assert accuracy(found, digits) >= reached - 0.004
    (theirs,) = in_onnxruntime(model, {"image": digits["images"]})
    assert accuracy(theirs, digits) >= reached - 0.004
    assert np.abs(theirs - found).max() < 1e-3
    assert made.report.bytes[0] > 1.5 * made.report.bytes[1]


class Samples(CalibrationDataReader):
    def __init__(self, x: np.ndarray) -> None:
        self.batches: Iterator[np.ndarray] = iter(np.array_split(x, 8))

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(({"image": x} for x in self.batches), None)


def test_onnx_runtimes_quantiser_is_no_better(digits: dict[str, np.ndarray], tmp_path: Path):
    """The same network, samples and scheme. Ours leaves the results in float."""
    x = digits["images"]
    plain = to_onnx(run(load(DIGITS / "digits.yaml"), PORTABLE))
    onnx.save(plain, tmp_path / "float.onnx")
    quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "theirs.onnx",
        Samples(digits["calibration"]),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )
    (expected,) = in_onnxruntime(plain, {"image": x})
    theirs = relative(in_onnxruntime(onnx.load(tmp_path / "theirs.onnx"), {"image": x})[0], expected)
    ours = relative(in_onnxruntime(quantized(digits).to_onnx(), {"image": x})[0], expected)
    assert ours <= theirs < 0.02
    again = graphc.compile(tmp_path / "theirs.onnx", threads=1).run({"image": x})
    assert relative(next(iter(again.values())), expected) == pytest.approx(theirs, rel=0.05)


# --- weights of 4 bits ------------------------------------------------------------------------------------------------
def test_weights_of_4_bits_want_no_data():
    graph = net("transformer")
    made = graphc.quantize(graph, weights="int4")
    assert made.report.error is None and made.report.samples == 0
    assert [layer.op for layer in made.report.layers] == ["MatMul"] * 6
    # normal weights in 15 levels: the largest of 32 is at 2.1 σ, a step 0.3 σ, its rounding 0.086 σ; a little less by the search
    assert all(0.05 < layer.weights < 0.12 for layer in made.report.layers)
    x = data(graph, 4)
    expected = graphc.compile(graph, threads=1).run({"x": x})["y"]
    found = graphc.compile(made.graph, threads=1).run({"x": x})["y"]
    assert relative(found, expected) < 0.12
    (theirs,) = in_onnxruntime(made.to_onnx(), {"x": x})
    np.testing.assert_allclose(found, theirs, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("weights", ["int4", "uint4"])
@pytest.mark.parametrize("block", [16, 64])
def test_the_form_of_com_microsoft(weights: str, block: int):
    """MatMulNBits has the same weights, here and in ONNX Runtime."""
    b = Net()
    x = b.relu(b.add("MatMul", b.input("x", np.float32, ("n", 70)), b.weights(70, 32)))
    x = b.relu(b.add("Gemm", x, b.weights(48, 32), b.weights(48), transB=True))
    graph = b.build({"y": b.add("Gemm", x, b.weights(48, 5))})
    standard, made = (graphc.quantize(graph, weights=weights, block=block, nbits=form) for form in (False, True))
    assert [n.op.name for n in made.graph.nodes].count("com.microsoft::MatMulNBits") == 3
    verify(made.graph)
    model = made.to_onnx()
    onnx.checker.check_model(model)
    assert [n.op_type for n in model.graph.node if n.domain == "com.microsoft"] == ["MatMulNBits"] * 3
    x = np.random.default_rng(0).standard_normal((3, 70)).astype(np.float32)
    expected = reference.run(standard.graph, {"x": x})["y"]
    assert standard.report.layers == made.report.layers
    steps = (
        2e-6 if offered("cpu:avx512") else 4e-6
    )  # three sums of up to 70, which vectors of eight add in another order
    near = {"atol": steps * np.abs(expected).max()}
    np.testing.assert_allclose(graphc.compile(model, threads=1)(x), expected, **near)
    np.testing.assert_allclose(in_onnxruntime(model, {"x": x})[0], expected, **near)


def test_smaller_blocks_and_zero_points_lose_less():
    b = Net()
    w = b.constant(0.3 + b.weights(64, 16).data, np.float32)
    graph = b.build({"y": b.add("MatMul", b.input("x", np.float32, ("n", 64)), w)})
    errors = [
        graphc.quantize(graph, weights=weights, block=block).report.layers[0].weights
        for weights, block in (("int4", 64), ("int4", 16), ("uint4", 16))
    ]
    assert errors[0] > errors[1] > errors[2]


# --- what is refused --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": "int5"}, "weights must be one of int8, int4, uint4, not 'int5'"),
        ({"activations": "int4"}, "activations must be one of"),
        ({"method": "mean"}, "method must be one of minmax, percentile, entropy"),
        ({"percentile": 40}, "percentile must be above 50"),
        ({"weights": "int4", "block": 20}, "block must be a power of two"),
        ({"weights": "int4", "reduce_range": True}, "reduce_range is for weights of 8 bits"),
        ({"nbits": True}, "nbits is a form of weights of 4 bits"),
        ({"keep": "Conv"}, "keep must hold names"),
        ({"keep": ["Covn"]}, "did you mean 'Conv'"),
        ({"keep": ["*"]}, "every layer that could be quantised is kept"),
        ({"max_error": -1}, "max_error must be a number from 0 on"),
        ({"max_error": float("nan")}, "max_error must be a number from 0 on"),
        ({"batch": 0}, "batch must be a whole number from 1 on"),
        ({"samples": 0}, "samples must be a whole number from 1 on"),
    ],
    ids=str,
)
def test_options(options: dict, said: str):
    graph = net("residual")
    with pytest.raises(InputError) as caught:
        graphc.quantize(graph, data(graph, 1), threads=1, **options)
    assert said in str(caught.value)


def test_no_data():
    graph = net("residual")
    with pytest.raises(InputError, match="want data to find their ranges with"):
        graphc.quantize(graph)
    with pytest.raises(InputError, match="can't be measured without data"):
        graphc.quantize(net("transformer"), weights="int4", sensitivity=True)


def test_nothing_to_quantise():
    b = Net()
    graph = b.build({"y": b.add("Sigmoid", b.image())})
    with pytest.raises(UnsupportedError, match="nothing to quantise: no convolutions or products"):
        graphc.quantize(graph, data(graph, 1))
    with pytest.raises(UnsupportedError, match="no products of matrices"):
        graphc.quantize(net("residual"), weights="int4")
    b = Net()
    x = b.input("x", np.float16, (1, 4))
    graph = b.build({"y": b.add("MatMul", x, b.constant(np.ones((4, 4)), np.float16))})
    with pytest.raises(UnsupportedError, match="its floats are float16"):
        graphc.quantize(graph, np.ones((1, 4), np.float16))


def test_quantised_already():
    graph = net("residual")
    made = graphc.quantize(graph, data(graph, 1), threads=1)
    with pytest.raises(InputError, match="is quantised already: it has .* operators such as QuantizeLinear"):
        graphc.quantize(made.graph, data(graph, 1))


def test_values_without_a_range():
    b = Net()
    x = b.relu(b.conv(b.image(), 4))
    graph = b.build({"y": b.add("Conv", b.add("Reciprocal", x), b.weights(2, 4, 1, 1), name="last")})
    with pytest.raises(InputError, match="is NaN or infinite over this data") as caught:
        graphc.quantize(graph, data(graph, 1), threads=1)
    assert "--keep last" in str(caught.value)
    assert not np.isfinite(graphc.compile(graph)(data(graph, 1))).all()
    made = graphc.quantize(graph, data(graph, 1), keep=["last"], threads=1)
    assert len(made.report.kept) == 1
