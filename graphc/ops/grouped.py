"""GroupedMatMul: each row by the matrices of the groups that it is given to (experts)."""

from __future__ import annotations

import numpy as np

from graphc.dtypes import is_float
from graphc.graph import Builder, Value
from graphc.op import FLOATS, Call, Case, Const, Family, Op, Samples, Tensor, register
from graphc.ops.index import checked
from graphc.types import Dim, TensorType, prod


def _infer(call: Call) -> list[TensorType]:
    """[M, K], [G, K, N], [M, S] and a bias [G, N] -> [M, S, N]."""
    x, weights, groups = (call.type(i) for i in range(3))
    if not is_float(x.dtype) or weights.dtype != x.dtype or groups.dtype.name not in ("int32", "int64"):
        raise call.fail("takes floats of one dtype, and int32 or int64 for the groups")
    if (x.rank, weights.rank, groups.rank) != (2, 3, 2):
        raise call.fail("takes [M, K], [G, K, N] and [M, S]")
    equal: list[tuple[Dim, Dim]] = [(x.shape[1], weights.shape[1]), (x.shape[0], groups.shape[0])]
    if call.has(3):
        bias = call.type(3)
        if bias.dtype != x.dtype or bias.rank != 2:
            raise call.fail(f"the bias must be {x.dtype}[G, N], not {bias}")
        equal += zip(bias.shape, (weights.shape[0], weights.shape[2]))
    if any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in equal):
        raise call.fail("shapes do not fit [M, K], [G, K, N], [M, S], [G, N]")
    return [x.with_shape((*groups.shape, weights.shape[2]))]


def _reference(x: np.ndarray, weights: np.ndarray, groups: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    at = checked("GroupedMatMul", groups, len(weights), 0, "group", negative=False)
    wide = np.promote_types(x.dtype, np.float32)
    y = np.einsum("mk,mskn->msn", x.astype(wide), weights.astype(wide)[at])
    return (y if bias is None else y + bias.astype(wide)[at]).astype(x.dtype)


def _expand(b: Builder, call: Call) -> Value:
    """Few rows: of each its own matrices. Many: all of them by all matrices at once, which reads each matrix once."""
    x, weights, groups = call.inputs[:3]
    if prod(groups.shape) <= weights.shape[0]:
        rows = b.add("Unsqueeze", x, b.constant([1, 2], "int64"))
        y = b.add("MatMul", rows, b.add("Gather", weights, groups, axis=0))
        y = b.add("Squeeze", y, b.constant([2], "int64"))
    else:
        every = b.add("Transpose", b.add("MatMul", x, weights), perm=(1, 0, 2))
        y = b.add("GatherND", every, b.add("Unsqueeze", groups, b.constant([-1], "int64")), batch_dims=1)
    return b.add("Add", y, b.add("Gather", call.inputs[3], groups, axis=0)) if call.has(3) else y


def _case(m: int, s: int, g: int, bias: bool) -> Case:
    groups = np.arange(m * s).reshape(m, s) * 3 % g
    more = (Tensor((g, 5)),) if bias else ()
    return Case((Tensor((m, 4)), Tensor((g, 4, 5)), Const(groups, "int64"), *more))


register(
    Op(
        "GroupedMatMul",
        ("input", "weights", "group_indices", "bias?"),
        _infer,
        _reference,
        expand=_expand,
        macs=lambda call: prod((*call.shape(2), *call.shape(1)[1:])),
        samples=Samples(FLOATS, cases=(_case(1, 2, 5, True), _case(6, 2, 3, True), _case(4, 1, 4, False))),
        family=Family.CONTRACTION,
    )
)
