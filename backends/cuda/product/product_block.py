"""Products: a tile of the result for each thread block, or a few numbers of a thin one.

Operands lie at `left` [m, k] and `right` [k, n], with batch dims (innermost first) around them. A record for the result, then
for each operand of the ending: its byte strides along columns (w, h, d of a window's result; a plain column is w), along rows
and along the batch dims.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.backends.cuda.product.tile import Run, Tile, WarpTile, side_words
from graphc.expr import Expr
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

BATCH = 4  # dims
RECORD = f"ref columns*3 row batch*{BATCH}"
TILED = (
    f"grid tiles_m tiles_n m n k left right {side_words('left')} {side_words('right')} "
    f"dims*{BATCH} left_batch*{BATCH} right_batch*{BATCH}"
)
PRODUCT = Block(TILED, record=RECORD)

# slices: threads that sum parts of one number; of thread t the column is (t >> column_shift) % columns, the part
# (t >> slice_shift) % slices
THIN = Block(
    "grid blocks_n m n k left right left_row left_column right_row right_column columns slices column_shift slice_shift "
    f"dims*{BATCH} left_batch*{BATCH} right_batch*{BATCH}",
    record=RECORD,
)
THIN_THREADS = 128

# line: bytes from one line of an operand's tile to the next: rows of the left one, columns or (across) rows of the right one;
# parts: of the sum, each of `part` steps in blocks of its own, whose results lie `part_rows` rows apart
# of blocks that steps are dealt to: they do `whole` tiles from begin to end, each the next one that nobody has; of the others there
# are `dealt` steps of the tile's depth, `each` for a block, tile after tile. Of a tile that it does not do alone, a block writes
# its part to `source`, as rows of float32: to place 2b + 1 where the tile begins, to place 2b else
TENSOR = Block(
    f"grid tiles_m tiles_n parts m n k part part_rows whole dealt each source left right left_line right_line "
    f"dims*{BATCH} left_batch*{BATCH} right_batch*{BATCH}",
    record=RECORD,
)

# source: parts of every row, `part_bytes` bytes apart, float32; runs: in all rows of the batch, and (width) in one
PARTS = Block(f"grid runs width rows source parts part_bytes dims*{BATCH}", record=RECORD)

# of the tiles that blocks share: a place for each but the first block, of `runs` runs, for the tile that its steps begin in; tile_m,
# tile_n: rows and columns of a tile; steps: of one
TILE_SUMS = Block(
    f"grid places runs tile_m tile_n tiles_m tiles_n m n whole dealt each steps source dims*{BATCH}", record=RECORD
)


@dataclass(frozen=True, eq=False)
class Product(Kernel, name="product"):
    """dtype: of the operands. expression: see `Ending`; operands: the dtypes that it reads after the sum."""

    block: ClassVar[Block] = PRODUCT
    dtype: str
    tile: Tile
    expression: Expr
    operands: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ThinProduct(Kernel, name="thin_product"):
    """A product of few rows: a row at a time, each number by several threads."""

    block: ClassVar[Block] = THIN
    dtype: str
    expression: Expr
    operands: tuple[str, ...]


def tensor_cores(dtype: str, products: int) -> str:
    """What they multiply, for a person."""
    digits = {1: "TF32", 3: "3xTF32"}[products]
    return f"tensor cores, {digits}" if dtype == "float32" else "tensor cores"


@dataclass(frozen=True, eq=False)
class TensorProduct(Kernel, name="tensor_product"):
    """On tensor cores: float16 and bfloat16 as they are, float32 as three products with the digits of tf32, or as one.

    left_chunk, right_chunk: bytes that are copied at once, 4, 8 or 16, which divide all that operand's addresses. across: do the
    rows of the right operand lie in one piece, or (else) its columns? Rows of the left one do.
    run: of the ending. products: of the digits of float32, 3 or 1. dealt: are the steps of tiles dealt to blocks? See `TENSOR`.
    """

    block: ClassVar[Block] = TENSOR
    dtype: str
    tile: WarpTile
    left_chunk: int
    right_chunk: int
    across: bool
    expression: Expr
    operands: tuple[str, ...]
    run: Run = Run()
    products: int = 1
    dealt: bool = False

    @property
    def how(self) -> str:
        """For a person."""
        return tensor_cores(self.dtype, self.products) + ", wgmma" * self.tile.group


@dataclass(frozen=True, eq=False)
class PartSums(Kernel, name="part_sums"):
    """The parts of sums, added up in order, and the ending."""

    block: ClassVar[Block] = PARTS
    expression: Expr
    operands: tuple[str, ...]
    run: Run


@dataclass(frozen=True, eq=False)
class TileSums(Kernel, name="tile_sums"):
    """The parts of tiles that several blocks have, added up in order, and the ending."""

    block: ClassVar[Block] = TILE_SUMS
    expression: Expr
    operands: tuple[str, ...]
    run: Run
