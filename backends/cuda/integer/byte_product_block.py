"""Products of bytes: left [m, k] times right [k, n], whose elements are words of four bytes of the reduction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.backends.cuda.product.tile import Tile
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

BATCH = 4  # dims
WORD = 4  # bytes

# Rows, and of `right` columns, lie side by side. *_row: bytes from a row to the next; dims: of the batch, innermost
# first, with byte strides of the operands; those of the result are dense
BYTE_PRODUCT = Block(
    f"grid tiles_m tiles_n m n k left right y left_row right_row dims*{BATCH} left_batch*{BATCH} right_batch*{BATCH}"
)


@dataclass(frozen=True, eq=False)
class ByteProduct(Kernel, name="byte_product"):
    """Of unsigned by signed bytes, summed in int32."""

    block: ClassVar[Block] = BYTE_PRODUCT
    tile: Tile
