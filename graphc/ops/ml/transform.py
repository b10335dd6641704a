"""What classifiers do with their scores at the end (`post_transform`)."""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr

TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")
POST_TRANSFORM = Attr(str, "NONE", TRANSFORMS)


def logistic(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    """Over the rows."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def softmax_zero(x: np.ndarray) -> np.ndarray:
    """Softmax over the scores that are not zero. A zero score x becomes x·exp(-max), outside of the sum; a row of zeros
    gives NaN, as in ONNX Runtime."""
    high = x.max(axis=-1, keepdims=True)
    counts = np.abs(x) > 1e-7
    powers = np.where(counts, np.exp(x - high), x * np.exp(-high))
    with np.errstate(all="ignore"):
        return powers / np.where(counts, powers, 0).sum(axis=-1, keepdims=True)


def probit(x: np.ndarray) -> np.ndarray:
    """The quantile of the normal distribution, √2·erfinv(2x - 1), with Winitzki's approximation of erfinv (a = 0.147)."""
    with np.errstate(all="ignore"):
        y = 2 * x - 1
        log = np.log((1 - y) * (1 + y))
        half = 2 / (np.pi * 0.147) + log / 2
        inverse = np.sign(y) * np.sqrt(np.sqrt(half * half - log / 0.147) - half)
    edge = np.where(np.abs(y) == 1, y * np.inf, np.where(np.abs(y) > 1, np.nan, inverse))
    return (np.sqrt(2) * edge).astype(x.dtype)


def transform(scores: np.ndarray, name: str) -> np.ndarray:
    """The transform of that name of scores [N, C], dtype kept."""
    apply = {"LOGISTIC": logistic, "SOFTMAX": softmax, "SOFTMAX_ZERO": softmax_zero, "PROBIT": probit}.get(name)
    return scores if apply is None or not scores.size else apply(scores).astype(scores.dtype)


def transform_targets(scores: np.ndarray, name: str) -> np.ndarray:
    """As `transform`, for regressors: one target alone is not a distribution, and only PROBIT applies to it."""
    return transform(scores, name if scores.shape[1] > 1 or name == "PROBIT" else "NONE")


# --- the same, of other operators -------------------------------------------------------------------------------------
def _as(b: Builder, number: float, v: Value) -> Value:
    return b.constant(number, v.dtype)


def _expand_softmax_zero(b: Builder, x: Value) -> Value:
    axis = b.constant([-1], np.int64)
    high = b.add("ReduceMax", x, axis)
    counts = b.add("Greater", b.add("Abs", x), _as(b, 1e-7, x))
    powers = b.add("Exp", b.add("Sub", x, high))
    total = b.add("ReduceSum", b.add("Where", counts, powers, _as(b, 0, x)), axis)
    small = b.add("Mul", x, b.add("Exp", b.add("Neg", high)))
    return b.add("Div", b.add("Where", counts, powers, small), total)


def _expand_probit(b: Builder, x: Value) -> Value:
    def number(v: float) -> Value:
        return _as(b, v, x)

    y = b.add("Sub", b.add("Mul", x, number(2)), number(1))
    log = b.add("Log", b.add("Mul", b.add("Sub", number(1), y), b.add("Add", number(1), y)))
    half = b.add("Add", number(2 / (np.pi * 0.147)), b.add("Mul", log, number(0.5)))
    square = b.add("Sub", b.add("Mul", half, half), b.add("Mul", log, number(1 / 0.147)))
    inverse = b.add("Mul", b.add("Sign", y), b.add("Sqrt", b.add("Sub", b.add("Sqrt", square), half)))
    size = b.add("Abs", y)
    edge = b.add("Where", b.add("Equal", size, number(1)), b.add("Mul", y, number(np.inf)), inverse)
    edge = b.add("Where", b.add("Greater", size, number(1)), number(np.nan), edge)
    return b.add("Mul", edge, number(np.sqrt(2)))


def expand_transform(b: Builder, scores: Value, name: str) -> Value:
    """`transform`, of scores [N, C]."""
    match name:
        case "LOGISTIC":
            return b.add("Sigmoid", scores)
        case "SOFTMAX":
            return b.add("Softmax", scores, axis=-1)
        case "SOFTMAX_ZERO":
            return _expand_softmax_zero(b, scores)
        case "PROBIT":
            return _expand_probit(b, scores)
    return scores


def expand_targets(b: Builder, scores: Value, name: str) -> Value:
    """`transform_targets`, of scores [N, C]."""
    return expand_transform(b, scores, name if scores.shape[1] > 1 or name == "PROBIT" else "NONE")


def signed_pair(b: Builder, column: Value, complement: bool) -> Value:
    """[-s, s] of a column [N, 1], or [1-s, s]."""
    signs = b.add("Mul", column, b.constant([-1, 1], column.dtype))
    return b.add("Add", signs, b.constant([1, 0], column.dtype)) if complement else signs
