"""Layer, RMS, instance and group normalisation: passes along rows, two of them for variances."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from graphc import expr as e
from graphc.expr import Expr
from graphc.graph import Value
from graphc.lower.constants import constant
from graphc.lower.fuse import Group
from graphc.lower.kernel import Pass, Passes
from graphc.lower.lowering import Lowering
from graphc.lower.reduce import accumulator
from graphc.lower.registry import lowers, native_dtypes
from graphc.lower.storage import Buffer, Ref, dense_strides
from graphc.lower.strides import collapse
from graphc.lower.verbs import Along
from graphc.types import TensorType


class _Rows:
    """Operands and outputs of a kernel over `outer` x `inner` elements, where `inner` is a row.

    Operands are added with their byte strides over all dims; those that the row walks in more than two loops, or with
    gaps, are expanded first.
    """

    def __init__(self, lo: Lowering, group: Group, outer: Sequence[int], inner: Sequence[int]) -> None:
        self.lo, self.group, self.outer, self.inner = lo, group, list(outer), list(inner)
        self.refs: list[Ref | int] = []
        self.strides: list[list[int]] = []
        self.dtypes: list[np.dtype] = []
        self.outputs: list[tuple[str, Expr]] = []
        self.count: int | None = None

    def operand(self, v: Value, strides: Sequence[int]) -> Expr:
        """Add an operand; gives it as an argument in the dtype of computing."""
        return e.cast(self._add(self.lo.read(v).ref, v.dtype, strides), accumulator(v.dtype))

    def broadcast(self, v: Value, shape: Sequence[int]) -> Expr:
        """Add an operand that broadcasts to `shape` = outer + inner."""
        t = v.type
        strides = [0 if d == 1 else s for d, s in zip(t.extents, dense_strides(t))]
        return self.operand(v, [0] * (len(shape) - t.rank) + strides)

    def number(self, dtype: np.dtype) -> Expr:
        """The length of a row."""
        self.count = len(self.refs)
        return self._add(math.prod(self.inner), dtype, [0] * (len(self.outer) + len(self.inner)))

    def output(self, v: Value, kind: str, value: Expr, strides: Sequence[int]) -> None:
        self.outputs.append((kind, e.cast(value, v.dtype)))
        self.refs.append(self.lo.write(v).ref)
        self.strides.append(list(strides))

    def result(self, index: int, dtype: np.dtype) -> Expr:
        """What pass number `index` gives. To be used after all operands have been added."""
        return e.arg(len(self.dtypes) + index, dtype)

    def _add(self, ref: Ref | int, dtype: np.dtype, strides: Sequence[int]) -> Expr:
        self.refs.append(ref)
        self.strides.append(list(strides))
        self.dtypes.append(dtype)
        return e.arg(len(self.refs) - 1, dtype)

    def emit(self, passes: tuple[Pass, ...]) -> None:
        k = len(self.outer)
        dims, walks = self._row()
        n, segments = dims[-1], dims[0] if len(dims) > 1 else 1
        kinds = "".join(
            "c" if i == self.count else "v" if w[-1] else "s" for i, w in enumerate(walks[: len(self.dtypes)])
        )
        operands = [Along(r, s[:k], w[-2] if len(w) > 1 else 0) for r, s, w in zip(self.refs, self.strides, walks)]
        p = Passes(kinds, tuple(d.name for d in self.dtypes), passes, tuple(self.outputs))
        self.lo.row_passes(p, self.outer, operands, segments, n, self.lo.info(self.group, "passes"))

    def _row(self) -> tuple[list[int], list[list[int]]]:
        """Extents of the loops over a row, and each operand's and output's byte strides along them."""
        k = len(self.outer)
        dims, walks = collapse(self.inner, [s[k:] for s in self.strides])
        if len(dims) > 2:
            for i in range(1, len(self.dtypes)):
                if any(walks[i]) and i != self.count:
                    self._expand(i)
            dims, walks = collapse(self.inner, [s[k:] for s in self.strides])
        return dims, walks

    def _expand(self, i: int) -> None:
        """Write operand i out along the row, so that the row walks it as its elements."""
        k, x, dtype = len(self.outer), self.refs[i], self.dtypes[i]
        assert isinstance(x, Ref), "the length of a row is no operand"
        outer = [d if s else 1 for d, s in zip(self.outer, self.strides[i][:k])]
        t = TensorType(dtype, (*outer, *self.inner))
        full = Ref(Buffer(f"{self.group.output.name}/operand{i}", t.nbytes))
        strides = dense_strides(t)
        info = self.lo.moving(self.group, t.nbytes, "written out along the row")
        self.lo.copy(x, self.strides[i], full, strides, t.extents, dtype.itemsize, info)
        self.refs[i] = full
        self.strides[i] = [0 if d == 1 else s for d, s in zip(t.extents, strides)]


def _standardized(rows: _Rows, x: Expr, n: Expr, epsilon: float) -> tuple[tuple[Pass, ...], Expr, Expr, Expr]:
    """The passes for mean and 1/deviation; these two; and (x - mean)/deviation."""
    mean, inverse = (rows.result(i, x.dtype) for i in (0, 1))
    centered = x - mean
    passes = Pass("add", x, mean / n), Pass("add", centered * centered, 1.0 / e.sqrt(inverse / n + epsilon))
    return passes, mean, inverse, centered * inverse


@lowers("LayerNormalization", supported=native_dtypes)
def lower_layer(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    t = node.inputs[0].type
    axis = node.attrs["axis"] % t.rank
    if t.elements == 0:
        for v in node.outputs:
            out = lo.write(v)
            if v.type.elements:  # what rows of no elements amount to
                nothing, item = constant(lo, np.array([np.nan], v.dtype)), v.dtype.itemsize
                strides = [0] * v.type.rank
                lo.copy(
                    nothing.ref, strides, out.ref, out.strides, v.type.extents, item, lo.info(group, "copy_strided")
                )
        return
    rows = _Rows(lo, group, t.extents[:axis], t.extents[axis:])
    x = rows.operand(node.inputs[0], dense_strides(t))
    n = rows.number(x.dtype)
    operands = [rows.broadcast(v, t.extents) for v in node.inputs[1:] if v is not None]
    passes, mean, inverse, y = _standardized(rows, x, n, node.attrs["epsilon"])
    y = y * operands[0]
    rows.output(node.output, "v", y + operands[1] if len(operands) > 1 else y, dense_strides(t))
    for v, value in zip(node.outputs[1:], (mean, inverse)):
        rows.output(v, "s", value, [*dense_strides(v.type)[:axis], *[0] * (t.rank - axis)])
    rows.emit(passes)


@lowers("RMSNormalization", supported=native_dtypes)
def lower_rms(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    t, y = node.inputs[0].type, node.output
    axis = node.attrs["axis"] % t.rank
    if t.elements == 0:
        lo.write(y)
        return
    rows = _Rows(lo, group, t.extents[:axis], t.extents[axis:])
    x = rows.operand(node.inputs[0], dense_strides(t))
    n = rows.number(x.dtype)
    scale = rows.broadcast(node.inputs[1], t.extents)
    inverse = rows.result(0, x.dtype)
    square = Pass("add", x * x, 1.0 / e.sqrt(inverse / n + node.attrs["epsilon"]))
    value = e.cast(e.cast(x * inverse, t.dtype), scale.dtype) * scale
    rows.output(y, "v", value, dense_strides(y.type))
    rows.emit((square,))


@lowers("InstanceNormalization", "GroupNormalization", supported=native_dtypes)
def lower_group(lo: Lowering, group: Group) -> None:
    """Rows are groups of channels of one instance; an instance's channels are groups of one."""
    node = group.nodes[0]
    t = node.output.type
    if t.elements == 0:
        lo.write(node.output)
        return
    batch, channels = t.extents[:2]
    groups = node.attrs.get("num_groups", channels)
    each, space = channels // groups, math.prod(t.extents[2:])
    dense = dense_strides(TensorType(t.dtype, (batch, groups, each, space)))
    rows = _Rows(lo, group, (batch, groups), (each, space))
    x = rows.operand(node.inputs[0], dense)
    n = rows.number(x.dtype)
    per_channel = [rows.operand(v, [0, each * v.dtype.itemsize, v.dtype.itemsize, 0]) for v in node.inputs[1:]]
    scale, bias = (e.cast(v, x.dtype) for v in per_channel)
    passes, _, _, y = _standardized(rows, x, n, node.attrs["epsilon"])
    rows.output(node.output, "v", y * scale + bias, dense)
    rows.emit(passes)
