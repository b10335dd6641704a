"""BlockProduct."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from graphc.backends.cpu.blocks.block_product_block import (
    BLOCK_PRODUCT,
    COLUMNS,
    ITEM,
    ROUND_ROWS,
    WORD,
    BlockColumns,
    BlockProduct,
    ByteColumns,
    RoundRows,
    RoundTile,
    record,
)
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import lowers
from graphc.backends.cpu.product.byte_tile_micro import has_dot
from graphc.backends.cpu.target import Target
from graphc.dtypes import BY_NAME, FLOAT32, INT8
from graphc.graph import Node
from graphc.lower.elementwise import row_major
from graphc.lower.fuse import Group
from graphc.lower.kernel import Kernel
from graphc.lower.storage import Buffer, Ref
from graphc.sizes import for_speed, is_size

SUMS = 8  # vectors of a tile: each has two registers


def _supported(node: Node, target: Target) -> str | None:
    if node.output.dtype != np.float32:
        return f"there is no {node.output.dtype} kernel of weights in blocks"
    if node.attrs["rounds"] and not has_dot(target):
        return "there is no instruction for sums of products of bytes"
    return None


@lowers("BlockProduct", supported=_supported)
def lower_block_product(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    bits, size, zero, rounds = (node.attrs[name] for name in ("bits", "block_size", "zero", "rounds"))
    codes, weights = BY_NAME[f"uint{bits}"], node.inputs[1]
    if weights.is_const and weights not in lo.storage:
        lo.place(weights, Ref(lo.weights.dense(weights, codes)))
    a, w, s = (row_major(lo, lo.read(v)) for v in node.inputs)
    y = lo.write(node.output)
    if 0 in node.output.shape:
        return
    (groups, steps, *of_step), (_, blocks, numbers, _), k = w.type.extents, s.type.extents, a.type.extents[-1]
    assert tuple(of_step) == (COLUMNS, WORD)
    m, most = math.prod(node.output.type.extents[:-1]), SUMS * min(lo.target.vl, COLUMNS) // COLUMNS
    rows = _rows_of_tiles(m, [n for n in (8, 4, 2, 1) if n <= most and m >= n])
    of_block, shifts, row_tiles = size * bits // (8 * WORD), numbers == 2, -(-m // rows)
    kernel: Kernel
    if rounds:
        kernel, a_tile = ByteColumns(rows, bits, of_block, shifts), blocks * record(rows, size)
        packed = Ref(Buffer("rows", row_tiles * a_tile))
        words = ROUND_ROWS(
            a=a.ref, packed=packed, a_tile=a_tile, m=m, row_tiles=row_tiles, kernel=RoundTile(rows, size, shifts),
            blocks=blocks, zero=zero, a_row=k * ITEM,
        )  # fmt: skip
        info = replace(lo.info(group, "round_rows"), flops=4 * m * k, nbytes=5 * m * k)
        lo.emit(RoundRows(rows), words, info, writes=[packed])
    else:
        kernel, a_tile = BlockColumns(rows, bits, of_block, shifts), rows * k * ITEM
        packed = a.ref if rows == 1 else _side_by_side(lo, group, a.ref, m, rows, k)
    words = BLOCK_PRODUCT(
        packed=packed, a_tile=a_tile, w=w.ref, s=s.ref, y=y.ref, m=m, row_tiles=row_tiles, tiles=groups, kernel=kernel,
        blocks=blocks, zero=zero, y_row=groups * COLUMNS * ITEM, tile_weights=steps * COLUMNS * WORD,
        tile_scales=blocks * numbers * COLUMNS * ITEM, tile_y=COLUMNS * ITEM,
    )  # fmt: skip
    info = lo.info(group, "block_product", "bytes" if rounds else "", f"{bits} bits, tiles of {rows} rows")
    lo.emit(BlockProduct(rows), words, replace(info, type=f"{INT8 if rounds else FLOAT32} x {codes}"), writes=[y.ref])


@for_speed
def _rows_of_tiles(m: int, offered: list[int]) -> int:
    """The fastest: decoding weights takes a tile about as long as one row."""
    return min(offered, key=lambda n: -(-m // n) * (n + 1))


def _side_by_side(lo: CpuLowering, group: Group, a: Ref, m: int, rows: int, k: int) -> Ref:
    """Tiles [k][rows] of rows [m][k]; the last one ends with the last row."""
    row, tile = k * ITEM, rows * k * ITEM
    packed = Ref(Buffer("rows", -(-m // rows) * tile))
    info = lo.moving(group, m * k * ITEM, "rows side by side")
    lo.copy(a, (tile, ITEM, row), packed, (tile, rows * ITEM, ITEM), (m // rows, k, rows), ITEM, info)
    if is_size(m) or m % rows:
        last = packed + (-(-m // rows) - 1) * tile
        lo.copy(a + (m - rows) * row, (ITEM, row), last, (rows * ITEM, ITEM), (k, rows), ITEM, info)
    return packed
