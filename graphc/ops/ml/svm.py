"""SVMClassifier and SVMRegressor: support vector machines, after libsvm."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Tensor
from graphc.ops.ml.coupling import coupled_probabilities
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
from graphc.ops.ml.transform import POST_TRANSFORM, expand_transform, logistic, signed_pair, transform
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


def _expand_kernel(b: Builder, x: Value, v: np.ndarray, kind: str, params) -> Value:
    """`_kernel`. Distances are sums of squared differences: those of sums of squares would cancel."""
    gamma, offset, degree = (b.constant(p, FLOAT32) for p in (*params, 0.0, 0.0, 0.0)[:3])
    if kind == "RBF":
        squares = b.add("SquaredDistances", x, b.constant(v.T.copy()))
        return b.add("Exp", b.add("Mul", squares, b.add("Neg", gamma)))
    products = b.add("MatMul", x, b.constant(v.T.copy()))
    if kind == "LINEAR":
        return products
    affine = b.add("Add", b.add("Mul", products, gamma), offset)
    return b.add("Pow", affine, degree) if kind == "POLY" else b.add("Tanh", affine)


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


def _expand_regressor(b: Builder, call: Call) -> Value:
    attrs, x = call.attrs, as_rows(b, call.inputs[0], FLOAT32)
    attrs.ignore("post_transform")
    if not attrs.n_supports:
        attrs.ignore("kernel_type", "kernel_params", "support_vectors")
    else:
        v = np.array(attrs.support_vectors, FLOAT32).reshape(attrs.n_supports, -1)
        x = _expand_kernel(b, x, v, attrs.kernel_type, attrs.kernel_params)
    s = b.add("MatMul", x, b.constant(np.array(attrs.coefficients, FLOAT32)[:, None]))
    s = b.add("Add", s, b.constant(attrs.rho[0], FLOAT32))
    if not attrs.one_class:
        return s
    return b.add("Where", b.add("Greater", s, b.constant(0, FLOAT32)), *(b.constant(n, FLOAT32) for n in (1, -1)))


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
    expand=_expand_regressor,
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
        votes[:, j] += ~(column > 0)
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
    """Class probabilities [N, K] from those of pairs."""
    return coupled_probabilities(1 / (1 + np.exp(d.astype(float) * np.array(a) + np.array(b))), k)


def _expand_classifier(b: Builder, call: Call) -> tuple[Value, Value]:
    attrs, x, post = call.attrs, as_rows(b, call.inputs[0], FLOAT32), call.attrs.post_transform
    labels = label_array(attrs.classlabels_strings, attrs.classlabels_ints)
    k, sizes = len(labels), attrs.vectors_per_class
    if not sizes:  # rows of a matrix: nothing else matters
        attrs.ignore("kernel_type", "kernel_params", "support_vectors", "prob_a", "prob_b")
        w = np.array(attrs.coefficients, FLOAT32).reshape(k, -1)
        scores = b.add("Add", b.add("MatMul", x, b.constant(w.T.copy())), b.constant(attrs.rho[0], FLOAT32))
        return named(b, labels, b.add("ArgMax", scores, axis=1, keepdims=0)), expand_transform(b, scores, post)
    v = np.array(attrs.support_vectors, FLOAT32).reshape(sum(sizes), -1)
    kernel = _expand_kernel(b, x, v, attrs.kernel_type, attrs.kernel_params)
    w, votes, base = _pair_matrices(np.array(attrs.coefficients, FLOAT32).reshape(k - 1, -1), sizes)
    d = b.add("Add", b.add("MatMul", kernel, b.constant(w)), b.constant(attrs.rho, FLOAT32))
    positive = b.add("Greater", d, b.constant(0, FLOAT32))
    if k == 2:
        label = chosen(b, labels[::-1], column_of(b, positive, 0))
    else:
        given = b.add("MatMul", b.add("Cast", positive, to=FLOAT32), b.constant(votes))
        label = named(b, labels, b.add("ArgMax", b.add("Add", given, b.constant(base)), axis=1, keepdims=0))
    if attrs.prob_a:
        wide = b.add("Cast", d, to=np.dtype(np.float64))
        sums = b.add("Add", b.add("Mul", wide, b.constant(attrs.prob_a, float)), b.constant(attrs.prob_b, float))
        pairs = b.add("Sigmoid", b.add("Neg", sums))
        scores = b.add("Cast", b.add("CoupledProbabilities", pairs, classes=k), to=FLOAT32)
        return label, expand_transform(b, scores, post)
    if k > 2:
        return label, expand_transform(b, d, post)
    pair = signed_pair(b, d, post.startswith("SOFTMAX"))
    return label, expand_transform(b, pair, "LOGISTIC") if post == "LOGISTIC" else pair


def _pair_matrices(coefficients: np.ndarray, sizes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[vectors, pairs] that decisions are products with; what a decision above 0 changes in the votes, [pairs, classes]; and the
    votes where none is."""
    ends, pairs = np.cumsum(sizes), list(combinations(range(len(sizes)), 2))
    of = [slice(e - n, e) for e, n in zip(ends, sizes)]
    w = np.zeros((ends[-1], len(pairs)), FLOAT32)
    votes, base = np.zeros((len(pairs), len(sizes)), FLOAT32), np.zeros(len(sizes), FLOAT32)
    for p, (i, j) in enumerate(pairs):
        w[of[i], p], w[of[j], p] = coefficients[j - 1, of[i]], coefficients[i, of[j]]
        votes[p, i], votes[p, j] = 1, -1
        base[j] += 1
    return w, votes, base


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
    expand=_expand_classifier,
)
