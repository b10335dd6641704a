"""Operators of linear algebra beyond products."""

from __future__ import annotations

import math

import numpy as np

from graphc.dtypes import is_float
from graphc.op import FLOATS, Call, Case, Const, Family, Op, Samples, Tensor, register
from graphc.ops.movement import same_dim
from graphc.ops.precision import widen
from graphc.types import TensorType


def _det_type(call: Call) -> list[TensorType]:
    x = call.type(0)
    if x.rank < 2 or not is_float(x.dtype):
        raise call.fail("takes square matrices of floats")
    same_dim(call, x.rank - 1, x.shape[-2:])
    return [x.with_shape(x.shape[:-2])]


def _det_flops(call: Call) -> int:
    """2/3 n³ per matrix (LU decomposition)."""
    *batch, n, _ = call.shape(0)
    return math.prod(batch) * 2 * n**3 // 3


register(
    Op(
        "Det",
        ("x",),
        _det_type,
        lambda x: np.asarray(np.linalg.det(widen(x))).astype(x.dtype),
        flops=_det_flops,
        tolerance=1e-5,
        samples=Samples(
            FLOATS,
            cases=(
                Case((Tensor((3, 3)),)),
                Case((Tensor((2, 1, 4, 4)),)),
                Case((Tensor((1, 1)),)),
                Case((Tensor((3, 17, 17), -1, 1),)),
                Case((Const([[[0, 2], [3, 1]], [[1, 2], [2, 4]], [[0, 0], [0, 1]]], "float32"),)),
            ),
        ),
        family=Family.CONTRACTION,
    )
)
