"""What classifiers do with their scores at the end (`post_transform`)."""

from __future__ import annotations

import numpy as np

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
