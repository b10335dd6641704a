"""LinearClassifier and LinearRegressor."""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Tensor
from graphc.ops.ml.record import (
    NUMBERS,
    as_rows,
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
    logistic,
    signed_pair,
    transform,
    transform_targets,
)
from graphc.ops.precision import FLOAT32
from graphc.types import TensorType


def _matrix(call: Call, features, outputs: int) -> None:
    """Raises TypeRuleError unless the coefficients are [outputs, features]."""
    if outputs < 1 or len(call.attrs.coefficients) % outputs:
        raise call.fail(f"{len(call.attrs.coefficients)} coefficients are no {outputs} rows")
    require_features(call, features, len(call.attrs.coefficients) // outputs, exact=True)
    if call.attrs.intercepts and len(call.attrs.intercepts) != outputs:
        raise call.fail(f"{len(call.attrs.intercepts)} intercepts for {outputs} rows of coefficients")


def _product(x: np.ndarray, coefficients, intercepts, outputs: int) -> np.ndarray:
    """x·wᵀ + b in float32, [N, outputs]."""
    w = np.array(coefficients, FLOAT32).reshape(outputs, -1)
    return np.atleast_2d(x).astype(FLOAT32) @ w.T + np.array(intercepts or [0] * outputs, FLOAT32)


def _expand_product(b: Builder, call: Call, outputs: int) -> Value:
    """`_product`."""
    w = np.array(call.attrs.coefficients, FLOAT32).reshape(outputs, -1)
    y = b.add("MatMul", as_rows(b, call.inputs[0], FLOAT32), b.constant(w.T.copy()))
    return b.add("Add", y, b.constant(call.attrs.intercepts, FLOAT32)) if call.attrs.intercepts else y


# --- LinearClassifier -------------------------------------------------------------------------------------------------
def _classifier_type(call: Call) -> list[TensorType]:
    n, features = rows(call)
    if not call.attrs.intercepts:
        raise call.fail("has no intercepts", "one per row of coefficients: 0 where there is none")
    labels = labels_of(call, "classlabels_strings", "classlabels_ints")
    outputs = len(call.attrs.intercepts)
    _matrix(call, features, outputs)
    if len(labels) not in (0, outputs, 2 * outputs if outputs == 1 else outputs):
        raise call.fail(f"{len(labels)} class labels for {outputs} rows of coefficients")
    scores = 2 if len(labels) == 2 else outputs
    return [TensorType(labels.dtype, (n,)), TensorType(FLOAT32, (n, scores))]


def _classify(x, coefficients, intercepts, classlabels_strings, classlabels_ints, multi_class, post_transform):
    labels = label_array(classlabels_strings, classlabels_ints)
    scores = _product(x, coefficients, intercepts, len(intercepts))
    if scores.shape[1] > 1:
        names = labels if len(labels) else np.arange(scores.shape[1])
        return names[scores.argmax(axis=1)], transform(scores, post_transform)
    high = scores[:, 0] > 0
    if len(labels) != 2:
        pair = np.array([type(labels[0])(), labels[0]], labels.dtype) if len(labels) else np.arange(2)
        label = pair[high.astype(int)]
        return label, transform_targets(scores, post_transform)
    two = [logistic(-scores), logistic(scores)] if post_transform == "LOGISTIC" else [1 - scores, scores]
    return labels[high.astype(int)], np.concatenate(two, axis=1).astype(FLOAT32)


def _expand_classifier(b: Builder, call: Call) -> tuple[Value, Value]:
    attrs, post = call.attrs, call.attrs.post_transform
    labels = label_array(attrs.classlabels_strings, attrs.classlabels_ints)
    attrs.ignore("multi_class")
    scores = _expand_product(b, call, len(attrs.intercepts))
    if len(attrs.intercepts) > 1:
        names = labels if len(labels) else np.arange(len(attrs.intercepts))
        return named(b, names, b.add("ArgMax", scores, axis=1, keepdims=0)), expand_transform(b, scores, post)
    high = b.add("Greater", column_of(b, scores, 0), b.constant(0, FLOAT32))
    if len(labels) != 2:
        pair = np.array([type(labels[0])(), labels[0]], labels.dtype) if len(labels) else np.arange(2)
        return chosen(b, pair, high), expand_targets(b, scores, post)
    both = signed_pair(b, scores, post != "LOGISTIC")
    return chosen(b, labels, high), expand_transform(b, both, "LOGISTIC") if post == "LOGISTIC" else both


_X = (Tensor((5, 3)),)
_ROW = (1.0, -0.5, 0.25)
ml(
    "LinearClassifier",
    "x",
    _classifier_type,
    _classify,
    {
        "coefficients": Attr("floats"),
        "intercepts": Attr("floats", ()),
        "classlabels_strings": Attr("strings", ()),
        "classlabels_ints": Attr("ints", ()),
        "multi_class": Attr(int, 0),
        "post_transform": POST_TRANSFORM,
    },
    [
        Case(
            _X,
            {
                "coefficients": _ROW * 3,
                "intercepts": (0.1, 0.2, 0.3),
                "classlabels_ints": (4, 5, 6),
                "post_transform": p,
            },
            2,
        )
        for p in TRANSFORMS[:4]
    ]
    + [
        Case(
            _X, {"coefficients": _ROW, "intercepts": (0.1,), "classlabels_strings": ("a", "b"), "post_transform": p}, 2
        )
        for p in ("NONE", "LOGISTIC")
    ],
    ("label", "scores"),
    NUMBERS,
    expand=_expand_classifier,
)


# --- LinearRegressor --------------------------------------------------------------------------------------------------
def _regressor_type(call: Call) -> list[TensorType]:
    n, features = rows(call)
    _matrix(call, features, call.attrs.targets)
    return [TensorType(FLOAT32, (n, call.attrs.targets))]


def _regress(x, coefficients, intercepts, targets, post_transform):
    return transform_targets(_product(x, coefficients, intercepts, targets), post_transform)


ml(
    "LinearRegressor",
    "x",
    _regressor_type,
    _regress,
    {
        "coefficients": Attr("floats"),
        "intercepts": Attr("floats", ()),
        "targets": Attr(int, 1),
        "post_transform": POST_TRANSFORM,
    },
    [
        Case(_X, {"coefficients": _ROW, "intercepts": (0.1,)}),
        Case((Tensor((3,)),), {"coefficients": _ROW * 2, "targets": 2, "post_transform": "SOFTMAX"}),
    ],
    dtypes=NUMBERS,
    expand=lambda b, call: expand_targets(b, _expand_product(b, call, call.attrs.targets), call.attrs.post_transform),
)
