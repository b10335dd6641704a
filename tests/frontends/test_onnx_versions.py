"""Older forms of operators: each loads and computes what its own opset says, not what the newest one says."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_forms import CHANNEL, F32, FORMS, GROUP, MORE, RNG, M, X, flat, load, model, softmax

import graphc
from graphc import frontends
from graphc.backends.reference import run
from graphc.errors import CheckError, GraphcWarning
from graphc.frontends.onnx_load import GRADIENT
from graphc.frontends.onnx_versions import _RULES, NEWEST_OPSET, RENAMED
from graphc.op import all_ops

ROWS = FORMS + MORE


@pytest.mark.parametrize("op, opset, inputs, attrs, expected", ROWS, ids=[f"{f[0]}-{f[1]}" for f in ROWS])
def test_old_form(op, opset, inputs, attrs, expected):
    expected = expected if isinstance(expected, list) else [expected]
    graph = load(op, opset, inputs, attrs, len(expected))
    results = run(graph, {v.name: inputs[0] for v in graph.inputs})
    for got, want in zip(results.values(), expected):
        assert got.shape == want.shape and got.dtype == np.asarray(want).dtype
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    for value, want in zip(graph.outputs, expected):
        if value.type is not None:
            assert all(d == n for d, n in zip(value.shape, want.shape, strict=True) if isinstance(d, int))


@pytest.mark.sample(24)
@pytest.mark.parametrize("op, opset, inputs, attrs, expected", ROWS, ids=[f"{f[0]}-{f[1]}" for f in ROWS])
def test_old_form_compiled(op, opset, inputs, attrs, expected):
    expected = expected if isinstance(expected, list) else [expected]
    compiled = graphc.compile(model(op, opset, inputs, attrs, len(expected)), target="cpu", threads=1)
    for got, want in zip(compiled.run({spec.name: inputs[0] for spec in compiled.inputs}).values(), expected):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_every_rule_is_exercised():
    covered = {(op, opset) for op, opset, *_ in ROWS}
    for op, rules in _RULES.items():
        for limit, rule in rules:
            if any(name == op and opset < limit for name, opset in covered) or op in SEPARATELY:
                continue
            same_rule = {other for other, others in _RULES.items() if any(r is rule for _, r in others)}
            assert same_rule & {name for name, _ in covered}, f"{op} below {limit}: {rule.__name__} has no test"


# --- every change of the standard -------------------------------------------------------------------------------------
WORDING = {  # changes of a description that change no result
    "it says more of what was so": "Abs 13, ArgMax 11 13, ArgMin 11 13, Cast 13, Ceil 13, Clip 13, Concat 11, Div 6, Elu 6, "
    "Floor 13, Gather 13, HardSigmoid 6, InstanceNormalization 6, LeakyRelu 6, MaxPool 11 12, MaxUnpool 11, "
    "MeanVarianceNormalization 13, QuantizeLinear 25 28, ReduceMax 12 13, ReduceMin 12 13, Slice 13, Transpose 21 25, "
    + ", ".join(f"Reduce{n} 13" for n in ("L1", "L2", "LogSum", "LogSumExp", "Mean", "Prod", "SumSquare")),
    "negative axes count from the end, which were refused": "Compress 11, LogSoftmax 11, Scan 11, Scatter 11, Slice 11, "
    "Unsqueeze 11, "
    + ", ".join(
        f"Reduce{n} 11" for n in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
    ),
    "more types": "Add 14, Div 14, Mul 14, Sub 14, OptionalGetElement 18",
}
ELSEWHERE = {  # operators whose versions other tests have, with a word of theirs
    "Cast 9": ("ops/test_dtypes.py", "string"),
    "Loop 11 13": ("ops/test_control_flow.py", "Loop"),
    "Scan 9": ("frontends/test_onnx_versions.py", "SCAN8"),
    "OptionalHasElement 18": ("ops/test_sequences.py", "OptionalHasElement"),
    "LabelEncoder 2 4": ("ops/test_ml_models.py", "LabelEncoder"),
    "TreeEnsembleClassifier 3 5": ("ops/test_ml_trees.py", "TreeEnsembleClassifier"),
    "TreeEnsembleRegressor 3 5": ("ops/test_ml_trees.py", "TreeEnsembleRegressor"),
}


def named(text: str) -> set[tuple[str, int]]:
    return {(op, int(v)) for part in text.split(", ") for op, *versions in [part.split()] for v in versions}


def structure(schema: onnx.defs.OpSchema) -> tuple:
    """What a node may say: attributes with their defaults, operands and results."""
    attrs = {
        name: (a.type, a.required, a.default_value.SerializeToString())
        for name, a in schema.attributes.items()
        if name != "consumed_inputs"
    }
    return attrs, [v.option for v in schema.inputs], [v.option for v in schema.outputs]


def words(schema: onnx.defs.OpSchema) -> list[str]:
    """Of the description, and of the attributes'."""
    texts = [a.description for name, a in sorted(schema.attributes.items()) if name != "consumed_inputs"]
    return re.findall(r"\w+", " ".join([schema.doc or "", *texts]))


