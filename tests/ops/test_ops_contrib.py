"""Operators of com.microsoft and of QONNX against formulas written out here, and files that ONNX Runtime's quantiser writes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from fuzz.peers import runtime_saturates
from onnx import TensorProto, helper, numpy_helper
from test_ops_other_domains import MS, assert_same, model

import graphc

QONNX = "qonnx.custom_op.general"
BYTES = np.arange(256).reshape(1, 1, 16, 16)


def f32(value) -> np.ndarray:
    return np.array(value, np.float32)


def named(*arrays) -> dict[str, np.ndarray | None]:
    return {f"x{i}": a if a is None else np.asarray(a) for i, a in enumerate(arrays)}


def run(op: str, arrays, attrs=None, result: str = "uint8", consts=()) -> np.ndarray:
    inputs = named(*arrays)
    data = model(op, inputs, attrs or {}, [result], consts)
    feeds = {k: v for k, v in inputs.items() if v is not None and k not in consts}
    return graphc.compile(data).run(feeds)["y0"]


# --- where halves go --------------------------------------------------------------------------------------------------
def parameters(kind: str, *scales_and_zeros: tuple[float, int]) -> list[np.ndarray]:
    return [v for s, z in scales_and_zeros for v in (f32(s), np.array(z, kind))]


@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize(("op", "function"), [("QLinearAdd", np.add), ("QLinearMul", np.multiply)])
def test_sums_and_products_are_rounded_behind_the_zero_point(kind: str, op: str, function):
    rng, info = np.random.default_rng(0), np.iinfo(kind)
    a, b = rng.integers(info.min, info.max + 1, (2, 50, 40)).astype(kind)
    exact = function(
        (a.astype(int) - 3) * 0.25, (b.astype(int) - 7) * 0.5
    )  # scales are powers of two: halves are frequent
    want = np.clip(np.rint(exact / 2 + 5), info.min, info.max)
    assert np.any(np.rint(exact / 2) + 5 != np.rint(exact / 2 + 5))
    operands = [a, *parameters(kind, (0.25, 3)), b, *parameters(kind, (0.5, 7), (2, 5))]
    np.testing.assert_array_equal(run(f"{MS}::{op}", operands, result=kind), want)


def test_means_of_windows_are_rounded_behind_the_zero_point_and_planes_before_it():
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8)).astype(np.uint8)
    numbers = parameters("uint8", (0.25, 3), (0.25, 5))
    windows = x.astype(int).reshape(2, 3, 4, 2, 4, 2).mean((3, 5)) - 3
    got = run(f"{MS}::QLinearAveragePool", [x, *numbers], {"kernel_shape": [2, 2], "strides": [2, 2]})
    np.testing.assert_array_equal(got, np.clip(np.rint(windows + 5), 0, 255))
    planes = x.astype(int).mean((2, 3), keepdims=True) - 3
    for op, attrs in (("QLinearGlobalAveragePool", {}), ("QLinearAveragePool", {"kernel_shape": [8, 8]})):
        np.testing.assert_array_equal(run(f"{MS}::{op}", [x, *numbers], attrs), np.clip(np.rint(planes) + 5, 0, 255))


@pytest.mark.parametrize("padded", [False, True])
def test_windows_with_one_scale_are_added_row_by_row(padded: bool):
    rng, s = np.random.default_rng(1), np.float32(0.0265387911349535)
    x = rng.integers(0, 255, (1, 8, 32, 32)).astype(np.uint8)
    attrs = {"kernel_shape": [2, 2], "strides": [2, 2], "count_include_pad": int(padded)}
    reals = (x.astype(np.float32) - 10) * s
    if padded:
        attrs["pads"], reals = [1, 1, 1, 1], np.pad(reals, [(0, 0), (0, 0), (1, 1), (1, 1)])
    total = np.float32(0)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        total = total + reals[:, :, i::2, j::2]
    want = np.clip(np.rint(total / np.float32(4) / s + np.float32(10)), 0, 255)
    got = run(f"{MS}::QLinearAveragePool", [x, s, np.uint8(10), s, np.uint8(10)], attrs)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("y_scale", "steps"), [(1 / 255, 254), (1 / 256, 256), (0.0042, 238)])
def test_softmax_multiplies_by_a_whole_number(y_scale: float, steps: int):
    x = np.random.default_rng(0).integers(60, 200, (40, 5)).astype(np.uint8)
    powers = np.exp(x * 0.03)
    want = np.rint(powers / powers.sum(1, keepdims=True) * steps)
    operands = [x, f32(0.03), np.uint8(9), f32(y_scale), np.uint8(0)]
    np.testing.assert_array_equal(run(f"{MS}::QLinearSoftmax", operands, {"opset": 13}), np.minimum(want, 255))


@pytest.mark.parametrize("domain", [f"{MS}::", ""])
@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16"])
def test_what_is_no_number_is_quantised_to_the_lowest(domain: str, kind: str):
    info = np.iinfo(kind)
    x = f32([math.nan, math.inf, -math.inf, 1e30, 0.5, 1.5, -0.5])
    want = [info.min, info.max, info.min, info.max, 0, 2, 0]
    assert run(f"{domain}QuantizeLinear", [x, f32(1), np.array(0, kind)], result=kind).tolist() == want


def test_zero_points_that_are_left_out_are_0():
    x, s = BYTES.astype(np.uint8), f32(0.5)
    np.testing.assert_array_equal(run(f"{MS}::QLinearAdd", [x, s, None, x, s, None, f32(1)]), x)
    want = np.minimum(np.rint(256 / (1 + np.exp(-BYTES * 0.0625))), 255)
    got = run(f"{MS}::QLinearSigmoid", [x, f32(0.0625), None, f32(1 / 256)])
    np.testing.assert_array_equal(got, want)


def test_parts_with_the_scale_of_the_result_are_joined_as_they_are():
    x, s, z = BYTES.astype(np.uint8), f32(0.3), np.uint8(7)
    data = model(f"{MS}::QLinearConcat", named(s, z, x, s, z, x, s, z), {"axis": 1}, ["uint8"], ["x0", "x1", "x3", "x4", "x6", "x7"])  # fmt: skip
    compiled = graphc.compile(data)
    assert {op for step in compiled.plan().steps for op in step.ops} <= {"Concat"}


# --- products ---------------------------------------------------------------------------------------------------------
def test_alpha_of_a_quantised_gemm_scales_the_bias_too():
    rng = np.random.default_rng(0)
    a, b, c = rng.integers(0, 256, (3, 8)), rng.integers(-128, 128, (8, 5)), rng.integers(-999, 999, 5)
    want = ((a - 3) @ b + c) * 0.5 * 0.25 * 0.5
    operands = [a.astype(np.uint8), f32(0.25), np.uint8(3), b.astype(np.int8), f32(0.5), np.int8(0), c.astype(np.int32)]
    np.testing.assert_allclose(run(f"{MS}::QGemm", operands, {"alpha": 0.5}, "float32"), want, rtol=1e-6)
    got = run(f"{MS}::QGemm", [*operands, f32(64), np.uint8(9)], {"alpha": 0.5})
    np.testing.assert_array_equal(got, np.clip(np.rint(want / 64) + 9, 0, 255))


def test_products_of_words_wrap():
    a = np.full((2, 5), -(2**15), np.int16)
    want = (np.full((2, 2), 5 * 2**30) + 2**31) % 2**32 - 2**31
    np.testing.assert_array_equal(run(f"{MS}::MatMulInteger16", [a, a.T.copy()], result="int32"), want)


@pytest.mark.parametrize(
    ("op", "arrays", "attrs", "says"),
    [
        ("QGemm", [np.zeros((2, 3), np.uint8), f32(1), np.uint8(0), np.zeros((3, 2), np.uint8), f32([1, 2, 3]), np.uint8(0)], {}, "2 columns"),
        ("QLinearAdd", [np.zeros(3, np.uint8), f32(1), np.int8(0), np.zeros(3, np.uint8), f32(1), np.uint8(0), f32(1)], {}, "zero point"),
        ("QLinearAdd", [np.zeros(3, np.uint8), f32([1, 2]), np.uint8(0), np.zeros(3, np.uint8), f32(1), np.uint8(0), f32(1)], {}, "one number"),
        ("QLinearConcat", [f32(1), np.uint8(0), np.zeros(3, np.uint8), f32(1)], {"axis": 0}, "three for each"),
        ("UnfoldTensor", [f32([1, 2])], {"size": 3}, "windows of 3"),
        ("CDist", [f32([[1]]), f32([[1, 2]])], {}, "rows of 1 and 2"),
        ("FusedConv", [np.zeros((1, 1, 4, 4), np.float32), np.zeros((1, 1, 3, 3), np.float32)], {"activation": "Elu"}, "Elu"),
        ("FusedGemm", [f32([[1]]), f32([[1]])], {"activation": "LeakyRelu"}, "needs alpha"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(op: str, arrays: list, attrs: dict, says: str):
    with pytest.raises(graphc.GraphcError, match=f"(?s){op}.*{says}"):
        graphc.compile(model(f"{MS}::{op}", named(*arrays), attrs, ["uint8"]))


# --- the others -------------------------------------------------------------------------------------------------------
def test_hashes_are_those_that_others_compute():
    """Of the reference implementation, as widely published: murmur3_32("", 0), ("", 1), ("test", 0), ("hello", 0)."""
    words = np.array(["", "test", "hello", "The quick brown fox jumps over the lazy dog"], object)
    got = run(f"{MS}::MurmurHash3", [words], {"seed": 0}, "uint32")
    assert got.tolist() == [0, 0xBA6BD213, 0x248BFA47, 0x2E4FF723]
    assert run(f"{MS}::MurmurHash3", [words[:1]], {"seed": 1}, "uint32").tolist() == [0x514E28B7]


def test_singular_matrices_are_no_error():
    got = run(f"{MS}::Inverse", [f32([[1, 2], [2, 4]])], result="float32")
    np.testing.assert_array_equal(got, [[-math.inf, math.inf], [math.inf, -math.inf]])


def test_rows_of_a_masked_window_end_at_the_mask():
    x, mask = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4), np.ones((1, 1, 4, 4), np.int32)
    mask[0, 0, 1, 0] = 0  # hides what lies behind it in its row of the window, too
    got = run(f"{MS}::MaxpoolWithMask", [x, mask], {"kernel_shape": [2, 2], "strides": [2, 2]}, "float32")
    assert got.reshape(-1).tolist() == [1, 7, 13, 15]


ROUNDED = {  # of -1.5, -1.25, -0.5, 0.5, 1.25, 1.5, 2.5
    "ROUND": [-2, -1, 0, 0, 1, 2, 2],
    "CEIL": [-1, -1, 0, 1, 2, 2, 3],
    "FLOOR": [-2, -2, -1, 0, 1, 1, 2],
    "UP": [-2, -2, -1, 1, 2, 2, 3],
    "DOWN": [-1, -1, 0, 0, 1, 1, 2],
    "HALF_UP": [-2, -1, -1, 1, 1, 2, 3],
    "HALF_DOWN": [-1, -1, 0, 0, 1, 1, 2],
}


@pytest.mark.parametrize("mode", ROUNDED)
@pytest.mark.parametrize("domain", [QONNX, "onnx.brevitas"])
def test_modes_of_rounding(domain: str, mode: str):
    x = f32([-1.5, -1.25, -0.5, 0.5, 1.25, 1.5, 2.5])
    inputs = named(x, f32(1), f32(0), f32(8))
    node = helper.make_node("Quant", list(inputs), ["y"], domain=domain, signed=1, narrow=0, rounding_mode=mode)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [7])],
        [numpy_helper.from_array(inputs[k], k) for k in ("x1", "x2", "x3")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    compiled = graphc.compile(helper.make_model(graph, opset_imports=opsets, ir_version=9))
    np.testing.assert_array_equal(compiled(x), ROUNDED[mode])


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("Affine", {"alpha": 0.5, "beta": 2.0}),
        ("Scale", {"scale": 0.5}),
        ("ScaledTanh", {"alpha": 0.5, "beta": 2.0}),
        ("ParametricSoftplus", {"alpha": 0.5, "beta": 2.0}),
        ("ImageScaler", {"bias": [1.0, 2.0, 3.0], "scale": 0.5}),
        ("Crop", {"border": [1, 2, 3, 1]}),
        ("Crop", {"border": [1, 2, 3, 1], "scale": [2, 3]}),
    ],
)
def test_experimental_operators_of_early_opsets(op: str, attrs: dict):
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 7)).astype(np.float32)
    made = onnx.load_from_string(model(op, named(x), attrs, ["float32"]))
    del made.opset_import[:]
    made.opset_import.append(helper.make_opsetid("", 9))
    assert_same(made.SerializeToString(), named(x), 1e-6)


def test_weights_in_blocks_of_a_machine_are_refused_with_advice():
    inputs = named(np.zeros((1, 16, 4, 4), np.float32), np.zeros((16, 16, 1, 1), np.float32))
    with pytest.raises(graphc.GraphcError, match="(?s)'Conv' of domain 'com.microsoft.nchwc'.*ORT_ENABLE_EXTENDED"):
        graphc.compile(model("com.microsoft.nchwc::Conv", inputs, {}, ["float32"]))


# --- files of ONNX Runtime's quantiser --------------------------------------------------------------------------------
def network() -> onnx.ModelProto:
    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int):
        return numpy_helper.from_array(
            (rng.normal(size=shape) / math.sqrt(math.prod(shape[1:]))).astype(np.float32), name
        )

    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        make("Relu", ["c1"], ["r1"]),
        make("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        make("Conv", ["p1", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        make("LeakyRelu", ["c2"], ["l2"], alpha=0.1),
        make("Sigmoid", ["l2"], ["s2"]),
        make("Mul", ["l2", "s2"], ["m2"]),
        make("Add", ["m2", "p1"], ["a2"]),
        make("AveragePool", ["a2"], ["v2"], kernel_shape=[2, 2], strides=[2, 2]),
        make("Concat", ["v2", "v2"], ["k2"], axis=1),
        make("GlobalAveragePool", ["k2"], ["g2"]),
        make("Flatten", ["g2"], ["f2"]),
        make("Gemm", ["f2", "w3"], ["d3"], transB=1),
        make("Softmax", ["d3"], ["y"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        [weights("w1", 8, 3, 3, 3), weights("b1", 8), weights("w2", 8, 8, 3, 3), weights("w3", 10, 16)],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return onnx.shape_inference.infer_shapes(made)


def picture(seed: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(size=(1, 3, 12, 12)).astype(np.float32)}


@pytest.mark.parametrize("level", ["", "ORT_ENABLE_EXTENDED", pytest.param("ORT_ENABLE_BASIC", marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", ["QOperator", "QDQ"])
@pytest.mark.parametrize("kinds", [("QUInt8", "QInt8"), pytest.param(("QInt8", "QInt8"), marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")
def test_quantised_networks_equal_onnx_runtime(form: str, kinds: tuple[str, str], level: str, tmp_path: Path):
    """Operator by operator, as ONNX Runtime runs them without rewriting; in the form that its optimiser saves, too.

    What lies between DequantizeLinear and QuantizeLinear it sums in float32, graphc in whole numbers: a step of 1/255 apart where
    that decides a rounding.
    """
    import onnxruntime as ort

    quantization = pytest.importorskip("onnxruntime.quantization")
    source, target = str(tmp_path / "net.onnx"), str(tmp_path / "quantised.onnx")
    onnx.save(network(), source)
    pictures = iter([picture(i) for i in range(4)])

    class Reader(quantization.CalibrationDataReader):
        def get_next(self):
            return next(pictures, None)

    quantization.quantize_static(
        source,
        target,
        Reader(),
        quant_format=quantization.QuantFormat[form],
        activation_type=quantization.QuantType[kinds[0]],
        weight_type=quantization.QuantType[kinds[1]],
        per_channel=True,
        reduce_range=runtime_saturates(),  # weights of 7 bits, by which its sums are exact
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    if level:
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        ort.InferenceSession(target, options)
        target, options.optimized_model_filepath = options.optimized_model_filepath, ""
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session, compiled = ort.InferenceSession(target, options), graphc.compile(target)
    for seed in range(10, 13):
        y, want = compiled.run(picture(seed))["y"], session.run(None, picture(seed))[0]
        np.testing.assert_allclose(y, want, rtol=0, atol=1.01 / 255 if form == "QDQ" else 0)


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_random_windows_equal_onnx_runtime(kind: str):
    rng, info = np.random.default_rng(3), np.iinfo(kind)
    for _ in range(12):
        kernel = [int(k) for k in rng.integers(1, 4, 2)]
        attrs = {"kernel_shape": kernel, "strides": [int(s) for s in rng.integers(1, 3, 2)]}
        attrs |= {"pads": [int(rng.integers(0, k)) for k in kernel * 2], "ceil_mode": int(rng.integers(2))}
        attrs |= {"count_include_pad": int(rng.integers(2)), "channels_last": int(rng.integers(2))}
        x = rng.integers(info.min, info.max + 1, (2, 6, 7, 6)).astype(kind)
        inputs = named(x, *parameters(kind, (0.0265, 3), (0.0265, int(rng.integers(1, 100)))))
        assert_same(model(f"{MS}::QLinearAveragePool", inputs, attrs, [kind]), inputs, 0)


@pytest.mark.parametrize("scales", [(0.037, 0.25, 0.125), (0.1, 0.037, 0.02), (0.02, 0.037, 0.1)])
def test_products_of_all_bytes_round_as_onnx_runtime_rounds_them(scales: tuple[float, ...]):
    """Ties too: the whole product is multiplied by one number."""
    given = {"a": np.repeat(np.arange(256), 256).astype(np.uint8), "b": np.tile(np.arange(256), 256).astype(np.uint8)}
    names = ("sa", "za", "sb", "zb", "sc", "zc")
    values = [v for s, z in zip(scales, (15, 1, 1)) for v in (np.array(s, np.float32), np.array(z, np.uint8))]
    node = helper.make_node("QLinearMul", ["a", "sa", "za", "b", *names[2:]], ["y"], domain="com.microsoft")
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info(n, 2, [65536]) for n in given],
        [helper.make_tensor_value_info("y", 2, None)], [numpy_helper.from_array(v, n) for n, v in zip(names, values)],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    want = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, given)[0]
    for target in ("reference", "cpu"):
        np.testing.assert_array_equal(graphc.compile(data, target=target).run(given)["y"], want)


def test_a_decision_that_is_nan_votes_for_the_second_class():
    """As everywhere: it is not above 0. The reference and the kernel say so both, as ONNX Runtime does."""
    node = helper.make_node(
        "SVMClassifier", ["x"], ["y", "s"], domain="ai.onnx.ml", classlabels_ints=[0, 1], coefficients=[-0.5, 0.75],
        kernel_params=[0.5, 0.25, 2.0], kernel_type="POLY", rho=[0.9], support_vectors=[0.5, -1.0, 0.25, 1.0],
        vectors_per_class=[1, 1],
    )  # fmt: skip
    results = [helper.make_tensor_value_info("y", 7, None), helper.make_tensor_value_info("s", 1, None)]
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", 1, [1, 2])], results)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    x = {"x": np.array([[1.0, np.nan]], np.float32)}
    want = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(["y"], x)[0]
    for target in ("reference", "cpu"):
        np.testing.assert_array_equal(graphc.compile(data, target=target).run(x)["y"], want)
