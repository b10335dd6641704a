"""CoupledProbabilities: class probabilities from those of pairs of classes, as libsvm finds them.

Wu, Lin and Weng, Probability Estimates for Multi-class Classification by Pairwise Coupling, 2004, algorithm 2.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from graphc.op import Attr, Call, Case, Family, Op, Samples, Tensor, register
from graphc.types import TensorType, dtype_name

TINY, NEAR, ROUNDS = 1e-7, 0.005, 100  # pairs are cut off at `TINY`; it ends when no class is off by NEAR / classes


def _infer(call: Call) -> list[TensorType]:
    x, k = call.type(0), call.attrs.classes
    if (
        dtype_name(x.dtype) != "float64"
        or x.rank != 2
        or isinstance(x.shape[1], int)
        and x.shape[1] != k * (k - 1) // 2
    ):
        raise call.fail(f"takes pairs of {k} classes in float64[N, {k * (k - 1) // 2}], not {x}")
    return [TensorType(x.dtype, (x.shape[0], k))]


def coupled_probabilities(pairs: np.ndarray, classes: int) -> np.ndarray:
    """pairs [N, K(K-1)/2]: how likely class i is if it is i or j, in the order 01, 02, ..., 12, ...: [N, K]."""
    both = np.zeros((len(pairs), classes, classes))
    for n, (i, j) in enumerate(combinations(range(classes), 2)):
        p = np.clip(pairs[:, n], TINY, 1 - TINY)
        both[:, i, j], both[:, j, i] = p, 1 - p
    return np.array([_coupled(r, classes) for r in both]).reshape(len(pairs), classes)


def _coupled(r: np.ndarray, k: int) -> np.ndarray:
    q = -r * r.T
    np.fill_diagonal(q, (r.T**2).sum(axis=1))
    p = np.full(k, 1 / k)
    for _ in range(ROUNDS):
        qp = q @ p
        total = p @ qp
        if np.abs(qp - total).max() < NEAR / k:
            break
        for t in range(k):
            step = (total - qp[t]) / q[t, t]
            p[t] += step
            total = (total + step * (step * q[t, t] + 2 * qp[t])) / (1 + step) ** 2
            qp = (qp + step * q[t]) / (1 + step)
            p /= 1 + step
    return p


register(
    Op(
        "CoupledProbabilities",
        ("pairs",),
        _infer,
        reference=lambda pairs, classes: coupled_probabilities(pairs, classes),
        attrs={"classes": Attr(int)},
        flops=lambda call: call.shape(0)[0] * (30 * call.attrs.classes**3),
        samples=Samples(
            ("float64",),
            low=0.0,
            high=1.0,
            cases=tuple(Case((Tensor((7, k * (k - 1) // 2)),), {"classes": k}) for k in (2, 3, 5)),
        ),
        tolerance=1e-9,
        family=Family.NORMALIZE,
        internal=True,
    )
)
