"""product/gemm_driver.py. Strides in bytes; batch dims innermost first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.backends.cpu.sizes import BATCH_DIMS
from graphc.expr import Expr
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# stages: the kernels of a sum's first, middle and last chunk; edge_stages: those of the last column tile. n_tiles: column
# tiles, of nv vectors, the last one of last_nv, of whose last vector last_lanes columns exist. m_block: rows of a work
# item, n_block: its column tiles. chunk: vectors of reduction steps. panel: bytes of a packed column tile. packed: where
# `pack_rows` has left a, or 0. y_vector: bytes of a vector of columns of y.
GEMM = Block(
    "stages*3 edge_stages*3 a b bias y m n_tiles k a_row a_column y_row y_vector mr nv last_nv last_lanes m_block n_block chunk panel "
    f"packed scratch scratch_stride lo hi epilogue_operands dims*{BATCH_DIMS} a_batch*{BATCH_DIMS} b_batch*{BATCH_DIMS} "
    f"y_batch*{BATCH_DIMS}",
    record=f"ref row vector batch*{BATCH_DIMS}",  # an operand of the epilogue: strides of a row, of a vector of columns
)
# of a panel of which most rows are zeros, see product/block_sparse.py: bytes from the record to the rows and to their numbers, and
# how many there are
RECORD = Block("rows numbers count")
NUMBER = 4  # bytes of one
PACK_ROWS = Block(f"a to m k row column mr dims*{BATCH_DIMS} a_batch*{BATCH_DIMS}")
PACK_B = Block(
    "b to batch b_batch to_batch k n row column nv last_nv panel"
)  # one batch dim; nv, last_nv, panel: as above
# tile: mr rows, nv vectors of `lanes` columns; edge: as many rows, the columns behind; row, row_edge: the same of one row. The
# columns of b are neighbours
MATMUL_ANY = Block(
    f"a b y m n k a_row a_column b_row y_row tile edge row row_edge mr nv lanes dims*{BATCH_DIMS} a_batch*{BATCH_DIMS} b_batch*{BATCH_DIMS} "
    f"y_batch*{BATCH_DIMS}"
)


class Gemm(Kernel, name="gemm"):
    """A matrix product of packed panels."""

    block: ClassVar[Block] = GEMM


class PackRows(Kernel, name="pack_rows"):
    """The left operand, packed."""

    block: ClassVar[Block] = PACK_ROWS


class PackB(Kernel, name="pack_b"):
    """The right operand, packed."""

    block: ClassVar[Block] = PACK_B


@dataclass(frozen=True, eq=False)
class PlainTile(Kernel, name="plain_tile"):
    """A register tile of a product: see product/plain_tile_micro.py."""

    dtype: str
    mr: int
    nv: int
    masked: bool


@dataclass(frozen=True, eq=False)
class MatmulAny(Kernel, name="matmul_any"):
    """A matrix product of operands as they lie."""

    block: ClassVar[Block] = MATMUL_ANY
    dtype: str


@dataclass(frozen=True, eq=False)
class ProductTile(Kernel, name="product_tile"):
    """A register tile of a product: see product/product_micro.py. Its block is that of `conv_row`."""

    mr: int
    nv: int
    epilogue: Expr | None
    masked: bool
    lines: int
    stage: str | None = None  # None, '': of a sum that is whole
    strided: bool = False
    dot: str = ""
    operands: tuple[tuple[str, str], ...] = ()
    rest: int = 0  # steps of the last block, 0: all


@dataclass(frozen=True, eq=False)
class SparseTile(Kernel, name="sparse_tile"):
    """The same of a panel of which the rows that are zeros are left out: see product/sparse_tile_micro.py."""

    mr: int
    nv: int
    epilogue: Expr | None
    masked: bool
    fetches: bool
