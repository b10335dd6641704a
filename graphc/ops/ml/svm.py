"""SVMClassifier and SVMRegressor: support vector machines, after libsvm."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from graphc.op import Attr, Call, Case, Tensor
from graphc.ops.ml.record import NUMBERS, label_array, labels_of, ml, require_features, rows
from graphc.ops.ml.transform import POST_TRANSFORM, logistic, transform
from graphc.ops.precision import FLOAT32
from graphc.types import TensorType

KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")
_KERNEL = {
    "kernel_type": Attr(str, "LINEAR", KERNELS),
    "kernel_params": Attr("floats", ()),
    "support_vectors": Attr("floats", ()),
    "coefficients": Attr("floats"),
    "rho": Attr("floats"),
}


def _kernel(x: np.ndarray, v: np.ndarray, kind: str, params) -> np.ndarray:
    """k(x, v) of samples [N, F] and vectors [S, F]: [N, S]. params: gamma, coef0, degree."""
    gamma, offset, degree = (*params, 0.0, 0.0, 0.0)[:3]
    if kind == "RBF":
        squares = ((x[:, None] - v[None]) ** 2).sum(axis=2)
        return np.exp(-gamma * squares)
    products = x @ v.T
    if kind == "POLY":
        return (gamma * products + offset) ** degree
    return np.tanh(gamma * products + offset) if kind == "SIGMOID" else products


def _vectors(call: Call, count: int, features) -> None:
    """Raises TypeRuleError unless the support vectors are [count, features]."""
    if len(call.attrs.support_vectors) % max(count, 1) or (count and not call.attrs.support_vectors):
        raise call.fail(f"{len(call.attrs.support_vectors)} numbers are no {count} support vectors")
    if count:
        require_features(call, features, len(call.attrs.support_vectors) // count, exact=True)


# --- SVMRegressor -----------------------------------------------------------------------------------------------------
def _regressor_type(call: Call) -> list[TensorType]:
    n, features = rows(call)
    _vectors(call, call.attrs.n_supports, features)
    if not call.attrs.rho or (call.attrs.n_supports and len(call.attrs.coefficients) != call.attrs.n_supports):
        raise call.fail(
            f"{len(call.attrs.coefficients)} coefficients and {len(call.attrs.rho)} rho for {call.attrs.n_supports} vectors"
        )
    if not call.attrs.n_supports:
        require_features(call, features, len(call.attrs.coefficients), exact=True)
    return [TensorType(FLOAT32, (n, 1))]


def _regress(x, kernel_type, kernel_params, support_vectors, coefficients, rho, n_supports, one_class, post_transform):
    """Σ coefficient·k(x, v) + rho; without vectors a plain product. one_class: its sign. post_transform has no effect."""
    x, w = np.atleast_2d(x).astype(FLOAT32), np.array(coefficients, FLOAT32)
    if n_supports:
        v = np.array(support_vectors, FLOAT32).reshape(n_supports, -1)
        x = _kernel(x, v, kernel_type, [FLOAT32.type(p) for p in kernel_params])
    s = (x @ w + FLOAT32.type(rho[0]))[:, None]
    return np.where(s > 0, 1, -1).astype(FLOAT32) if one_class else s.astype(FLOAT32)


_X = (Tensor((5, 3)),)
_V = (0.5, -1.0, 2.0, 1.5, 0.25, -0.5)
ml(
    "SVMRegressor",
    "x",
    _regressor_type,
    _regress,
    {**_KERNEL, "n_supports": Attr(int, 0), "one_class": Attr(int, 0), "post_transform": POST_TRANSFORM},
    [
        Case(
            _X,
            {
                "kernel_type": k,
                "kernel_params": (0.25, 0.5, 3.0),
                "support_vectors": _V,
                "coefficients": (1.0, -0.5),
                "rho": (0.1,),
                "n_supports": 2,
                "one_class": o,
            },
        )
        for k in KERNELS
        for o in (0, 1)
    ]
    + [Case(_X, {"coefficients": (1.0, 2.0, 3.0), "rho": (0.5,), "kernel_params": (0.0, 0.0, 0.0)})],
    dtypes=NUMBERS,
    tolerance=1e-4,  # a polynomial kernel cubes the rounding of a product
)


# --- SVMClassifier ----------------------------------------------------------------------------------------------------
def _classifier_type(call: Call) -> list[TensorType]:
    n, features = rows(call)
    labels = labels_of(call, "classlabels_strings", "classlabels_ints")
    k = len(labels)
    if not call.attrs.rho or not k:
        raise call.fail("has no class labels or no rho")
    if not call.attrs.vectors_per_class:
        if len(call.attrs.coefficients) % k:
            raise call.fail(f"{len(call.attrs.coefficients)} coefficients are no {k} rows")
        require_features(call, features, len(call.attrs.coefficients) // k, exact=True)
        return [TensorType(labels.dtype, (n,)), TensorType(FLOAT32, (n, k))]
    count, pairs = sum(call.attrs.vectors_per_class), k * (k - 1) // 2
    _vectors(call, count, features)
    if (
        len(call.attrs.vectors_per_class) != k
        or len(call.attrs.coefficients) != (k - 1) * count
        or len(call.attrs.rho) != pairs
    ):
        raise call.fail(f"coefficients, rho and vectors_per_class do not fit {k} classes", "export the model again")
    if len(call.attrs.prob_a) != len(call.attrs.prob_b) or len(call.attrs.prob_a) not in (0, pairs):
        raise call.fail(f"prob_a and prob_b must hold {pairs} numbers each")
    scores = k if call.attrs.prob_a or k == 2 else pairs
    return [TensorType(labels.dtype, (n,)), TensorType(FLOAT32, (n, scores))]


def _classify(
    x, kernel_type, kernel_params, support_vectors, coefficients, rho, vectors_per_class, prob_a, prob_b,
    classlabels_strings, classlabels_ints, post_transform,
):  # fmt: skip
    labels = label_array(classlabels_strings, classlabels_ints)
    x, k = np.atleast_2d(x).astype(FLOAT32), len(labels)
    if not vectors_per_class:
        scores = x @ np.array(coefficients, FLOAT32).reshape(k, -1).T + FLOAT32.type(rho[0])
        return labels[scores.argmax(axis=1)], transform(scores, post_transform)
    v = np.array(support_vectors, FLOAT32).reshape(sum(vectors_per_class), -1)
    kernel = _kernel(x, v, kernel_type, [FLOAT32.type(p) for p in kernel_params])
    d = _decisions(kernel, np.array(coefficients, FLOAT32).reshape(k - 1, -1), vectors_per_class, rho)
    votes = np.zeros((len(x), k), np.int64)
    for column, (i, j) in zip(d.T, combinations(range(k), 2)):
        votes[:, i] += column > 0
        votes[:, j] += column <= 0
    chosen = labels[votes.argmax(axis=1)]
    if prob_a:
        return chosen, transform(_probabilities(d, k, prob_a, prob_b).astype(FLOAT32), post_transform)
    if k > 2:
        return chosen, transform(d, post_transform)
    if post_transform == "LOGISTIC":
        return chosen, np.concatenate([logistic(-d), logistic(d)], axis=1).astype(FLOAT32)
    return chosen, np.concatenate([1 - d if post_transform.startswith("SOFTMAX") else -d, d], axis=1)


def _decisions(kernel: np.ndarray, coefficients: np.ndarray, sizes, rho) -> np.ndarray:
    """One against one, [N, K(K-1)/2]: of classes i < j, row j-1 of the coefficients for i's vectors, row i for j's."""
    ends = np.cumsum(sizes)
    of = [slice(e - n, e) for e, n in zip(ends, sizes)]
    pairs = combinations(range(len(sizes)), 2)
    columns = [
        kernel[:, of[i]] @ coefficients[j - 1, of[i]] + kernel[:, of[j]] @ coefficients[i, of[j]] + FLOAT32.type(r)
        for (i, j), r in zip(pairs, rho)
    ]
    return np.stack(columns, axis=1).astype(FLOAT32)


def _probabilities(d: np.ndarray, k: int, a, b) -> np.ndarray:
    """Class probabilities [N, K] from those of pairs (Wu, Lin and Weng 2004, algorithm 2, as in libsvm)."""
    tiny = 1e-7
    pairwise = np.zeros((len(d), k, k))
    for n, (i, j) in enumerate(combinations(range(k), 2)):
        p = np.clip(1 / (1 + np.exp(a[n] * d[:, n].astype(float) + b[n])), tiny, 1 - tiny)
        pairwise[:, i, j], pairwise[:, j, i] = p, 1 - p
    return np.array([_coupled(r, k) for r in pairwise]).reshape(len(d), k)


def _coupled(r: np.ndarray, k: int) -> np.ndarray:
    q = -r * r.T
    np.fill_diagonal(q, (r.T**2).sum(axis=1))
    p = np.full(k, 1 / k)
    for _ in range(100):
        qp = q @ p
        total = p @ qp
        if np.abs(qp - total).max() < 0.005 / k:
            break
        for t in range(k):
            step = (total - qp[t]) / q[t, t]
            p[t] += step
            total = (total + step * (step * q[t, t] + 2 * qp[t])) / (1 + step) ** 2
            qp = (qp + step * q[t]) / (1 + step)
            p /= 1 + step
    return p


def _machine(kind: str, **more) -> dict:
    return {
        "kernel_type": kind,
        "kernel_params": (0.25, 0.5, 2.0),
        "support_vectors": _V + (1.0, 1.0, -1.0),
        "coefficients": (1.0, -0.5, 0.25, 0.75, -1.0, 0.5),
        "rho": (0.1, -0.2, 0.3),
        "vectors_per_class": (1, 1, 1),
        "classlabels_ints": (0, 1, 2),
        **more,
    }


ml(
    "SVMClassifier",
    "x",
    _classifier_type,
    _classify,
    {
        **_KERNEL,
        "vectors_per_class": Attr("ints", ()),
        "prob_a": Attr("floats", ()),
        "prob_b": Attr("floats", ()),
        "classlabels_strings": Attr("strings", ()),
        "classlabels_ints": Attr("ints", ()),
        "post_transform": POST_TRANSFORM,
    },
    [Case(_X, _machine(k), 2) for k in KERNELS]
    + [
        Case(_X, _machine("RBF", prob_a=(-1.0, -0.5, -2.0), prob_b=(0.1, 0.0, 0.2)), 2),
        Case(
            _X,
            {
                "kernel_params": (0.0, 0.0, 0.0),
                "coefficients": _V + (1.0, 1.0, -1.0),
                "rho": (0.1,),
                "classlabels_strings": ("a", "b", "c"),
                "post_transform": "LOGISTIC",
            },
            2,
        ),
    ],
    ("label", "scores"),
    NUMBERS,
)
