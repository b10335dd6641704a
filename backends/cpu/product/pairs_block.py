"""product/pairs_driver.py and product/pairs_micro.py. Strides in bytes; batch dims innermost first; k: float32 of the reduction."""

from __future__ import annotations

from typing import ClassVar

from graphc.backends.cpu.sizes import BATCH_DIMS
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# micro: `PairRow`. mr: rows of a tile
PACK_PAIR_ROWS = Block(f"micro a to m k row column mr dims*{BATCH_DIMS} a_batch*{BATCH_DIMS}")
# micro: `PairColumns`. One batch dim; nv, last_nv, panel: as of GEMM
PACK_PAIR_COLUMNS = Block("micro b to batch b_batch to_batch k n row column nv last_nv panel")


class PackPairRows(Kernel, name="pack_pair_rows"):
    """The left operand, rounded and packed."""

    block: ClassVar[Block] = PACK_PAIR_ROWS


class PackPairColumns(Kernel, name="pack_pair_columns"):
    """The right operand, rounded and packed."""

    block: ClassVar[Block] = PACK_PAIR_COLUMNS


class PairRow(Kernel, name="pair_row"):
    """A row, rounded: see product/pairs_micro.py."""


class PairColumns(Kernel, name="pair_columns"):
    """The columns of a panel, rounded: see product/pairs_micro.py."""
