"""Forests as scikit-learn and gradient boosters export them, grown on random samples."""

from __future__ import annotations

import numpy as np
import onnx
from models import Network
from onnx import helper

FEATURES, SAMPLES = 30, 4000


def forest(name: str, trees: int, depth: int, rows: int, boosted: bool = False) -> Network:
    """Two classes. A random forest's leaves hold probabilities, and its trees grow to one sample; a booster's hold log-odds."""
    return Network(f"{name}_batch{rows}", lambda: _model(trees, depth, rows, boosted))


def _model(trees: int, depth: int, rows: int, boosted: bool) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    x = rng.random((SAMPLES, FEATURES)).astype(np.float32)
    y = x[:, :5].sum(axis=1) + rng.normal(size=SAMPLES) * 0.5 > 2.5
    nodes: dict[str, list] = {
        n: [] for n in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    }
    leaves: dict[str, list] = {n: [] for n in ("treeids", "nodeids", "ids", "weights")}

    def grow(tree: int, some: np.ndarray, left: int) -> int:
        me = len(nodes["nodeids"]) - start
        row = len(nodes["nodeids"])
        feature = int(rng.integers(FEATURES))
        split = float(np.quantile(x[some, feature], rng.uniform(0.2, 0.8)))
        goes = x[some, feature] <= split
        leaf = left == 0 or goes.all() or not goes.any()
        for column, value in zip(nodes.values(), (tree, me, feature, split, "LEAF" if leaf else "BRANCH_LEQ", 0, 0)):
            column.append(value)
        if leaf:
            weight = rng.normal() * 0.05 if boosted else y[some].mean() / trees
            for column, value in zip(leaves.values(), (tree, me, 0, float(weight))):
                column.append(value)
        else:
            nodes["truenodeids"][row] = grow(tree, some[goes], left - 1)
            nodes["falsenodeids"][row] = grow(tree, some[~goes], left - 1)
        return me

    for tree in range(trees):
        start = len(nodes["nodeids"])
        grow(tree, rng.integers(SAMPLES, size=SAMPLES), depth)
    attrs = {f"nodes_{k}": v for k, v in nodes.items()} | {f"class_{k}": v for k, v in leaves.items()}
    node = helper.make_node(
        "TreeEnsembleClassifier",
        ["x"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        classlabels_int64s=[0, 1],
        post_transform="LOGISTIC" if boosted else "NONE",
        **attrs,
    )
    graph = helper.make_graph(
        [node],
        "forest",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [rows, FEATURES])],
        [
            helper.make_tensor_value_info("label", onnx.TensorProto.INT64, [rows]),
            helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [rows, 2]),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)
