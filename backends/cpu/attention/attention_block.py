"""attention/attention_driver.py and attention/attention_rows_driver.py. Strides in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.backends.cpu.sizes import lines
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# What both drivers read. group: heads of queries to one of keys. scale: the bits of a float32, divided by the softcap where
# there is one; softcap: of another. lengths: address of how many keys of each batch there are, or 0 for all. windowed: if not 0,
# query i sees the keys from i + first_seen to before i + end_seen; where there are fewer, as many earlier ones. Strides of batch,
# head and sequence; for the mask of queries and of keys.
WORDS = (
    "softmax q k v mask y batch heads group queries keys lengths lengths_stride size v_size scale softcap windowed "
    "first_seen end_seen scratch scratch_stride q_strides*3 k_strides*3 v_strides*3 y_strides*3 mask_strides*4 "
)
ANY_ATTENTION = Block(WORDS)
# kernels: `product_tile` for scores and for the weighted sums (values), last: of the last column tile; `softmax_tile`;
# `transpose_panel`. nv_v: vectors of a column tile of y; last_k, last_v: of the last one of scores and of y, of whose last vector
# last_lanes columns exist; scores_one: for one vector. chunk: tiles of mr queries in a work item.
TILES = "scores scores_one values values_last transpose zeros mr last_k nv_v last_v last_lanes chunk"
ATTENTION = Block(WORDS + TILES)
# The same in bfloat16. kernels: `pair_columns` in the place of `transpose_panel`; `pair_row`
ATTENTION_PAIRS = Block(" ".join((WORDS, TILES, "pair_row")))
# kernels: `key_dots`; `value_sums` for nv vectors and for the last ones. rows: of a tile. size_lanes: elements of a head in its
# last vector; last_lanes: the same of v; kv_item: bytes of an element of keys and values.
ATTENTION_ROWS = Block(WORDS + "dots sums sums_last rows nv size_lanes last_lanes kv_item")

# Micro-kernels': attention/attention_micro.py. rows: address of a record for each row of the tile. first, seen: its first
# visible key and how many there are; y: where its result goes.
SOFTMAX_TILE = Block("keys scale softcap rows")
TILE_ROW = Block("mask first seen y")
KEY_DOTS = Block("keys k_row blocks lanes")
VALUE_SUMS = Block("keys v_row rows lanes")
VECTORS = 2  # of a register tile: few, so that its rows are many and each packed key and value is read by many queries
BLOCKS = 3  # of a thread's scratch, for the micro-kernels: for each of the products, and for the softmax
TABLE = lines(
    8 * SOFTMAX_TILE.size
)  # bytes from the softmax's block of `attention` to the records of a tile's rows, in the same
ROWS_BLOCK_BYTES = lines(8 * max(b.size for b in (KEY_DOTS, VALUE_SUMS, SOFTMAX_TILE)))  # each, of `attention_rows`


class Attention(Kernel, name="attention"):
    """Both products and the softmax between them."""

    block: ClassVar[Block] = ATTENTION


class AttentionPairs(Kernel, name="attention_pairs"):
    """The same, where both products take bfloat16."""

    block: ClassVar[Block] = ATTENTION_PAIRS


class AttentionRows(Kernel, name="attention_rows"):
    """The same for few rows of queries, which read keys and values where they lie."""

    block: ClassVar[Block] = ATTENTION_ROWS


@dataclass(frozen=True, eq=False)
class SoftmaxTile(Kernel, name="softmax_tile"):
    """The softmax of a tile of scores."""

    block: ClassVar[Block] = SOFTMAX_TILE
    rows: int
    mask: str
    zeros: bool
    windowed: bool = False
    capped: bool = False
    pairs: bool = False


@dataclass(frozen=True, eq=False)
class KeyDots(Kernel, name="key_dots"):
    """Scores of a tile of rows. dtype: of keys."""

    block: ClassVar[Block] = KEY_DOTS
    rows: int
    masked: bool
    dtype: str


@dataclass(frozen=True, eq=False)
class ValueSums(Kernel, name="value_sums"):
    """Sums of values, weighted by a tile of rows. dtype: theirs."""

    block: ClassVar[Block] = VALUE_SUMS
    rows: int
    nv: int
    masked: bool
    dtype: str
