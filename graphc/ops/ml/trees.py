"""Ensembles of decision trees: TreeEnsembleClassifier, TreeEnsembleRegressor and TreeEnsemble (opset 5)."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Tensor
from graphc.ops.ml.forest import compared, floats_or_tensor, forest_of, forest_of_tables
from graphc.ops.ml.record import (
    NUMBERS,
    STRING,
    chosen,
    column_of,
    label_array,
    labels_of,
    ml,
    named,
    require_features,
    rows,
)
from graphc.ops.ml.transform import (
    POST_TRANSFORM,
    TRANSFORMS,
    expand_targets,
    expand_transform,
    signed_pair,
    transform,
    transform_targets,
)
from graphc.ops.ml.walk import tree_scores
from graphc.types import TensorType

_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
_TRANSFORMS_5 = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")

_TREES = {
    "nodes_treeids": Attr("ints"),
    "nodes_nodeids": Attr("ints"),
    "nodes_featureids": Attr("ints"),
    "nodes_values": Attr("floats", ()),
    "nodes_values_as_tensor": Attr("tensor", None),
    "nodes_hitrates": Attr("floats", None),
    "nodes_hitrates_as_tensor": Attr("tensor", None),
    "nodes_modes": Attr("strings"),
    "nodes_truenodeids": Attr("ints"),
    "nodes_falsenodeids": Attr("ints"),
    "nodes_missing_value_tracks_true": Attr("ints", ()),
    "base_values": Attr("floats", ()),
    "base_values_as_tensor": Attr("tensor", None),
    "post_transform": POST_TRANSFORM,
}


def _attrs(call: Call) -> dict[str, Any]:
    return {key: call.attrs[key] for key in call.op.attrs}


# --- TreeEnsembleClassifier -------------------------------------------------------------------------------------------
def _classifier_type(call: Call) -> list[TensorType]:
    n, features = rows(call)
    labels = labels_of(call, "classlabels_strings", "classlabels_int64s")
    if not len(labels):
        raise call.fail("has no class labels", "classlabels_strings or classlabels_int64s")
    forest = forest_of(_attrs(call), "class", len(labels))
    require_features(call, features, int(forest.feature.max(initial=-1)) + 1)
    return [TensorType(labels.dtype, (n,)), TensorType(np.float32, (n, len(labels)))]


def _classify(x, classlabels_strings, classlabels_int64s, post_transform, **attrs):
    labels = label_array(classlabels_strings, classlabels_int64s)
    forest = forest_of(attrs, "class", len(labels))
    scores, seen = forest.sums(compared(x, forest.split.dtype), "SUM")
    base, _ = floats_or_tensor(attrs, "base_values", 0.0, 0)
    if len(labels) == 1:
        s = scores + (base if base.size else 0)
        return np.where(s[:, 0] > 0, 1, 0).astype(np.int64), transform(s, post_transform).astype(np.float32)
    if len(labels) == 2:
        label, scores = _two_classes(scores, base, forest, labels, post_transform, attrs)
        return label, scores.astype(np.float32)
    if base.size == scores.shape[1]:
        scores, seen = scores + base.astype(scores.dtype), np.ones(scores.shape, bool)
    chosen = np.where(seen, scores, -np.inf).argmax(axis=1)
    return labels[chosen], transform(scores, post_transform).astype(np.float32)


def _two_classes(s, base, forest, labels, post, attrs):
    """Two labels: what ONNX Runtime does, which depends on the classes that the leaves name.

    Leaves of one class give one score, whose threshold is 1/2 where all weights are probabilities (none is negative), else 0.
    """
    named = set(attrs["class_ids"])
    weights, _ = floats_or_tensor(attrs, "class_weights", 0.0, 0)
    positive = not (weights < 0).any()
    one, zero = s.dtype.type(1), s.dtype.type(0)
    if named == {0, 1} or not named:
        raw = s + (base.astype(s.dtype) if base.size == 1 else 0)
        if base.size == 2:
            second = s[:, :1] + base[1].astype(s.dtype)
            raw = np.concatenate([-second, second], axis=1)
        high = raw[:, 1] > 0
        label = np.where(high, labels[1], labels[0]) if labels.dtype == object else high.astype(np.int64)
        return label, transform(raw, post)
    (only,) = named
    column = s[:, only] + (base[0].astype(s.dtype) if base.size else zero)
    label = np.where(column > (0.5 if positive else 0), labels[1], labels[0])
    if only == 1 or base.size == 2:
        pair = (np.zeros_like(column), column) if only == 1 else (column, np.zeros_like(column))
        raw = np.stack(pair, axis=1)
        return label, transform(raw, post) if post == "LOGISTIC" else raw
    if post == "LOGISTIC":
        return label, transform(np.stack([-column, column], axis=1), post)
    return label, np.stack([one - column if positive else -column, column], axis=1)


def _expand_classifier(b: Builder, call: Call) -> tuple[Value, Value]:
    attrs, post = _attrs(call), call.attrs.post_transform
    labels = label_array(attrs["classlabels_strings"], attrs["classlabels_int64s"])
    forest = forest_of(attrs, "class", len(labels))
    base = floats_or_tensor(attrs, "base_values", 0.0, 0)[0].astype(forest.weights.dtype)
    if len(labels) == 2:
        label, scores = _expand_two_classes(b, call.inputs[0], forest, base, labels, attrs)
        return label, _as_float32(b, scores)
    scores, seen = tree_scores(b, call.inputs[0], forest, "SUM")
    if len(labels) == 1:
        scores = b.add("Add", scores, b.constant(base)) if base.size else scores
        label = _above(b, column_of(b, scores, 0), 0, np.array([0, 1]))
        scores = expand_transform(b, scores, post)
    else:
        compete = scores
        if base.size == len(labels):
            compete = scores = b.add("Add", scores, b.constant(base))
        elif isinstance(seen, Value) or not seen.all():
            mask = seen if isinstance(seen, Value) else b.constant(seen)
            compete = b.add("Where", mask, scores, b.constant(-np.inf, scores.dtype))
        label = named(b, labels, b.add("ArgMax", compete, axis=1, keepdims=0))
        scores = expand_transform(b, scores, post)
    return label, _as_float32(b, scores)


def _as_float32(b: Builder, v: Value) -> Value:
    return v if v.dtype == np.float32 else b.add("Cast", v, to=np.dtype(np.float32))


def _above(b: Builder, v: Value, limit: float, labels: np.ndarray) -> Value:
    """labels[1] where numbers [N] are above the limit."""
    return chosen(b, labels, b.add("Greater", v, b.constant(limit, v.dtype)))


def _expand_two_classes(b, x, forest, base, labels, attrs):
    """`_two_classes`."""
    post, named_classes = attrs["post_transform"], set(attrs["class_ids"])
    positive = not (floats_or_tensor(attrs, "class_weights", 0.0, 0)[0] < 0).any()
    if len(named_classes) == 1:
        only = named_classes.pop()
        column, _ = tree_scores(b, x, forest.output(only), "SUM")
        column = b.add("Add", column, b.constant(base[0])) if base.size else column
        label = _above(b, column_of(b, column, 0), 0.5 if positive else 0, labels)
        if only == 1 or base.size == 2:
            scores = b.add("Mul", column, b.constant([0, 1] if only == 1 else [1, 0], column.dtype))
        else:
            scores = signed_pair(b, column, positive and post != "LOGISTIC")
        return label, expand_transform(b, scores, post if post == "LOGISTIC" else "NONE")
    if base.size == 2:
        column, _ = tree_scores(b, x, forest.output(0), "SUM")
        column = b.add("Add", column, b.constant(base[1]))
        second, scores = column_of(b, column, 0), signed_pair(b, column, False)
    else:
        scores, _ = tree_scores(b, x, forest, "SUM")
        scores = b.add("Add", scores, b.constant(base)) if base.size == 1 else scores
        second = column_of(b, scores, 1)
    label = _above(b, second, 0, labels if labels.dtype == STRING else np.array([0, 1]))
    return label, expand_transform(b, scores, post)


def _stump(kind: str, **more) -> dict[str, Any]:
    """Two trees of one decision each: x0 <= 0.1, x1 <= -0.2."""
    return {
        "nodes_treeids": [0, 0, 0, 1, 1, 1],
        "nodes_nodeids": [0, 1, 2] * 2,
        "nodes_featureids": [0, 0, 0, 1, 0, 0],
        "nodes_values": [0.1, 0, 0, -0.2, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_GT", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0] * 2,
        "nodes_falsenodeids": [2, 0, 0] * 2,
        f"{kind}_treeids": [0, 0, 1, 1],
        f"{kind}_nodeids": [1, 2, 1, 2],
        **more,
    }


_X = (Tensor((7, 3)),)
ml(
    "TreeEnsembleClassifier",
    "x",
    _classifier_type,
    _classify,
    {
        **_TREES,
        "class_treeids": Attr("ints"),
        "class_nodeids": Attr("ints"),
        "class_ids": Attr("ints"),
        "class_weights": Attr("floats", ()),
        "class_weights_as_tensor": Attr("tensor", None),
        "classlabels_strings": Attr("strings", ()),
        "classlabels_int64s": Attr("ints", ()),
    },
    [
        Case(
            _X,
            _stump(
                "class",
                class_ids=[0, 1, 2, 0],
                class_weights=[1.0, 0.5, 0.75, 0.25],
                classlabels_int64s=[3, 4, 5],
                post_transform=p,
            ),
            2,
        )
        for p in TRANSFORMS[:4]
    ]
    + [
        Case(
            _X,
            _stump(
                "class",
                class_ids=[0] * 4,
                class_weights=w,
                classlabels_strings=["no", "yes"],
                post_transform="LOGISTIC",
            ),
            2,
        )
        for w in ([0.5, 0.25, 0.25, 0.0], [0.5, -0.25, 0.25, -1.0])
    ],
    ("label", "scores"),
    NUMBERS,
    expand=_expand_classifier,
)


# --- TreeEnsembleRegressor --------------------------------------------------------------------------------------------
def _regressor_type(call: Call) -> list[TensorType]:
    n, features = rows(call)
    forest = forest_of(_attrs(call), "target", call.attrs.n_targets)
    require_features(call, features, int(forest.feature.max(initial=-1)) + 1)
    return [TensorType(np.float32, (n, call.attrs.n_targets))]


def _regress(x, n_targets, aggregate_function, post_transform, **attrs):
    forest = forest_of(attrs, "target", n_targets)
    scores, seen = forest.sums(compared(x, forest.split.dtype), aggregate_function)
    base, _ = floats_or_tensor(attrs, "base_values", 0.0, 0)
    if base.size:  # a target that no leaf wrote stays 0
        scores = np.where(seen, scores + base.astype(scores.dtype), scores)
    return transform_targets(scores, post_transform).astype(np.float32)


def _expand_regressor(b: Builder, call: Call) -> Value:
    attrs = _attrs(call)
    forest = forest_of(attrs, "target", attrs["n_targets"])
    scores, seen = tree_scores(b, call.inputs[0], forest, attrs["aggregate_function"])
    base, _ = floats_or_tensor(attrs, "base_values", 0.0, 0)
    if base.size:
        on_top = b.constant(base.astype(scores.dtype))
        if isinstance(seen, Value):
            on_top = b.add("Where", seen, on_top, b.constant(0, scores.dtype))
        elif not seen.all():
            on_top = b.constant(np.where(seen, base, 0).astype(scores.dtype))
        scores = b.add("Add", scores, on_top)
    return _as_float32(b, expand_targets(b, scores, attrs["post_transform"]))


ml(
    "TreeEnsembleRegressor",
    "x",
    _regressor_type,
    _regress,
    {
        **_TREES,
        "target_treeids": Attr("ints"),
        "target_nodeids": Attr("ints"),
        "target_ids": Attr("ints"),
        "target_weights": Attr("floats", ()),
        "target_weights_as_tensor": Attr("tensor", None),
        "n_targets": Attr(int),
        "aggregate_function": Attr(str, "SUM", _AGGREGATES),
    },
    [
        Case(
            _X,
            _stump(
                "target",
                target_ids=[0, 0, 0, 0],
                target_weights=[0.5, -0.25, 1.5, 2.0],
                n_targets=1,
                aggregate_function=a,
                base_values=[0.25],
            ),
        )
        for a in _AGGREGATES
    ]
    + [
        Case(
            _X,
            _stump(
                "target",
                target_ids=[0, 1, 1, 0],
                target_weights=[0.5, -0.25, 1.5, 2.0],
                n_targets=2,
                post_transform="SOFTMAX",
            ),
        )
    ],
    dtypes=NUMBERS,
    expand=_expand_regressor,
)


# --- TreeEnsemble (opset 5) -------------------------------------------------------------------------------------------
def _ensemble_type(call: Call) -> list[TensorType]:
    n, features = rows(call, "float16", "float32", "float64")
    forest = forest_of_tables(_attrs(call))
    require_features(call, features, int(forest.feature.max(initial=-1)) + 1)
    return [TensorType(call.dtype(0), (n, call.attrs.n_targets))]


def _ensemble(x, **attrs):
    forest = forest_of_tables(attrs)
    scores, _ = forest.sums(compared(x, forest.split.dtype), _AGGREGATES[attrs["aggregate_function"]])
    return transform_targets(scores, _TRANSFORMS_5[attrs["post_transform"]]).astype(x.dtype)


def _expand_ensemble(b: Builder, call: Call) -> Value:
    attrs = _attrs(call)
    scores, _ = tree_scores(b, call.inputs[0], forest_of_tables(attrs), _AGGREGATES[attrs["aggregate_function"]])
    scores = expand_targets(b, scores, _TRANSFORMS_5[attrs["post_transform"]])
    return scores if scores.dtype == call.dtype(0) else b.add("Cast", scores, to=call.dtype(0))


def _tree_5(**more) -> dict[str, Any]:
    attrs = {
        "tree_roots": [0],
        "nodes_modes": np.array([0, 4, 6], np.uint8),
        "nodes_featureids": [0, 1, 2],
        "nodes_splits": np.array([0.1, 0.0, 0.0], np.float32),
        "nodes_truenodeids": [1, 0, 1],
        "nodes_trueleafs": [0, 1, 1],
        "nodes_falsenodeids": [2, 1, 2],
        "nodes_falseleafs": [0, 1, 1],
        "leaf_targetids": [0, 0, 1],
        "leaf_weights": np.array([5.0, -3.0, 0.5], np.float32),
        "membership_values": np.array([1.0, 2.0, np.nan], np.float32),
        "n_targets": 2,
    }
    return attrs | more


ml(
    "TreeEnsemble",
    "x",
    _ensemble_type,
    _ensemble,
    {
        "tree_roots": Attr("ints"),
        "nodes_modes": Attr("tensor"),
        "nodes_featureids": Attr("ints"),
        "nodes_splits": Attr("tensor"),
        "nodes_hitrates": Attr("tensor", None),
        "nodes_missing_value_tracks_true": Attr("ints", None),
        "nodes_truenodeids": Attr("ints"),
        "nodes_trueleafs": Attr("ints"),
        "nodes_falsenodeids": Attr("ints"),
        "nodes_falseleafs": Attr("ints"),
        "leaf_targetids": Attr("ints"),
        "leaf_weights": Attr("tensor"),
        "membership_values": Attr("tensor", None),
        "n_targets": Attr(int),
        "aggregate_function": Attr(int, 1, (0, 1, 2, 3)),
        "post_transform": Attr(int, 0, (0, 1, 2, 3, 4)),
    },
    [Case(_X, _tree_5(aggregate_function=a, post_transform=p)) for a in range(4) for p in (0, 2)],
    expand=_expand_ensemble,
)
