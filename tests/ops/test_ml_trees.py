"""Forests of ai.onnx.ml, on random trees: by a walk of one sample through one tree after another, and by ONNX Runtime."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

import graphc
from graphc.ops.ml.forest import forest_of, forest_of_tables
from graphc.ops.ml.packed import NARROW, WIDE, packed

ML = "ai.onnx.ml"
MODES = ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ")
FEATURES = 5
GRID = np.array([-math.inf, -1, -0.5, -0.0, 0, 1e-40, 0.5, 1, 2, math.inf, math.nan])


def nodes(
    rng: np.random.Generator, trees: int, depth: int, modes: tuple[str, ...], splits: np.ndarray
) -> dict[str, list]:
    """Lists of random trees, nodes numbered in no order; leaves are those without children."""
    out: dict[str, list] = {k: [] for k in ("tree", "node", "feature", "value", "mode", "true", "false", "missing")}

    def grow(tree: int, ids: list[int], left: int) -> int:
        me = ids.pop()
        leaf = left == 0 or (left < depth and rng.random() < 0.25)
        row = len(out["tree"])
        values = (tree, me, int(rng.integers(FEATURES)), float(rng.choice(splits)), str(rng.choice(modes)), 0, 0, 0)
        for key, value in zip(out, values):
            out[key].append(value)
        if leaf:
            out["mode"][row], out["value"][row] = "LEAF", 0.0
        else:
            out["missing"][row] = int(rng.integers(2))
            out["true"][row], out["false"][row] = grow(tree, ids, left - 1), grow(tree, ids, left - 1)
        return me

    for tree in range(trees):
        ids = list(rng.permutation(2 ** (depth + 1)))
        grow(tree, [int(i) for i in ids], depth)
    return out


def attributes(n: dict[str, list], kind: str, missing: bool, double: bool) -> dict[str, Any]:
    attrs = {
        "nodes_treeids": n["tree"],
        "nodes_nodeids": n["node"],
        "nodes_featureids": n["feature"],
        "nodes_modes": [m if m == "LEAF" else f"BRANCH_{m}" for m in n["mode"]],
        "nodes_truenodeids": n["true"],
        "nodes_falsenodeids": n["false"],
        "nodes_values_as_tensor" if double else "nodes_values": np.array(n["value"]) if double else n["value"],
    }
    if missing:
        attrs["nodes_missing_value_tracks_true"] = n["missing"]
    return attrs


def leaves(
    rng: np.random.Generator, n: dict[str, list], kind: str, outputs: int, every: bool | None
) -> tuple[dict[str, Any], dict]:
    """Attributes of leaves, each giving numbers to all outputs, to one that changes from tree to tree, or (None) to some; and them by node."""
    lists: dict[str, list] = {"treeids": [], "nodeids": [], "ids": [], "weights": []}
    given: dict[tuple[int, int], dict[int, float]] = {}
    for tree, node, mode in zip(n["tree"], n["node"], n["mode"]):
        if mode != "LEAF":
            continue
        to = (
            range(outputs)
            if every
            else [tree % outputs]
            if every is False
            else rng.permutation(outputs)[: rng.integers(1, outputs + 1)]
        )
        row = {int(o): float(np.float32(rng.normal())) for o in to}
        given[tree, node] = row
        for o, w in row.items():
            for key, value in zip(lists, (tree, node, o, w)):
                lists[key].append(value)
    return {f"{kind}_{k}": v for k, v in lists.items()}, given


def walked(n: dict[str, list], given: dict, x: np.ndarray, missing: bool, outputs: int, aggregate: str) -> np.ndarray:
    """The definition: from the root to a leaf, sums in float32 tree after tree."""
    at = {(t, i): row for row, (t, i) in enumerate(zip(n["tree"], n["node"]))}
    children = {
        (t, c) for t, m, a, b in zip(n["tree"], n["mode"], n["true"], n["false"]) if m != "LEAF" for c in (a, b)
    }
    roots = [key for key in at if key not in children]
    out = np.zeros((len(x), outputs), np.float32)
    for sample, row in zip(x, out):
        parts: list[list[np.float32]] = [[] for _ in range(outputs)]
        for tree, node in roots:
            while n["mode"][i := at[tree, node]] != "LEAF":
                v, t = sample[n["feature"][i]], x.dtype.type(n["value"][i])
                yes = {"LEQ": v <= t, "LT": v < t, "GTE": v >= t, "GT": v > t, "EQ": v == t, "NEQ": v != t}[
                    n["mode"][i]
                ]
                yes = yes or (missing and bool(n["missing"][i]) and bool(np.isnan(v)))
                node = n["true"][i] if yes else n["false"][i]
            for o, w in given[tree, node].items():
                parts[o].append(np.float32(w))
        for o, found in enumerate(parts):
            if found and aggregate in ("SUM", "AVERAGE"):
                for w in found:
                    row[o] += w
                row[o] /= np.float32(len(roots)) if aggregate == "AVERAGE" else np.float32(1)
            elif found:
                row[o] = min(found) if aggregate == "MIN" else max(found)
    return out


def node_model(op: str, attrs: dict[str, Any], dtype: str, results: list[str], version: int) -> bytes:
    attrs = {k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in attrs.items()}
    kinds = {"float32": 1, "float64": 11, "int64": 7, "int32": 6, "string": 8}
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], [f"y{i}" for i in range(len(results))], domain=ML, **attrs)],
        "g",
        [helper.make_tensor_value_info("x", kinds[dtype], [None, FEATURES])],
        [helper.make_tensor_value_info(f"y{i}", kinds[r], None) for i, r in enumerate(results)],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(ML, version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def runtime(data: bytes, x: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return ort.InferenceSession(data, options).run(None, {"x": x})


def samples(rng: np.random.Generator, count: int, splits: np.ndarray, dtype: str = "float32") -> np.ndarray:
    """Numbers on both sides of splits, the splits themselves, infinities, NaN."""
    x = rng.choice(np.concatenate([splits, GRID, rng.normal(size=20)]), (count, FEATURES))
    return x.astype(dtype)


@pytest.mark.sample(12)
@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("modes", [(m,) for m in MODES] + [MODES])
@pytest.mark.parametrize(
    ("trees", "outputs", "every"), [(1, 1, True), (9, 1, True), (7, 3, False), (11, 2, True), (2, 3, None)]
)
@pytest.mark.parametrize("missing", [False, True])
def test_random_trees(
    aggregate: str, modes: tuple[str, ...], trees: int, outputs: int, every: bool | None, missing: bool
):
    rng = np.random.default_rng([trees, outputs, len(modes), MODES.index(modes[0]), missing])
    splits = GRID if len(modes) > 1 else np.float32(rng.normal(size=4))
    n = nodes(rng, trees, 5, modes, splits)
    tail, given = leaves(rng, n, "target", outputs, every)
    attrs = attributes(n, "target", missing, False) | tail | {"n_targets": outputs, "aggregate_function": aggregate}
    model = graphc.compile(node_model("TreeEnsembleRegressor", attrs, "float32", ["float32"], 3))
    for count in (1, 8, 21):
        x = samples(rng, count, splits)
        want = walked(n, given, x, missing, outputs, aggregate)
        assert model.run({"x": x})["y0"].tobytes() == want.tobytes() or np.array_equal(model.run({"x": x})["y0"], want)
    assert not [s for s in model.plan({"x": (1, FEATURES)}).steps if s.host]


@pytest.mark.sample(10)
@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("labels", [[5], [4, 9], [7, 3, 5], ["a"], ["no", "yes"], ["u", "v", "w"]])
@pytest.mark.parametrize("base", [0, 1, 2])
@pytest.mark.parametrize("ids", ["first", "second", "all", "one", "some"])
@pytest.mark.parametrize("negative", [False, True])
def test_classifiers_are_those_of_onnx_runtime(post: str, labels: list, base: int, ids: str, negative: bool):
    """base: none, one number, or as many as classes. ids: which classes the leaves name."""
    if len(labels) == 1 and (ids == "second" or isinstance(labels[0], str)):
        pytest.skip("one class has no second, and ONNX Runtime gives numbers for strings there")
    rng = np.random.default_rng([len(labels), base, len(ids), negative])
    n = nodes(rng, 2 if ids == "some" else 6, 4, ("LEQ", "GT"), rng.normal(size=6).astype(np.float32))
    outputs = 1 if ids in ("first", "second") else len(labels)
    tail, _ = leaves(rng, n, "class", outputs, {"all": True, "some": None}.get(ids, False))
    if ids == "second":
        tail["class_ids"] = [1] * len(tail["class_ids"])
    if not negative:
        tail["class_weights"] = [abs(w) / 6 for w in tail["class_weights"]]
    attrs = attributes(n, "class", False, False) | tail | {"post_transform": post}
    attrs["classlabels_strings" if isinstance(labels[0], str) else "classlabels_int64s"] = labels
    if base:
        attrs["base_values"] = np.float32(rng.normal(size=1 if base == 1 else len(labels))).tolist()
    if base == 1 and len(labels) > 2:
        pytest.skip("one number for several classes is not defined")
    kind = "string" if isinstance(labels[0], str) else "int64"
    data = node_model("TreeEnsembleClassifier", attrs, "float32", [kind, "float32"], 3)
    x = rng.normal(size=(17, FEATURES)).astype(np.float32)
    try:
        label, scores = runtime(data, x)
    except Exception as error:
        pytest.skip(f"ONNX Runtime: {str(error)[:80]}")
    got = graphc.compile(data).run({"x": x})
    assert got["y0"].tolist() == list(label)
    defined = np.ones(scores.shape, bool)
    if (
        base == 1 and len(labels) == 2 and ids in ("one", "some")
    ):  # one number is written where no leaf wrote the second class
        alone = np.isin(got["y1"][:, 1], 0)
        defined[alone, 1] = False
    np.testing.assert_allclose(got["y1"][defined], scores[defined], rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", ["int32", "int64", "float64"])
def test_other_numbers_are_compared_in_float32(dtype: str):
    rng = np.random.default_rng(4)
    n = nodes(rng, 5, 4, ("LEQ", "GTE"), np.array([-2.0, 0.0, 2.0**24, 3.0]))
    tail, given = leaves(rng, n, "class", 3, True)
    attrs = attributes(n, "class", False, False) | tail | {"classlabels_int64s": [0, 1, 2]}
    x = rng.choice([-2, -1, 0, 2**24, 2**24 + 1, 3], (9, FEATURES)).astype(dtype)
    got = graphc.compile(node_model("TreeEnsembleClassifier", attrs, dtype, ["int64", "float32"], 3)).run({"x": x})
    want = walked(n, given, x.astype(np.float32), False, 3, "SUM")
    np.testing.assert_array_equal(got["y1"], want)
    assert got["y0"].tolist() == want.argmax(axis=1).tolist()


def test_doubles_are_compared_in_double():
    rng = np.random.default_rng(5)
    splits = 1 + rng.integers(-3, 4, 6) * 2.0**-40  # equal in float32
    n = nodes(rng, 9, 4, ("LEQ", "LT", "GTE"), splits)
    tail, given = leaves(rng, n, "target", 1, True)
    tail["target_weights_as_tensor"] = np.array(tail.pop("target_weights"))
    attrs = attributes(n, "target", False, True) | tail | {"n_targets": 1}
    x = 1 + rng.integers(-4, 5, (20, FEATURES)) * 2.0**-40
    data = node_model("TreeEnsembleRegressor", attrs, "float64", ["float32"], 3)
    got = graphc.compile(data).run({"x": x})["y0"]
    np.testing.assert_allclose(got, walked(n, given, x, False, 1, "SUM"), rtol=0, atol=1e-6)  # sums are doubles there
    np.testing.assert_allclose(got, runtime(data, x)[0], rtol=0, atol=1e-6)


def test_results_do_not_depend_on_threads_or_on_what_else_is_in_the_batch():
    rng = np.random.default_rng(6)
    n = nodes(rng, 40, 6, ("LEQ",), rng.normal(size=30).astype(np.float32))
    tail, _ = leaves(rng, n, "target", 2, True)
    data = node_model(
        "TreeEnsembleRegressor",
        attributes(n, "target", False, False) | tail | {"n_targets": 2},
        "float32",
        ["float32"],
        3,
    )
    x = rng.normal(size=(1003, FEATURES)).astype(np.float32)
    one, two = (graphc.compile(data, threads=t) for t in (1, 2))
    want = one.run({"x": x})["y0"]
    assert two.run({"x": x})["y0"].tobytes() == want.tobytes()
    for first in (0, 500, 1002):
        assert one.run({"x": x[first : first + 1]})["y0"].tobytes() == want[first : first + 1].tobytes()


def test_classes_that_no_leaf_wrote_do_not_win():
    """All scores are below 0, the unwritten ones are 0."""
    attrs = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.0, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "class_treeids": [0, 0],
        "class_nodeids": [1, 2],
        "class_ids": [1, 2],
        "class_weights": [-1.0, -2.0],
        "classlabels_int64s": [10, 20, 30],
    }
    x = np.zeros((2, FEATURES), np.float32)
    x[1] = 1
    got = graphc.compile(node_model("TreeEnsembleClassifier", attrs, "float32", ["int64", "float32"], 3)).run({"x": x})
    assert got["y0"].tolist() == [20, 30]
    np.testing.assert_array_equal(got["y1"], [[0, -1, 0], [0, 0, -2]])


# --- TreeEnsemble of opset 5 ------------------------------------------------------------------------------------------
def tables(**more: Any) -> dict[str, Any]:
    """x0 in {1, 2, 7} ? leaf 0 : (x1 < 0.5 ? leaf 1 : x0 in {} or {3} ? leaf 0 : leaf 2); leaf 0 has two parents."""
    attrs = {
        "tree_roots": [0],
        "nodes_modes": np.array([6, 1, 6], np.uint8),
        "nodes_featureids": [0, 1, 0],
        "nodes_splits": np.array([0, 0.5, 0], np.float32),
        "nodes_truenodeids": [0, 1, 0],
        "nodes_trueleafs": [1, 1, 1],
        "nodes_falsenodeids": [1, 2, 2],
        "nodes_falseleafs": [0, 0, 1],
        "leaf_targetids": [0, 1, 0],
        "leaf_weights": np.array([1.5, -2, 4], np.float32),
        "membership_values": np.array([1, 2, 7, math.nan, 3], np.float32),
        "n_targets": 2,
    }
    return attrs | more


@pytest.mark.parametrize("aggregate", range(4))
@pytest.mark.parametrize("tracks", [None, [1, 0, 1]])
def test_members(aggregate: int, tracks: list[int] | None):
    more: dict[str, Any] = {"aggregate_function": aggregate}
    if tracks:
        more["nodes_missing_value_tracks_true"] = tracks
    x = np.zeros((7, FEATURES), np.float32)
    x[:, 0], x[:, 1] = [1, 2, 7, 3, 4, math.nan, 4], [0, 0, 0, 1, 1, 1, 0]
    data = node_model("TreeEnsemble", tables(**more), "float32", ["float32"], 5)
    want = [[1.5, 0], [1.5, 0], [1.5, 0], [1.5, 0], [4, 0], [1.5 if tracks else 4, 0], [0, -2]]
    got = graphc.compile(data).run({"x": x})["y0"]
    np.testing.assert_array_equal(got, np.float32(want))
    np.testing.assert_array_equal(got, runtime(data, x)[0])


def test_doubles_of_opset_5():
    attrs = tables(
        nodes_splits=np.array([0, 0.5 + 2.0**-40, 0]),
        leaf_weights=np.array([1 + 2.0**-40, 2, 3]),
        membership_values=np.array([1, math.nan, 3]),
    )
    x = np.zeros((3, FEATURES))
    x[:, 0], x[:, 1] = [1, 4, 4], [0, 0.5, 0.5 + 2.0**-40]
    got = graphc.compile(node_model("TreeEnsemble", attrs, "float64", ["float64"], 5)).run({"x": x})["y0"]
    np.testing.assert_array_equal(got, [[1 + 2.0**-40, 0], [0, 2], [3, 0]])


# --- how forests are packed -------------------------------------------------------------------------------------------
def test_trees_of_float32_are_narrow_and_siblings_lie_together():
    rng = np.random.default_rng(8)
    n = nodes(rng, 3, 6, MODES[:4], rng.normal(size=5).astype(np.float32))
    tail, _ = leaves(rng, n, "target", 1, True)
    none = dict.fromkeys(("nodes_values_as_tensor", "target_weights_as_tensor"))
    attrs = {"nodes_missing_value_tracks_true": (), **none, **attributes(n, "target", False, False), **tail}
    forest = forest_of(attrs, "target", 1)
    table = packed(forest, forest.weights[:, 0], np.zeros(3, int))
    assert table.nodes.dtype == NARROW and len(table.nodes) == len(n["tree"])
    inner = np.flatnonzero(table.nodes["step"])
    first = inner + table.nodes["step"][inner]
    children = np.sort(np.concatenate([first, first + 1]))
    np.testing.assert_array_equal(children, np.setdiff1d(np.arange(len(table.nodes)), table.trees[:, 0]))


def test_what_would_grow_without_end_stays_a_graph_of_nodes():
    """40 levels, both children of each node are the next one: 2^40 ways."""
    levels = 40
    attrs = {
        "tree_roots": [0],
        "nodes_modes": np.zeros(levels, np.uint8),
        "nodes_featureids": [0] * levels,
        "nodes_splits": np.zeros(levels, np.float32),
        "nodes_missing_value_tracks_true": None,
        "nodes_truenodeids": [*range(1, levels), 0],
        "nodes_trueleafs": [0] * (levels - 1) + [1],
        "nodes_falsenodeids": [*range(1, levels), 1],
        "nodes_falseleafs": [0] * (levels - 1) + [1],
        "leaf_targetids": [0, 0],
        "leaf_weights": np.array([1, 2], np.float32),
        "membership_values": None,
        "n_targets": 1,
    }
    forest = forest_of_tables(attrs)
    table = packed(forest, forest.weights[:, 0], np.zeros(1, int))
    assert table.nodes.dtype == WIDE and table.trees.tolist() == [[0, levels, 0]]
    given = {k: v for k, v in attrs.items() if v is not None}
    model = graphc.compile(node_model("TreeEnsemble", given, "float32", ["float32"], 5))
    x = np.zeros((9, FEATURES), np.float32)
    x[::2] = 1
    np.testing.assert_array_equal(model.run({"x": x})["y0"][:, 0], np.where(x[:, 0] > 0, 2, 1))
