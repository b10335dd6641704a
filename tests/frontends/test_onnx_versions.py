"""Older forms of operators: each loads and computes what its own opset says, not what the newest one says."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphc
from graphc import frontends
from graphc.backends.reference import run
from graphc.errors import CheckError, GraphcWarning
from graphc.frontends.onnx_load import GRADIENT
from graphc.frontends.onnx_versions import _RULES, NEWEST_OPSET, RENAMED
from graphc.op import all_ops

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 6, 4, 4)).astype(np.float32)
M = RNG.normal(size=(3, 4)).astype(np.float32)
CHANNEL = RNG.uniform(0.5, 1.5, 6).astype(np.float32)
F32, I64 = np.float32, np.int64


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def flat(f, x, axis=1):
    return f(x.reshape(int(np.prod(x.shape[:axis])), -1), 1).reshape(x.shape)


def hardmax(x, axis):
    return np.eye(x.shape[axis], dtype=x.dtype)[x.argmax(axis)]


def batch_norm(x, scale, bias, mean, var, epsilon=1e-5):
    return (x - mean) / np.sqrt(var + epsilon) * scale + bias


def column(a):
    return a.reshape(-1, 1, 1)


def group_norm(x, scale, bias, groups):
    g = x.reshape(x.shape[0], groups, -1)
    g = (g - g.mean(2, keepdims=True)) / np.sqrt(g.var(2, keepdims=True) + 1e-5)
    return (g * scale[None, :, None] + bias[None, :, None]).reshape(x.shape)


def enlarge(x, k=2):
    return x.repeat(k, 2).repeat(k, 3)


SLOPE = np.float32([[0.5]])
PLANE = RNG.uniform(0.5, 1.5, (6, 4, 4)).astype(np.float32)
GROUP = np.float32([1, 2, 3])
NEAREST = np.float32([1, 1, 2, 2])
SHRINK = np.float32([1, 1, 0.6, 0.6])
ROW = X[:1, :1]
FLOOR = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
SCATTERED = np.concatenate([F32([[6, M[0, 1], 5, M[0, 3]]]), M[1:]])

# (operator, opset, inputs, attributes, expected). Arrays of the first input are graph inputs, the others initializers.
FORMS = [
    ("Add", 6, [X, CHANNEL], {"axis": 1, "broadcast": 1}, X + column(CHANNEL)),
    ("Sub", 6, [X, M[0]], {"broadcast": 1}, X - M[0]),
    ("Mul", 5, [X, X[0, 0, 0, :1]], {"broadcast": 1, "consumed_inputs": [0, 0]}, X * X[0, 0, 0, 0]),
    ("Pow", 1, [abs(X), CHANNEL], {"axis": -3, "broadcast": 1}, abs(X) ** column(CHANNEL)),
    ("Less", 1, [X, CHANNEL], {"axis": 1, "broadcast": 1}, np.less(X, column(CHANNEL))),
    ("PRelu", 6, [X, CHANNEL], {}, np.where(X < 0, X * column(CHANNEL), X)),
    ("Gemm", 6, [M, M.T, M[:, 0]], {"broadcast": 1, "alpha": 2.0}, 2 * M @ M.T + M[:, 0]),
    ("Relu", 1, [X], {"consumed_inputs": [0]}, np.maximum(X, 0)),
    ("Selu", 1, [M], {}, np.where(M > 0, 1.0507 * M, 1.0507 * (1.6732 * np.exp(M) - 1.6732))),
    ("Clip", 6, [X], {"min": -0.5, "max": 0.5}, X.clip(-0.5, 0.5)),
    ("Clip", 6, [X], {"max": 0.25}, np.minimum(X, 0.25)),
    ("Pad", 1, [M], {"paddings": [0, 1, 0, 2], "value": 3.0}, np.pad(M, ((0, 0), (1, 2)), constant_values=3)),
    ("Pad", 2, [M], {"pads": [1, 0, 0, 2], "mode": "edge"}, np.pad(M, ((1, 0), (0, 2)), "edge")),
    ("Slice", 1, [X], {"starts": [1, -3], "ends": [9, -1], "axes": [1, 3]}, X[:, 1:, :, -3:-1]),
    ("Slice", 9, [M], {"starts": [1, 0], "ends": [3, 2]}, M[1:3, :2]),
    ("Split", 2, [X], {"axis": 1, "split": [1, 2, 3]}, np.split(X, [1, 3], 1)),
    ("Split", 11, [X], {"axis": 1}, np.split(X, 2, 1)),
    ("Split", 13, [X, I64([4, 2])], {"axis": 1}, np.split(X, [4], 1)),
    ("Split", 13, [X], {}, np.split(X, 2, 0)),
    ("Squeeze", 11, [M[None, :, None]], {"axes": [0, -2]}, M),
    ("Squeeze", 1, [M[None]], {}, M),
    ("Unsqueeze", 11, [M], {"axes": [0, -1]}, M[None, :, :, None]),
    ("ReduceSum", 11, [X], {"axes": [1, -1], "keepdims": 0}, X.sum((1, 3))),
    ("ReduceMean", 13, [X], {"axes": [2]}, X.mean(2, keepdims=True)),
    ("ReduceMax", 17, [X], {}, X.max(keepdims=True)),
    ("ReduceL2", 1, [X], {"axes": [3]}, np.sqrt((X * X).sum(3, keepdims=True))),
    ("ReduceLogSumExp", 13, [M], {"axes": [0], "keepdims": 0}, np.log(np.exp(M).sum(0))),
    ("TopK", 1, [M], {"k": 2}, [-np.sort(-M, 1)[:, :2], np.argsort(-M, 1)[:, :2]]),
    ("TopK", 10, [M, I64([1])], {"axis": 0}, [M.max(0, keepdims=True), M.argmax(0)[None]]),
    ("Reshape", 1, [M], {"shape": [2, -1]}, M.reshape(2, 6)),
    ("Reshape", 5, [M, I64([0, 2, 2])], {}, M.reshape(3, 2, 2)),
    ("Tile", 1, [M, F32(3), F32(1)], {}, np.tile(M, (1, 3))),
    ("Tile", 6, [M, I64([2, 1])], {}, np.tile(M, (2, 1))),
    ("Concat", 1, [M, M], {}, np.concatenate([M, M], 1)),
    ("Cast", 1, [M], {"to": "INT32"}, M.astype(np.int32)),
    ("Cast", 6, [M], {"to": TensorProto.DOUBLE}, M.astype(np.float64)),
    ("Dropout", 6, [M], {"is_test": 1, "ratio": 0.3}, M),
    ("Dropout", 7, [M], {}, [M, np.ones_like(M)]),
    ("Dropout", 10, [M], {"ratio": 0.3}, [M, np.ones_like(M, bool)]),
    ("Scatter", 9, [M, I64([[2, 0]]), F32([[5, 6]])], {"axis": 1}, SCATTERED),
    ("Softmax", 11, [X], {}, flat(softmax, X)),
    ("Softmax", 9, [X], {"axis": 2}, flat(softmax, X, 2)),
    ("Softmax", 12, [X], {"axis": 3}, softmax(X, 3)),
    ("Softmax", 10, [M[:0, :1]], {"axis": 0}, M[:0, :1]),
    ("LogSoftmax", 10, [X[:, :0]], {}, X[:, :0]),
    ("Softmax", 13, [X], {}, softmax(X, -1)),
    ("LogSoftmax", 11, [X], {"axis": -2}, np.log(flat(softmax, X, 2))),
    ("Hardmax", 1, [X], {}, flat(hardmax, X)),
    ("BatchNormalization", 6, [X, *[CHANNEL] * 4], {"is_test": 1}, batch_norm(X, *[column(CHANNEL)] * 4)),
    ("BatchNormalization", 9, [X, *[CHANNEL] * 4], {"epsilon": 0.1}, batch_norm(X, *[column(CHANNEL)] * 4, 0.1)),
    ("BatchNormalization", 7, [X, *[PLANE] * 4], {"spatial": 0}, batch_norm(X, *[PLANE] * 4)),
    ("GroupNormalization", 18, [X, GROUP, GROUP], {"num_groups": 3}, group_norm(X, GROUP, GROUP, 3)),
    ("Upsample", 1, [X], {"height_scale": 2.0, "width_scale": 2.0, "mode": "nearest"}, enlarge(X)),
    ("Upsample", 7, [X], {"scales": [1.0, 1.0, 3.0, 3.0]}, enlarge(X, 3)),
    ("Upsample", 9, [X, NEAREST], {"mode": "nearest"}, enlarge(X)),
    ("Upsample", 9, [F32([[[[0, 1]]]]), F32([1, 1, 1, 2])], {"mode": "linear"}, F32([[[[0, 0.5, 1, 1]]]])),
    ("Resize", 10, [X, NEAREST], {}, enlarge(X)),
    ("Resize", 10, [ROW, SHRINK], {}, ROW[:, :, ::2, ::2]),  # floor(4·0.6) = 2 of each: rows 0 and ceil(1/0.6) = 2
    ("Resize", 11, [X, F32([]), NEAREST], FLOOR, enlarge(X)),
]  # fmt: skip


def load(op, opset, inputs, attrs, n_outputs=1):
    infos, weights = [], []
    for i, a in enumerate(inputs):
        if i == 0:
            infos.append(helper.make_tensor_value_info("i0", helper.np_dtype_to_tensor_dtype(a.dtype), a.shape))
        else:
            weights.append(numpy_helper.from_array(np.asarray(a), f"i{i}"))
    outputs = [f"o{i}" for i in range(n_outputs)]
    node = helper.make_node(op, [f"i{i}" for i in range(len(inputs))], outputs, **attrs)
    results = [onnx.ValueInfoProto(name=o) for o in outputs]
    graph = helper.make_graph([node], "g", infos, results, weights)
    return frontends.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))


@pytest.mark.parametrize("op, opset, inputs, attrs, expected", FORMS, ids=[f"{f[0]}-{f[1]}" for f in FORMS])
def test_old_form(op, opset, inputs, attrs, expected):
    expected = expected if isinstance(expected, list) else [expected]
    graph = load(op, opset, inputs, attrs, len(expected))
    results = run(graph, {"i0": inputs[0]})
    for got, want in zip(results.values(), expected):
        assert got.shape == want.shape and got.dtype == np.asarray(want).dtype
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    for value, want in zip(graph.outputs, expected):
        assert value.type.shape == want.shape


def test_every_rule_is_exercised():
    covered = {(op, opset) for op, opset, *_ in FORMS}
    for op, rules in _RULES.items():
        for limit, rule in rules:
            if any(name == op and opset < limit for name, opset in covered) or op in SEPARATELY:
                continue
            same_rule = {other for other, others in _RULES.items() if any(r is rule for _, r in others)}
            assert same_rule & {name for name, _ in covered}, f"{op} below {limit}: {rule.__name__} has no test"


SEPARATELY = {"RNN", "LSTM", "GRU", "GridSample", "RoiAlign", "Scan", "DFT"}  # below


@pytest.mark.parametrize(
    "op, opset, shapes, given, attrs",
    [
        ("RNN", 6, [(3, 2, 4), (1, 5, 4), (1, 5, 5)], {"hidden_size": 5, "output_sequence": 1}, {"hidden_size": 5}),
        ("LSTM", 1, [(3, 2, 4), (1, 20, 4), (1, 20, 5)], {"hidden_size": 5, "output_sequence": 0}, {"hidden_size": 5}),
        ("GRU", 3, [(3, 2, 4), (1, 15, 4), (1, 15, 5)], {"hidden_size": 5, "output_sequence": 1}, {"hidden_size": 5}),
        ("GridSample", 16, [(1, 1, 4, 4), (1, 2, 2, 2)], {"mode": "bicubic"}, {"mode": "cubic"}),
        ("GridSample", 16, [(1, 1, 4, 4), (1, 2, 2, 2)], {}, {"mode": "linear"}),
    ],
)
def test_attributes_in_the_newest_form(op, opset, shapes, given, attrs):
    (node,) = load(op, opset, [np.zeros(s, np.float32) for s in shapes], given).nodes
    assert node.op.name == op and {k: node.attrs[k] for k in attrs} == attrs


def test_the_default_coordinates_of_an_old_roi_align():
    inputs = [X, np.zeros((1, 4), np.float32), np.zeros(1, np.int64)]
    (node,) = load("RoiAlign", 10, inputs, {}).nodes
    assert node.attrs["coordinate_transformation_mode"] == "output_half_pixel"


def test_dft_axis():
    signal = RNG.normal(size=(1, 8, 3, 1)).astype(np.float32)
    for axis in (1, 2):
        got = run(load("DFT", 17, [signal], {} if axis == 1 else {"axis": axis}), {"i0": signal})["o0"]
        want = np.fft.fft(signal[..., 0], axis=axis)
        np.testing.assert_allclose(got, np.stack([want.real, want.imag], -1), atol=1e-5)


@pytest.mark.parametrize(
    "op, opset, inputs, attrs, n_outputs, message",
    [
        ("Scan", 8, [M, M], {"num_scan_inputs": 1}, 1, "attribute 'body' is missing"),
        ("BatchNormalization", 9, [X, *[CHANNEL] * 4], {}, 5, "training form"),
        ("Resize", 10, [X, F32([1, 1, 2, 0.5])], {}, 1, "enlarges one axis and shrinks another"),
        ("Slice", 9, [M], {"starts": [0]}, 1, "attribute 'ends' is missing"),
        ("Clip", 6, [M], {"lower": 0.0}, 1, "unknown attribute 'lower'"),
        ("Relu", 6, [M], {"consumed_inputs": [0]}, 1, "unknown attribute 'consumed_inputs'"),
        ("Tile", 1, [M, F32(3)], {}, 1, "operand 2 is missing"),
        ("GroupNormalization", 18, [X, GROUP, GROUP], {"num_groups": 4}, 1, "6 channels and 4 groups"),
    ],
)
def test_old_forms_that_can_not_be_loaded(op, opset, inputs, attrs, n_outputs, message):
    with pytest.raises(CheckError, match=message):
        load(op, opset, inputs, attrs, n_outputs)


SCAN8 = """<ir_version: 3, opset_import: ["" : 8]>
g (int64[b] lens, float[2, 3] first, float[2, t, 3] x, float[2, t, 1] z) => (float[2, 3] last, float[2, t, 3] sums) {
  last, sums = Scan <num_scan_inputs = 2, directions = [0, 1], body = s (float[3] a, float[3] e, float[1] r)
      => (float[3] c, float[3] d) { h = Mul(e, r)  c = Add(a, h)  d = Identity(c) }> (LENS first, x, z)
}"""


@pytest.mark.parametrize("target", ["cpu", "reference"])
@pytest.mark.parametrize("lengths", [None, (4, 4), (4, 1), (2, 3), (0, 4)])
def test_scan_of_samples(lengths, target):
    """Opset 8: a batch axis, and a length for each sequence; results are zero behind their end."""
    text = SCAN8.replace("LENS", "lens," if lengths else ",").replace(
        "int64[b] lens, ", "int64[b] lens, " if lengths else ""
    )
    first, x, z = (RNG.normal(size=s).astype(np.float32) for s in ((2, 3), (2, 4, 3), (2, 4, 1)))
    feeds = {"first": first, "x": x, "z": z, **({"lens": np.array(lengths)} if lengths else {})}
    got = graphc.compile(onnx.parser.parse_model(text), target=target).run(feeds)
    sums = np.zeros((2, 4, 3), np.float32)
    last = first.copy()
    for sample in range(2):
        n = lengths[sample] if lengths else 4
        for i in range(n):
            last[sample] += x[sample, i] * z[sample, n - 1 - i]
            sums[sample, i] = last[sample]
    np.testing.assert_allclose(got["sums"], sums, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["last"], last, rtol=1e-5, atol=1e-6)


def test_scan_of_a_batch_of_any_size_is_refused():
    text = SCAN8.replace("LENS", "lens,").replace("[2,", "[b,")
    with pytest.raises(CheckError, match="of a batch of b samples"):
        frontends.load(onnx.parser.parse_model(text))


def test_every_operator_of_onnx_can_be_read():
    """Of all domains and versions: it has a record, an older form of one, or a body of other operators."""
    known = all_ops().keys() | RENAMED | {"Constant", GRADIENT}
    missing = set()
    for schema in onnx.defs.get_all_schemas_with_history():
        name = schema.name if schema.domain in ("", "ai.onnx") else f"{schema.domain}::{schema.name}"
        body = schema.has_function or schema.has_context_dependent_function
        if not (name in known or body or schema.since_version > NEWEST_OPSET):
            missing.add(name)
    assert not missing


def test_dropout_that_looks_like_training_warns():
    with pytest.warns(GraphcWarning, match="treated as inference"):
        load("Dropout", 6, [M], {})


def test_softmax_over_flattened_dims_of_a_shape_that_is_not_known():
    nodes = [
        helper.make_node("NonZero", ["x"], ["h"]),
        helper.make_node("Cast", ["h"], ["f"], to=1),
        helper.make_node("Reshape", ["f", "s"], ["r"]),
        helper.make_node("Softmax", ["r"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", 1, ("n",)), helper.make_tensor_value_info("s", 7, (3,))]
    graph = helper.make_graph(nodes, "g", inputs, [onnx.ValueInfoProto(name="y")])
    loaded = frontends.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)]))
    got = run(loaded, {"x": np.ones(12, np.float32), "s": np.array([2, 3, 2])})["y"]
    want = flat(softmax, np.arange(12, dtype=np.float32).reshape(2, 3, 2))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_the_newest_opset_covers_every_change_of_the_records():
    """A new version of an operator in the installed onnx package must be looked at before NEWEST_OPSET moves."""
    known = min(NEWEST_OPSET, onnx.defs.onnx_opset_version())
    names = [name for name in all_ops() if onnx.defs.has(name, known) and name != "Constant"]
    assert len(names) > 100
    for name in names:
        schema = onnx.defs.get_schema(name, known, "")
        missing = set(schema.attributes) - set(all_ops()[name].attrs)
        assert not missing, f"{name} of opset {schema.since_version} has {missing}, its record does not"
