"""BlockProduct."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from graphc.backends.cpu.blocks.block_product_block import (
    BLOCK_PRODUCT,
    BYTE_PRODUCT,
    COLUMNS,
    ITEM,
    ROUND_ROWS,
    ROWS,
    WORD,
    BlockColumns,
    BlockProduct,
    ByteColumns,
    ByteProduct,
    RoundRows,
    RoundTile,
    record,
)
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import lowers
from graphc.backends.cpu.product.byte_tile_micro import has_dot
from graphc.backends.cpu.target import Target
from graphc.graph import Node
from graphc.lower.elementwise import row_major
from graphc.lower.fuse import Group
from graphc.lower.storage import Buffer, Ref, Storage

OTHERS = 8  # registers for what is multiplied
BYTE_ROWS = (8, 4, 2, 1)  # of a tile of bytes: each has two registers


def _supported(node: Node, target: Target) -> str | None:
    if node.output.dtype != np.float32:
        return f"there is no {node.output.dtype} kernel of weights in blocks"
    if node.attrs["rounds"] and not has_dot(target):
        return "there is no instruction for sums of products of bytes"
    return None


@lowers("BlockProduct", supported=_supported)
def lower_block_product(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    a, w, s = (row_major(lo, lo.read(v)) for v in node.inputs)
    y = lo.write(node.output)
    if 0 in node.output.shape:
        return
    assert w.type.extents[2:] == (COLUMNS, WORD)
    (_emit_bytes if node.attrs["rounds"] else _emit_floats)(lo, group, a, w, s, y)


def _emit_floats(lo: CpuLowering, group: Group, a: Storage, w: Storage, s: Storage, y: Storage) -> None:
    node = group.nodes[0]
    bits, size = node.attrs["bits"], node.attrs["block_size"]
    (groups, steps, *_), (_, blocks, numbers, _), k = w.type.extents, s.type.extents, a.type.extents[-1]
    m = math.prod(node.output.type.extents[:-1])
    sums = ROWS * max(1, COLUMNS // lo.target.vl)  # vectors of a group
    most = max(1, (lo.target.registers - OTHERS) // sums)
    together = next(n for n in (4, 2, 1) if groups % n == 0 and n <= most)
    if m < ROWS:
        together = 1
    w_group, s_group = steps * COLUMNS * WORD, blocks * numbers * COLUMNS * ITEM
    packed, a_tile = a.ref, ROWS * k * ITEM
    if m >= ROWS:
        packed = Ref(Buffer("rows", m // ROWS * a_tile))
        shape, strides = (m // ROWS, k, ROWS), (a_tile, ITEM, k * ITEM)
        lo.copy(a.ref, strides, packed, (a_tile, ROWS * ITEM, ITEM), shape, ITEM, lo.info(group, "copy_strided"))
    many, one = (BlockColumns(n, together, bits, size * bits // (8 * WORD), numbers == 2) for n in (ROWS, 1))
    words = BLOCK_PRODUCT(
        a=a.ref, packed=packed, a_tile=a_tile, w=w.ref, s=s.ref, y=y.ref, m=m, tiles=groups // together, many=many,
        one=one, blocks=blocks, zero=node.attrs["zero"], a_row=k * ITEM, y_row=groups * COLUMNS * ITEM, groups=w_group,
        scale_groups=s_group, tile_weights=together * w_group, tile_scales=together * s_group,
        tile_y=together * COLUMNS * ITEM,
    )  # fmt: skip
    info = lo.info(group, "block_product", "", f"{bits} bits, {together} groups of columns")
    lo.emit(BlockProduct(), words, info, writes=[y.ref])


def _emit_bytes(lo: CpuLowering, group: Group, a: Storage, w: Storage, s: Storage, y: Storage) -> None:
    node = group.nodes[0]
    bits, size = node.attrs["bits"], node.attrs["block_size"]
    (groups, steps, *_), (_, blocks, numbers, _), k = w.type.extents, s.type.extents, a.type.extents[-1]
    shifts, m = numbers == 2, math.prod(node.output.type.extents[:-1])
    rows = next(n for n in BYTE_ROWS if m >= n)
    row_tiles, a_tile = -(-m // rows), blocks * record(rows, size)
    packed = Ref(Buffer("rows", row_tiles * a_tile))
    words = ROUND_ROWS(
        a=a.ref, packed=packed, a_tile=a_tile, m=m, row_tiles=row_tiles, kernel=RoundTile(rows, size, shifts),
        blocks=blocks, zero=node.attrs["zero"], a_row=k * ITEM,
    )  # fmt: skip
    info = replace(lo.info(group, "round_rows"), flops=4 * m * k, nbytes=5 * m * k)
    lo.emit(RoundRows(rows), words, info, writes=[packed])
    words = BYTE_PRODUCT(
        packed=packed, a_tile=a_tile, w=w.ref, s=s.ref, y=y.ref, m=m, tiles=groups, row_tiles=row_tiles,
        kernel=ByteColumns(rows, bits, size * bits // (8 * WORD), shifts), blocks=blocks, y_row=groups * COLUMNS * ITEM,
        tile_weights=steps * COLUMNS * WORD, tile_scales=blocks * numbers * COLUMNS * ITEM, tile_y=COLUMNS * ITEM,
    )  # fmt: skip
    info = lo.info(group, "block_byte_product", "", f"{bits} bits, {rows} rows of bytes")
    lo.emit(ByteProduct(rows), words, info, writes=[y.ref])
