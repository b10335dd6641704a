"""Col2Im: blocks of pixels put where they come from, and added up."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from graphc import expr as e
from graphc.graph import Node
from graphc.lower.constants import zero
from graphc.lower.fuse import Group
from graphc.lower.lowering import Lowering
from graphc.lower.registry import lowers, native_dtypes
from graphc.lower.storage import dense_strides
from graphc.lower.strides import collapse
from graphc.lower.verbs import Walk
from graphc.ops.image_blocks import fold_geometry
from graphc.types import TensorType, number


def geometry(node: Node) -> tuple[Sequence[int], ...]:
    """Per axis: pixels, those of a block, how many blocks, dilation, pad at the beginning, stride."""
    image, block = ([int(number(d)) for d in node.call.ints(i)] for i in (1, 2))
    attrs, rank = node.attrs, len(image)
    dilations, pads, strides = fold_geometry(rank, attrs["dilations"], attrs["pads"], attrs["strides"])
    counts = [
        (image[i] + pads[i] + pads[rank + i] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1 for i in range(rank)
    ]
    return image, block, counts, dilations, pads[:rank], strides


@lowers("Col2Im", supported=native_dtypes)
def lower_col2im(lo: Lowering, group: Group) -> None:
    """One copy where blocks lie side by side, else zeros, to which each element of the blocks is added."""
    node = group.nodes[0]
    x, y = lo.read(node.inputs[0]), lo.write(node.output)
    image, block, counts, dilations, pads, strides = geometry(node)
    t, axes = y.type, range(len(image))
    if t.elements == 0:
        return
    planes, item, info = t.extents[0] * t.extents[1], t.dtype.itemsize, lo.info(group, "map")
    columns = TensorType(t.dtype, (planes, *block, *counts))
    xs, ys = dense_strides(columns), dense_strides(TensorType(t.dtype, (planes, *image)))
    steps = [strides[i] * ys[1 + i] for i in axes]
    tiled = all(strides[i] == block[i] and block[i] * counts[i] == image[i] for i in axes)
    if tiled and not any(pads) and all(d == 1 or k == 1 for d, k in zip(dilations, block)):
        lo.copy(x.ref, xs, y.ref, [*ys, *steps], columns.extents, item, lo.info(group, "copy_strided"))
        return
    lo.copy(zero(lo, t.dtype), [0], y.ref, [item], [t.elements], item, lo.moving(group, t.nbytes, "zeros"))
    added = e.arg(0, t.dtype) + e.arg(1, t.dtype)
    for taps in product(*map(range, block)):
        start = [
            taps[i] * dilations[i] - pads[i] for i in axes
        ]  # the first block's pixel, and which blocks' are inside
        low = [max(-(start[i] // strides[i]), 0) for i in axes]
        high = [min((image[i] - 1 - start[i]) // strides[i] + 1, counts[i]) for i in axes]
        extents = [b - a for a, b in zip(low, high)]
        if min(extents) <= 0:
            continue
        to = y.ref + sum((start[i] + low[i] * strides[i]) * ys[1 + i] for i in axes)
        source = x.ref + sum(taps[i] * xs[1 + i] + low[i] * xs[1 + len(image) + i] for i in axes)
        dims, (of_y, of_x) = collapse([planes, *extents], [[ys[0], *steps], [xs[0], *xs[1 + len(image) :]]])
        if dims[-1] > 1 and (of_y[-1], of_x[-1]) != (item, item):
            dims, of_y, of_x = [*dims, 1], [*of_y, 0], [*of_x, 0]
        walks = [Walk(to, t.dtype, of_y), Walk(to, t.dtype, of_y), Walk(source, t.dtype, of_x)]
        lo.map(added, dims, walks, 1, node.output.name, info)
