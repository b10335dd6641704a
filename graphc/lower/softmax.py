"""Softmax, LogSoftmax, LpNormalization and ReduceLogSumExp: passes along one axis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphc import expr as e
from graphc.dtypes import is_float
from graphc.expr import Expr
from graphc.lower.fuse import Group
from graphc.lower.kernel import Pass, Passes
from graphc.lower.lowering import Lowering
from graphc.lower.reduce import accumulator, groups_of
from graphc.lower.registry import lowers, native_dtypes
from graphc.lower.storage import Buffer, Ref, dense_strides
from graphc.lower.verbs import Along, Around, around
from graphc.ops.reduce import reduced_axes
from graphc.report import StepInfo


def emit_along(
    lo: Lowering,
    x: Ref,
    dtype: np.dtype,
    shape: Around,
    out: Ref,
    passes: tuple[Pass, ...],
    result: tuple[str, Expr],
    info: StepInfo,
) -> None:
    """Passes along the middle of [outer, size, inner] dense elements, operands: 0 the elements, 1 the output's elements.

    result: ('v', expression) per element, ('s', expression) one number per row.
    """
    outer, size, inner = shape
    item, kind, to = dtype.itemsize, result[0], result[1].dtype.itemsize
    rows = size * inner * to if kind == "v" else inner * to
    p = Passes("vv", (dtype.name, result[1].dtype.name), passes, (result,))
    if inner == 1:
        written = Along(out, [rows])
        lo.row_passes(p, [outer], [Along(x, [size * item]), written, written], 1, size, info)
    else:
        written = Along(out, [rows], inner * to if kind == "v" else 0)
        operands = [Along(x, [size * inner * item], inner * item), written, written]
        lo.column_passes(p, [outer], operands, size, inner, info)


@lowers("Softmax", "LogSoftmax", "LpNormalization", supported=native_dtypes)
def lower_along_axis(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, out = lo.read(node.inputs[0]), lo.write(node.output)
    if node.output.type.size == 0:
        return
    t = node.output.type
    make = {"Softmax": _softmax, "LogSoftmax": _log_softmax, "LpNormalization": _lp}[node.op.name]
    passes, result = make(t.dtype, node.attrs)
    shape = around(t.shape, node.attrs["axis"] % t.rank)
    emit_along(lo, x.ref, t.dtype, shape, out.ref, passes, ("v", result), lo.info(group, "passes"))


def _softmax(dtype: np.dtype, attrs: Mapping[str, Any]) -> tuple[tuple[Pass, ...], Expr]:
    """exp(x - max) is kept in the output between the passes, unless its dtype is too narrow to."""
    wide = accumulator(dtype)
    x, largest, inverse = e.cast(e.arg(0, dtype), wide), e.arg(2, wide), e.arg(3, wide)
    power = e.exp(x - largest)
    keep = wide == dtype
    passes = Pass("max", x, largest), Pass("add", power, 1.0 / inverse, keep)
    return passes, e.cast((e.arg(1, wide) if keep else power) * inverse, dtype)


def _log_softmax(dtype: np.dtype, attrs: Mapping[str, Any]) -> tuple[tuple[Pass, ...], Expr]:
    wide = accumulator(dtype)
    x, largest, total = e.cast(e.arg(0, dtype), wide), e.arg(2, wide), e.arg(3, wide)
    passes = Pass("max", x, largest), Pass("add", e.exp(x - largest), e.log(total))
    return passes, e.cast(x - largest - total, dtype)


def _lp(dtype: np.dtype, attrs: Mapping[str, Any]) -> tuple[tuple[Pass, ...], Expr]:
    """x / norm; a row of zeros stays as it is."""
    wide = accumulator(dtype)
    x, norm = e.cast(e.arg(0, dtype), wide), e.arg(2, wide)
    if attrs["p"] == 1:
        total = Pass("add", e.absolute(x), e.where(e.eq(norm, 0.0), 1.0, norm))
    else:
        total = Pass("add", x * x, e.where(e.eq(norm, 0.0), 1.0, e.sqrt(norm)))
    return (total,), e.cast(x / norm, dtype)


@lowers("ReduceLogSumExp", supported=native_dtypes)
def lower_log_sum_exp(lo: Lowering, group: Group) -> None:
    """max + log(sum(exp(x - max))), with 0 for an infinite max: inf - inf would be NaN."""
    node = group.nodes[0]
    x, out = lo.read(node.inputs[0]), lo.write(node.output)
    if node.output.type.size == 0:
        return
    dtype, source = node.output.dtype, x.ref
    axes = reduced_axes(node.call)
    if not axes:
        dims, info = node.output.shape, lo.info(group, "copy_strided")
        lo.copy(x.ref, x.strides, out.ref, dense_strides(node.output.type), dims, dtype.itemsize, info)
        return
    wide = accumulator(dtype) if is_float(dtype) else np.dtype("float64")
    v, largest, total = e.cast(e.arg(0, dtype), wide), e.arg(2, wide), e.arg(3, wide)
    finite = e.where(e.eq(e.absolute(largest), math.inf), 0.0, largest)
    passes = Pass("max", v, finite), Pass("add", e.exp(v - largest), e.log(total) + largest)
    info = lo.info(group, "passes")
    shape = node.inputs[0].shape
    groups = groups_of(shape, axes)
    if sum(reduced for _, reduced in groups) > 1:  # the reduced axes side by side, last
        order = [i for i in range(len(shape)) if i not in axes] + list(axes)
        moved = [shape[i] for i in order]
        source = Ref(Buffer(f"{node.output.name}/moved", x.type.nbytes))
        strides = dense_strides(x.type.with_shape(moved))
        lo.copy(x.ref, [x.strides[i] for i in order], source, strides, moved, dtype.itemsize, info)
        groups = groups_of(moved, range(len(moved) - len(axes), len(moved)))
    extents = [d for d, _ in groups]
    at = next((i for i, (_, reduced) in enumerate(groups) if reduced), None)
    split = (
        (math.prod(extents), 1, 1)
        if at is None
        else (math.prod(extents[:at]), extents[at], math.prod(extents[at + 1 :]))
    )
    emit_along(lo, source, dtype, split, out.ref, passes, ("s", e.cast(total, dtype)), info)
