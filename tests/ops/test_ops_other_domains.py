"""Operators of ai.onnx.ml and com.microsoft against ONNX Runtime, on every case of their records and on what is particular."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime as ort
import pytest
from fuzz.peers import SATURATES, runtime_saturates
from onnx import TensorProto, helper, numpy_helper

import graphc
from graphc.op import Const, all_ops
from graphc.testing import cases, use_of

ML, MS = "ai.onnx.ml", "com.microsoft"
OPS = {
    name: op
    for name, op in all_ops().items()
    if (name.startswith((f"{ML}::", f"{MS}::")) and not op.objects) or name == "SimplifiedLayerNormalization"
}
WITHOUT_KERNEL = {  # in ONNX Runtime, for all of their operands or some; the references are held against formulas elsewhere
    f"{MS}::{name}"
    for name in ("MatMulInteger16", "MatMulIntegerToFloat", "MulInteger", "QLinearReduceMean", "ReduceSumInteger")
}
VERSIONS = {"TreeEnsemble": 5, "LabelEncoder": 4}  # of ai.onnx.ml; 3 for the others


def model(
    name: str, inputs: dict[str, np.ndarray | None], attrs: dict, results: list[str], consts=(), version=None
) -> bytes:
    """One node. results: their dtypes. inputs: arrays by name, None where an operand is absent; `consts` names those that are initializers."""
    domain, _, op = name.rpartition("::")
    values = {k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in attrs.items()}
    values = {k: v for k, v in values.items() if v is not None and not (isinstance(v, (list, tuple)) and not v)}
    outputs = [f"y{i}" for i in range(len(results))]
    node = helper.make_node(
        op, [k if v is not None else "" for k, v in inputs.items()], outputs, domain=domain, **values
    )
    kinds = {k: helper.np_dtype_to_tensor_dtype(v.dtype) for k, v in inputs.items() if v is not None}
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(k, t, inputs[k].shape) for k, t in kinds.items() if k not in consts],
        [
            helper.make_tensor_value_info(o, helper.np_dtype_to_tensor_dtype(np.dtype(t)), None)
            for o, t in zip(outputs, results)
        ],
        [numpy_helper.from_array(inputs[k], k) for k in consts],
    )
    opsets = [("", 21), (ML, version or VERSIONS.get(op, 3)), (MS, 1)]
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid(*o) for o in opsets], ir_version=10
    ).SerializeToString()


def both(data: bytes, feeds: dict[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(graphc's, ONNX Runtime's) of each result. One thread: a DynamicQuantizeLSTM depends on their number there."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(data, options)
    want = dict(zip((o.name for o in session.get_outputs()), session.run(None, feeds)))
    got = graphc.compile(data, threads=1).run(feeds)
    return [(got[k], want[k]) for k in want]


def assert_same(data: bytes, feeds: dict[str, np.ndarray], tolerance: float) -> None:
    for got, want in both(data, feeds):
        assert got.dtype.kind == want.dtype.kind and got.shape == want.shape
        if want.dtype.kind != "f":
            assert got.tolist() == want.tolist()
        else:
            scale = np.abs(want[np.isfinite(want)]).max(initial=1)
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale)


REFUSED = {  # cases, by number, that ONNX Runtime has no CPU kernel for
    f"{MS}::MultiHeadAttention": (6, 7),
    f"{MS}::Attention": (5,),
    f"{MS}::DecoderMaskedMultiHeadAttention": (2,),
    f"{MS}::GroupQueryAttention": (12, 13),
    f"{MS}::MoE": (5, 6, 7, 8),
    f"{MS}::QMoE": (2,),  # that rounds its operand, too
}


NO_KERNEL = {  # on the CPU in ONNX Runtime
    f"{MS}::{name}"
    for name in [
        "BiasAdd",
        "BiasDropout",
        "BiasSoftmax",
        "BiasSplitGelu",
        "ComplexMul",
        "ComplexMulConj",
        "GemmFastGelu",
        "GroupNorm",
        "Irfft",
        "IsAllFinite",
        "NhwcConv",
        "NhwcFusedConv",
        "Rfft",
        "SkipGroupNorm",
    ]
}


MULTIPLY_BYTES = {
    f"{MS}::{name}"
    for name in [
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat",
        "QAttention",
        "QGemm",
        "QLinearConv",
    ]
}


@pytest.mark.parametrize("name", sorted(OPS.keys() - NO_KERNEL))
def test_every_case_agrees_with_onnx_runtime(name: str):
    if name in MULTIPLY_BYTES and runtime_saturates():
        pytest.skip(SATURATES)
    op = OPS[name]
    for i, case in enumerate(cases(op)):
        if i in REFUSED.get(name, ()):
            continue
        if name == f"{ML}::TreeEnsemble" and case.attrs["post_transform"]:
            continue  # ONNX Runtime 1.32 reads SOFTMAX's number as LOGISTIC and the other way round: tested below
        use = use_of(op, case, "float32" if "float32" in op.samples.dtypes else op.samples.dtypes[0])
        names = [f"x{i}" for i in range(len(use.arrays))]
        consts = [n for n, spec in zip(names, case.inputs) if isinstance(spec, Const) and "LSTM" in name]
        arrays = dict(zip(names, use.arrays))
        version = 1 if "classes_strings" in case.attrs else None
        results = [v.dtype for v in use.graph().outputs]
        data = model(name, arrays, dict(case.attrs), results, consts, version)
        feeds = {k: v for k, v in arrays.items() if v is not None and k not in consts}
        try:
            assert_same(data, feeds, max(1e-5, op.tolerance))
        except ort.capi.onnxruntime_pybind11_state.NotImplemented:
            assert name in WITHOUT_KERNEL


# --- trees ------------------------------------------------------------------------------------------------------------
def forest(rng: np.random.Generator, kind: str, trees: int, outputs: int, depth: int = 4, **more) -> dict:
    """Random complete trees over 5 features; each leaf names one output."""
    rows: dict[str, list] = {
        k: [] for k in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    }
    leaves: dict[str, list] = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}
    inner = 2**depth - 1
    for tree in range(trees):
        for n in range(2 ** (depth + 1) - 1):
            is_leaf = n >= inner
            mode = "LEAF" if is_leaf else rng.choice(["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"])
            values = (tree, n, int(rng.integers(5)), float(rng.normal()), str(mode), 0 if is_leaf else 2 * n + 1, 0 if is_leaf else 2 * n + 2)  # fmt: skip
            for column, v in zip(rows.values(), values):
                column.append(v)
            if is_leaf:
                for column, v in zip(leaves.values(), (tree, n, int(rng.integers(outputs)), float(rng.normal()))):
                    column.append(v)
    return {f"nodes_{k}": v for k, v in rows.items()} | {f"{kind}_{k}": v for k, v in leaves.items()} | more


SAMPLES = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
SAMPLES[3, 2], SAMPLES[5, :] = math.nan, math.inf


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_forests_that_classify(classes: int, post: str):
    attrs = forest(
        np.random.default_rng(classes),
        "class",
        9,
        classes,
        post_transform=post,
        classlabels_int64s=list(range(10, 10 + classes)),
    )
    assert_same(
        model(f"{ML}::TreeEnsembleClassifier", {"x": SAMPLES}, attrs, ["int64", "float32"]), {"x": SAMPLES}, 1e-5
    )


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("targets", [1, 4])
def test_forests_that_regress(targets: int, aggregate: str):
    missing = [i % 2 for i in range(9 * 31)]
    attrs = forest(np.random.default_rng(1), "target", 9, targets, n_targets=targets, aggregate_function=aggregate, base_values=[0.5] * targets, nodes_missing_value_tracks_true=missing)  # fmt: skip
    assert_same(model(f"{ML}::TreeEnsembleRegressor", {"x": SAMPLES}, attrs, ["float32"]), {"x": SAMPLES}, 1e-5)


def test_transforms_of_tree_ensemble_are_numbered_as_the_standard_says():
    attrs = {
        "tree_roots": [0], "nodes_modes": np.array([0], np.uint8), "nodes_featureids": [0],
        "nodes_splits": np.array([0.0], np.float32), "nodes_truenodeids": [0], "nodes_trueleafs": [1],
        "nodes_falsenodeids": [1], "nodes_falseleafs": [1], "leaf_targetids": [0, 1],
        "leaf_weights": np.array([1.0, 2.0], np.float32), "n_targets": 2,
    }  # fmt: skip
    x = np.float32([[-1], [1]])
    sums = np.array([[1.0, 0.0], [0.0, 2.0]])
    want = {0: sums, 1: np.exp(sums) / np.exp(sums).sum(1, keepdims=True), 2: 1 / (1 + np.exp(-sums))}
    for code, scores in want.items():
        run = graphc.compile(model(f"{ML}::TreeEnsemble", {"x": x}, attrs | {"post_transform": code}, ["float32"]))
        np.testing.assert_allclose(run(x), scores, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"nodes_modes": ["BRANCH_LEQ"] * 2 + ["LEAF"], "nodes_falsenodeids": [2, 2, 0]}, "circle"),
        ({"nodes_truenodeids": [7, 0, 0]}, "do not exist"),
        ({"class_ids": [0, 5]}, "class 5 of 2"),
        ({"nodes_featureids": [9, 0, 0]}, "features"),
        ({"nodes_modes": ["BRANCH_EVEN", "LEAF", "LEAF"]}, "BRANCH_EVEN"),
        ({"nodes_values": [0.5]}, "do not fit"),
    ],
)
def test_damaged_trees_are_refused(change: dict, says: str):
    attrs = {
        "nodes_treeids": [0] * 3, "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0] * 3, "nodes_values": [0.5, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
        "class_treeids": [0, 0], "class_nodeids": [1, 2], "class_ids": [0, 0], "class_weights": [0.25, 0.75],
        "classlabels_int64s": [0, 1],
    }  # fmt: skip
    data = model(f"{ML}::TreeEnsembleClassifier", {"x": SAMPLES}, attrs | change, ["int64", "float32"])
    with pytest.raises(graphc.GraphcError, match=says):
        graphc.compile(data)


def test_batches_of_unknown_size_reach_a_forest():
    attrs = forest(np.random.default_rng(2), "target", 3, 1, n_targets=1)
    node = helper.make_node("TreeEnsembleRegressor", ["s"], ["y"], domain=ML, **attrs)
    scale = helper.make_node("Scaler", ["x"], ["s"], domain=ML, offset=[0.5], scale=[2.0])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5])
    graph = helper.make_graph([scale, node], "g", [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid(ML, 3)], ir_version=9).SerializeToString()
    session, run = ort.InferenceSession(data), graphc.compile(data)
    for n in (1, 64, 0):
        np.testing.assert_allclose(run(SAMPLES[:n]), session.run(None, {"x": SAMPLES[:n]})[0], atol=1e-5)


def test_an_operator_of_another_domain_that_is_not_known_is_named():
    data = model(f"{MS}::FastGelu", {"x": SAMPLES}, {}, ["float32"]).replace(b"FastGelu", b"FastGels")
    with pytest.raises(graphc.GraphcError, match="(?s)'FastGels' of domain 'com.microsoft'.*FastGelu"):
        graphc.compile(data)
