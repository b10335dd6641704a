"""BlockProduct."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from graphc.backends.cpu.blocks.block_product_block import (
    BLOCK_PRODUCT,
    COLUMNS,
    ITEM,
    ROWS,
    BlockColumns,
    BlockProduct,
)
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import lowers
from graphc.backends.cpu.target import Target
from graphc.dtypes import BY_NAME, FLOAT32
from graphc.graph import Node
from graphc.lower.elementwise import row_major
from graphc.lower.fuse import Group
from graphc.lower.storage import Buffer, Ref

OTHERS = 8  # registers for what is multiplied


def _floats(node: Node, target: Target) -> str | None:
    return None if node.output.dtype == np.float32 else f"there is no {node.output.dtype} kernel of weights in blocks"


@lowers("BlockProduct", supported=_floats)
def lower_block_product(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    bits, size = node.attrs["bits"], node.attrs["block_size"]
    codes, weights = BY_NAME[f"uint{bits}"], node.inputs[1]
    if weights.is_const and weights not in lo.storage:
        lo.place(weights, Ref(lo.weights.dense(weights, codes)))
    a, w, s = (row_major(lo, lo.read(v)) for v in node.inputs)
    y = lo.write(node.output)
    if 0 in node.output.shape:
        return
    (groups, steps, columns), k = w.type.extents, a.type.extents[-1]
    assert columns == COLUMNS
    blocks, of_block = s.type.extents[1], size * bits // 8
    sums = ROWS * max(1, COLUMNS // lo.target.vl)  # vectors of a group
    most = max(1, (lo.target.registers - OTHERS) // sums)
    together = next(n for n in (4, 2, 1) if groups % n == 0 and n <= most)
    whole = steps // of_block
    w_group, s_group = steps * COLUMNS, blocks * 2 * COLUMNS * ITEM
    m = math.prod(node.output.type.extents[:-1])
    packed, a_tile = a.ref, ROWS * k * ITEM
    if m >= ROWS:
        packed = Ref(Buffer("rows", m // ROWS * a_tile))
        shape, strides = (m // ROWS, k, ROWS), (a_tile, ITEM, k * ITEM)
        lo.copy(
            a.ref, strides, packed, (a_tile, ROWS * ITEM, ITEM), shape, ITEM, lo.moving(group, a.type.nbytes, "rows")
        )
    words = BLOCK_PRODUCT(
        a=a.ref, packed=packed, a_tile=a_tile, w=w.ref, s=s.ref, y=y.ref, m=m, tiles=groups // together,
        many=BlockColumns(ROWS, together, bits, of_block), one=BlockColumns(1, together, bits, of_block), whole=whole,
        tail=steps - whole * of_block, a_row=k * ITEM, y_row=groups * COLUMNS * ITEM, groups=w_group,
        scale_groups=s_group, tile_weights=together * w_group, tile_scales=together * s_group,
        tile_y=together * COLUMNS * ITEM,
    )  # fmt: skip
    info = lo.info(group, "block_product", "", f"{bits} bits, {together} groups of columns")
    lo.emit(BlockProduct(), words, replace(info, type=f"{FLOAT32} x {codes}"), writes=[y.ref])
