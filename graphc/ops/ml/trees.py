"""Ensembles of decision trees: TreeEnsembleClassifier, TreeEnsembleRegressor and TreeEnsemble (opset 5)."""

from __future__ import annotations

from collections.abc import Callable
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
        return _one_label(s[:, 0] > 0, labels), transform_targets(s, post_transform).astype(np.float32)
    if len(labels) == 2:
        label, scores = _two_classes(scores, seen, base, labels, post_transform, attrs)
        return label, scores.astype(np.float32)
    if base.size == scores.shape[1]:
        scores, seen = scores + base.astype(scores.dtype), np.ones(scores.shape, bool)
    chosen = np.where(seen, scores, -np.inf).argmax(axis=1)
    return labels[chosen], transform(scores, post_transform).astype(np.float32)


def _one_label(high: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 or 0, whatever the only class is called; a string is its name."""
    return np.full(len(high), labels[0], object) if labels.dtype == STRING else np.where(high, 1, 0).astype(np.int64)


def _binary(attrs: dict[str, Any]) -> tuple[bool, bool]:
    """Of two classes: do leaves name one of them alone, and are all weights probabilities (none is negative)?"""
    weights, _ = floats_or_tensor(attrs, "class_weights", 0.0, 0)
    return len(set(attrs["class_ids"])) == 1, not (weights < 0).any()


def _two_classes(s, seen, base, labels, post, attrs):
    """Two labels: what ONNX Runtime does, which depends on the classes that the reached leaves wrote (`seen`), sample by sample.

    Where that is the first one alone, its score is that of the second class, too: its threshold is 1/2 where all weights are
    probabilities, else 0. One base value is the first class's. Of two, the second replaces the second class's score.
    """
    binary, positive = _binary(attrs)
    one, zero = s.dtype.type(1), s.dtype.type(0)
    (first, second), (saw, saw_second) = s.T, seen.T
    base = base.astype(s.dtype)
    if base.size == 2:
        given = np.where(saw_second, first + base[1], zero)
        first = np.where(saw, np.where(saw_second, -given, first + base[0]), zero)
        scores, decides = transform(np.stack([first, given], axis=1), post), np.where(saw_second, given, first)
    else:
        first = first + np.where(saw, base[0], zero) if base.size else first
        pair = [one - first if binary and positive and post != "LOGISTIC" else -first, first]
        if post == "PROBIT":
            pair = [transform(first, post), np.zeros_like(first)]
        elif base.size and not binary:
            pair = [first, np.zeros_like(first)]
        elif post == "LOGISTIC":
            pair = [transform(v, post) for v in pair]
        both = transform(np.stack([first, second], axis=1), post)
        scores = np.where(saw_second[:, None], both, np.stack(pair, axis=1))
        decides = np.where(saw_second, second, first)
    high = decides > (0.5 if binary and positive else 0)
    if not binary and labels.dtype != STRING:
        return high.astype(np.int64), scores
    return labels[high.astype(int)], scores


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
        names = np.repeat(labels, 2) if labels.dtype == STRING else np.array([0, 1])
        label = _above(b, column_of(b, scores, 0), 0, names)
        scores = expand_targets(b, scores, post)
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


def _pick(b: Builder, flag: Value | bool, yes: Callable[[], Value], no: Callable[[], Value]) -> Value:
    """One of the two where that is known, else both and a Where."""
    if isinstance(flag, bool):
        return yes() if flag else no()
    return b.add("Where", flag, yes(), no())


def _columns(b: Builder, v: Value) -> tuple[Value, Value]:
    return b.add("Split", v, b.constant([1, 1], np.int64), axis=1, outputs=2)


def _expand_two_classes(b, x, forest, base, labels, attrs):
    """`_two_classes`."""
    post, (binary, positive) = attrs["post_transform"], _binary(attrs)
    saw: Value | bool
    saw_second: Value | bool
    if binary:
        only = attrs["class_ids"][0]
        column, seen = tree_scores(b, x, forest.output(only), "SUM")
        flag = seen if isinstance(seen, Value) else bool(seen[0])
        nothing = b.add("Mul", column, b.constant(0, column.dtype))
        first, second = (nothing, column) if only else (column, nothing)
        saw, saw_second = (False, flag) if only else (flag, False)
    else:
        scores, seen = tree_scores(b, x, forest, "SUM")
        first, second = _columns(b, scores)
        nothing = b.add("Mul", first, b.constant(0, first.dtype))
        saw, saw_second = _columns(b, seen) if isinstance(seen, Value) else map(bool, seen)

    def together(*pair: Value) -> Value:
        return b.add("Concat", *pair, axis=1)

    def on_top(v: Value, i: int) -> Value:
        return b.add("Add", v, b.constant(base[i]))

    if base.size == 2:
        given = _pick(b, saw_second, lambda: on_top(first, 1), lambda: nothing)
        there = _pick(b, saw_second, lambda: b.add("Neg", given), lambda: on_top(first, 0))
        there = _pick(b, saw, lambda: there, lambda: nothing)
        scores = expand_transform(b, together(there, given), post)
        decides = _pick(b, saw_second, lambda: given, lambda: there)
    else:
        first = _pick(b, saw, lambda: on_top(first, 0), lambda: first) if base.size else first

        def alone() -> Value:
            if post == "PROBIT":
                return together(expand_transform(b, first, post), nothing)
            if base.size and not binary:
                return together(first, nothing)
            pair = signed_pair(b, first, binary and positive and post != "LOGISTIC")
            return expand_transform(b, pair, post if post == "LOGISTIC" else "NONE")

        scores = _pick(b, saw_second, lambda: expand_transform(b, together(first, second), post), alone)
        decides = _pick(b, saw_second, lambda: second, lambda: first)
    names = labels if binary or labels.dtype == STRING else np.array([0, 1])
    return _above(b, column_of(b, decides, 0), 0.5 if binary and positive else 0, names), scores


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
