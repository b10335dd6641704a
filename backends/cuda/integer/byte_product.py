"""MatMulBytes."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from graphc.backends.cuda.codegen.widths import widest
from graphc.backends.cuda.integer.byte_product_block import BATCH, BYTE_PRODUCT, WORD, ByteProduct
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.backends.cuda.lower.sizes import too_large
from graphc.backends.cuda.product.tile import tile_for
from graphc.graph import Node, Value
from graphc.lower.fuse import Group
from graphc.lower.storage import Buffer, Ref, Storage
from graphc.lower.strides import collapse
from graphc.report import StepInfo
from graphc.types import broadcast, numbers


def _supported(node: Node, target: Any = None) -> str | None:
    return f"more than {BATCH} batch dims" if node.output.type.rank - 2 > BATCH else too_large(node)


@lowers("MatMulBytes", supported=_supported)
def lower_byte_product(lo: CudaLowering, group: Group) -> None:
    node = group.nodes[0]
    out = lo.write(node.output)
    if 0 in node.output.shape:
        return
    info = lo.info(group, "byte_product")
    left, right = (_words(lo, v, info) for v in node.inputs)
    (*a_batch, m, depth), (*b_batch, k, n, _) = left.type.extents, right.type.extents
    batch = numbers(broadcast(tuple(a_batch), tuple(b_batch)))
    walks = [_along(batch, a_batch, left.strides), _along(batch, b_batch, right.strides), [*out.strides[: len(batch)]]]
    dims, (of_left, of_right, _) = collapse([*batch], walks)
    assert depth == WORD * k
    tile = tile_for(m, n, prod(dims), WORD)
    tiles_m, tiles_n = -(-m // tile.m), -(-n // tile.n)
    args = BYTE_PRODUCT(
        grid=tiles_m * tiles_n * prod(dims), tiles_m=tiles_m, tiles_n=tiles_n, m=m, n=n, k=k, left=left.ref,
        right=right.ref, y=out.ref, left_row=depth, right_row=WORD * n, dims=_padded(dims, 1),
        left_batch=_padded(of_left, 0), right_batch=_padded(of_right, 0),
    )  # fmt: skip
    kernel = ByteProduct(tile)
    info = replace(
        info,
        kernel=str(kernel),
        algorithm=f"tiles of {tile}",
        reason=f"{m}x{depth} by {depth}x{n}",
        type="uint8 x int8",
    )
    lo.emit(kernel, args, info, writes=[out.ref])


def _words(lo: CudaLowering, v: Value, info: StepInfo) -> Storage:
    """The operand where its words can be read as such."""
    s = lo.read(v)
    if widest([s.ref], WORD) >= WORD:
        return s
    to = Ref(Buffer(f"{v.name}/words", s.type.nbytes))
    lo.copy(s.ref, [1], to, [1], [s.type.elements], 1, replace(info, kernel="copy_strided", flops=0))
    return Storage(to, s.type, s.strides)


def _along(batch: tuple[int, ...], own: list[int], strides: tuple[int, ...]) -> list[int]:
    return [0] * (len(batch) - len(own)) + [0 if d == 1 else by for d, by in zip(own, strides)]


def _padded(values: list[int], fill: int) -> tuple[int, ...]:
    """Innermost first, as many as a block has."""
    return (*values[::-1], *(fill,) * (BATCH - len(values)))
