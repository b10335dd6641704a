"""Results that follow from an element's own position: triangles, identity matrices, one-hot vectors."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from graphc import expr as e
from graphc.dtypes import is_float
from graphc.lower.constants import constant
from graphc.lower.elementwise import emit_map
from graphc.lower.fuse import Group
from graphc.lower.lowering import Lowering
from graphc.lower.movement import emit_part
from graphc.lower.registry import lowers, stored_dtypes
from graphc.lower.sources import counted
from graphc.lower.storage import dense_strides
from graphc.lower.strides import collapse
from graphc.sizes import has_sizes, is_size


@lowers("Trilu", supported=stored_dtypes)
def lower_triangle(lo: Lowering, group: Group) -> None:
    """Elementwise: x where its column is not left (not right) of the diagonal in its row."""
    node = group.nodes[0]
    x, out = lo.read(node.inputs[0]), lo.write(node.output)
    t = node.output.type
    if t.elements == 0:
        return
    *batch, rows, columns = t.extents
    k = node.call.ints(1)[0] if node.call.has(1) else 0
    k = min(max(k, -rows), columns)
    diagonal, column = counted(lo, k, rows), counted(lo, 0, columns)
    at, edge = e.arg(1, np.int64), e.arg(2, np.int64)
    keep = at >= edge if node.attrs["upper"] else at <= edge
    expression = e.where(keep, e.arg(0, t.dtype), e.const(0, t.dtype))
    dense = list(dense_strides(t.with_shape((math.prod(batch), rows, columns))))
    walks = [dense, list(dense), [0, 0, 8], [0, 8, 0]]
    dims, walks = collapse([math.prod(batch), rows, columns], walks)
    plain = replace(group, anchor=None, expression=expression, operands=(node.inputs[0],))
    emit_map(lo, plain, dims, walks, [out, x, column, diagonal])


@lowers("EyeLike", supported=stored_dtypes)
def lower_eye(lo: Lowering, group: Group) -> None:
    """A constant; where a size stands for many, a comparison of each column with the one of its row's diagonal."""
    node = group.nodes[0]
    t = node.output.type
    rows, columns = t.extents
    if has_sizes((rows, columns)):
        diagonal, column, out = counted(lo, node.attrs["k"], rows), counted(lo, 0, columns), lo.write(node.output)
        one = e.cast(e.eq(e.arg(0, np.int64), e.arg(1, np.int64)), t.dtype)
        plain = replace(group, anchor=None, expression=one, operands=())
        emit_map(lo, plain, [rows, columns], [list(out.strides), [8, 0], [0, 8]], [out, diagonal, column])
        return
    eye = constant(lo, np.eye(rows, columns, node.attrs["k"]).astype(t.dtype))
    emit_part(lo, group, node.output, eye.ref, dense_strides(t))


@lowers("OneHot", supported=stored_dtypes)
def lower_one_hot(lo: Lowering, group: Group) -> None:
    """An elementwise comparison of each position with the numbers below the depth."""
    node = group.nodes[0]
    index, values, out = lo.read(node.inputs[0]), lo.read(node.inputs[2]), lo.write(node.output)
    t = node.output.type
    if t.elements == 0:
        return
    axis = node.attrs["axis"] % t.rank
    depth, wide = t.extents[axis], np.dtype(np.float64 if is_float(node.inputs[0].dtype) else np.int64)
    if is_size(depth):
        numbers, size = counted(lo, 0, depth), counted(lo, depth, 1)
    else:
        numbers, size = constant(lo, np.arange(depth, dtype=wide)), constant(lo, np.array(depth, wide))
    off, on = values, replace(values, ref=values.ref + t.dtype.itemsize)
    position = e.cast(e.arg(0, index.type.dtype), wide)
    zero = e.const(0, wide)
    number, end = (e.cast(e.arg(i, s.type.dtype), wide) for i, s in ((1, numbers), (2, size)))
    position = e.where(position < zero, position + end, position)
    hot = e.where(e.eq(position, number), e.arg(4, t.dtype), e.arg(3, t.dtype))
    none = [0] * t.rank
    along = [8 if i == axis else 0 for i in range(t.rank)]
    of_index = [*index.strides[:axis], 0, *index.strides[axis:]]
    operands = (node.inputs[0],)  # the others are tables and single numbers
    plain = replace(group, anchor=None, expression=hot, operands=operands)
    dims, walks = collapse(list(t.extents), [list(out.strides), of_index, along, none, list(none), list(none)])
    emit_map(lo, plain, dims, walks, [out, index, numbers, size, off, on])