def changes() -> Iterator[tuple[str, int, int, int, bool]]:
    """(operator, version before, version after, the version after that, whether nodes say it differently) of each change of
    more than types."""
    histories: dict[str, list[onnx.defs.OpSchema]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain in ("", "ai.onnx.ml"):
            histories.setdefault(schema.name, []).append(schema)
    for name, schemas in sorted(histories.items()):
        schemas.sort(key=lambda s: s.since_version)
        ends = [s.since_version for s in schemas[2:]] + [NEWEST_OPSET + 1]
        for before, after, end in zip(schemas, schemas[1:], ends):
            differs = structure(before) != structure(after)
            if differs or words(before) != words(after):
                yield name, before.since_version, after.since_version, end, differs


def test_every_change_of_the_standard_is_in_the_table():
    """On both sides of it. A change that none of these lists has came with a newer onnx package: look at what it means."""
    wording, elsewhere = (set().union(*map(named, texts)) for texts in (WORDING.values(), ELSEWHERE))
    rows, missing = {(op, opset) for op, opset, *_ in ROWS}, []
    for name, before, after, end, differs in changes():
        sides = (range(before, after), range(after, end))
        tested = all(any((name, v) in rows for v in side) for side in sides)
        if not (tested or (name, after) in elsewhere or (not differs and (name, after) in wording)):
            missing.append(f"{name} {before} -> {after}")
    assert not missing


def test_the_lists_of_changes_name_what_there_is():
    known = {(name, after): differs for name, _, after, _, differs in changes()}
    assert len(known) > 190
    for text in WORDING.values():
        assert not [c for c in named(text) if known.get(c, True)]
    for text, (file, word) in ELSEWHERE.items():
        assert named(text) <= known.keys() and word in Path(__file__).parents[1].joinpath(file).read_text()


# what ONNX Runtime 1.32 has another opinion of: the mask of a dropout that drops nothing, and negative numbers below opset 11
OTHERWISE = {("Dropout", 7), ("Dropout", 10), ("OneHot", 9), ("OneHot", 10)}


@pytest.mark.parametrize("part", range(4))
def test_onnx_runtime_says_the_same(part):
    """Of every fourth row, of those whose form it has (opset 7 and newer) and whose dtypes NumPy has."""
    ort = pytest.importorskip("onnxruntime")
    ort.set_default_logger_severity(4)
    compared, differing = 0, set()
    for op, opset, inputs, attrs, expected in ROWS[part::4]:
        wanted = expected if isinstance(expected, list) else [expected]
        arrays = [np.asarray(a) for a in (*inputs, *wanted) if a is not None]
        if opset < 7 or not all(a.dtype.isbuiltin == 1 for a in arrays):
            continue
        proto = model(op, opset, inputs, attrs, len(wanted))
        proto.ir_version = 10
        for result, want in zip(proto.graph.output, wanted):
            dtype = helper.np_dtype_to_tensor_dtype(np.asarray(want).dtype)
            result.CopyFrom(helper.make_tensor_value_info(result.name, dtype, None))
        try:
            session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
            got = session.run(None, {v.name: np.asarray(inputs[0]) for v in proto.graph.input})
        except Exception:  # it has no class for what it lacks
            continue
        compared += 1
        for a, b in zip(got, wanted):
            assert a.shape == np.shape(b), (op, opset, attrs)
            if not np.allclose(a, b, 1e-4, 1e-5, equal_nan=True):
                differing.add((op, opset))
    assert compared > 45 and differing <= OTHERWISE


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
