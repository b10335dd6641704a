"""Results that follow from an element's own position: triangles and identity matrices."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from backends.cpu.lower.core import Lowering, dense_strides, lowers, native_dtypes
from backends.cpu.lower.elementwise import collapse, emit_map
from backends.cpu.lower.index import constant
from backends.cpu.lower.movement import emit_part
from graphc import expr as e
from graphc.fuse import Group


@lowers("Trilu", supported=native_dtypes)
def lower_triangle(lo: Lowering, group: Group) -> None:
    """Elementwise: x where its column is not left (not right) of the diagonal in its row."""
    node = group.nodes[0]
    x, out = lo.read(node.inputs[0]), lo.write(node.output)
    t = node.output.type
    if t.size == 0:
        return
    *batch, rows, columns = t.shape
    k = node.call.ints(1)[0] if node.call.has(1) else 0
    k = min(max(k, -rows), columns)
    diagonal, column = constant(lo, np.arange(rows) + k), constant(lo, np.arange(columns))
    at, edge = e.arg(1, np.int64), e.arg(2, np.int64)
    keep = at >= edge if node.attrs["upper"] else at <= edge
    expression = e.where(keep, e.arg(0, t.dtype), e.const(0, t.dtype))
    dense = list(dense_strides(t.with_shape((math.prod(batch), rows, columns))))
    walks = [dense, list(dense), [0, 0, 8], [0, 8, 0]]
    dims, walks = collapse([math.prod(batch), rows, columns], walks)
    plain = replace(group, anchor=None, expression=expression, operands=(node.inputs[0],))
    emit_map(lo, plain, dims, walks, [out, x, column, diagonal])


@lowers("EyeLike", supported=native_dtypes)
def lower_eye(lo: Lowering, group: Group) -> None:
    """A constant."""
    node = group.nodes[0]
    t = node.output.type
    eye = constant(lo, np.eye(*t.shape, node.attrs["k"]).astype(t.dtype))
    emit_part(lo, group, node.output, eye.ref, dense_strides(t))
