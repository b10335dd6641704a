"""SquaredDistances: of samples from vectors, as sums of squared differences. The kernel RBF of support vectors expands to it."""

from __future__ import annotations

import numpy as np

from graphc.op import Call, Case, Family, Op, Samples, Tensor, register
from graphc.ops.contract import differ, require_dtype, require_same_dtype
from graphc.types import Dim, TensorType


def _infer(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, 0, ("float32", "float64"))
    require_same_dtype(call, 0, 1)
    x, v = call.shape(0), call.shape(1)
    if len(x) != 2 or len(v) != 2 or differ(x[1], v[0]):
        raise call.fail(f"takes samples [N, F] and vectors [F, S], not {x} and {v}")
    return [TensorType(dtype, (x[0], v[1]))]


def _macs(call: Call) -> Dim:
    return call.shape(0)[0] * call.shape(0)[1] * call.shape(1)[1]


register(
    Op(
        "SquaredDistances",
        ("x", "vectors"),
        _infer,
        reference=lambda x, vectors: np.square(x[:, :, None] - vectors[None]).sum(axis=1),
        macs=_macs,
        samples=Samples(
            ("float32",), cases=tuple(Case((Tensor((n, f)), Tensor((f, s)))) for n, f, s in ((3, 5, 7), (2, 1, 150)))
        ),
        family=Family.CONTRACTION,
        internal=True,
    )
)
