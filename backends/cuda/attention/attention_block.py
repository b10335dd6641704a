"""Attention: a thread block takes a tile of rows, which are queries of the heads that share keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

ACROSS = 16  # threads along the keys, or along the columns of the result; half a warp
DOWN = 8  # threads along the rows
THREADS = ACROSS * DOWN
WARPS = THREADS // 32
# columns of partial results behind those of the values: the largest score of a row, and the sum of its powers
EXTRA = 2
SIZES = 32  # in shared memory, heads have a multiple of so many elements

# Rows are numbered (head of the group, query). grid: batch · kv_heads · tiles of rows · splits of the keys. parts:
# where splits leave what ATTENTION_SUMS adds, if there are several: [batch · kv_heads, row, split, v_size + EXTRA]
# float32. lengths: int64s, how many of the keys each batch entry has, or 0 for all. scale, softcap: bits of a float32;
# scale is divided by the softcap where that is not 0. Query i sees the keys from i + first_seen to before i + end_seen,
# or where there are fewer, as many earlier ones. mask: added to the scores, or 0. zeros: a row without keys becomes
# zeros, not NaN. fours: of elements of a head; key_fours: of keys of a tile. Byte strides of batch, head, sequence
# (query, key). signs: of tensor cores, what the bits of pairs of queries are xored with, so that the scale is positive.
_HEADS = "grid y parts splits kv_heads group queries v_size zeros y_strides*3"
_KEYS = (
    "q k v mask lengths lengths_stride tiles keys size scale softcap first_seen end_seen "
    "q_strides*3 k_strides*3 v_strides*3 mask_strides*4"
)
ATTENTION = Block(f"{_HEADS} {_KEYS} fours key_fours")
TENSOR_ATTENTION = Block(f"{_HEADS} {_KEYS} signs")
ATTENTION_SUMS = Block(f"{_HEADS} total")


@dataclass(frozen=True, eq=False)
class Attention(Kernel, name="attention"):
    """A tile has `rows` rows and `keys` keys; those have `depth` elements in shared memory, values have `columns`."""

    block: ClassVar[Block] = ATTENTION
    depth: int
    columns: int
    rows: int
    keys: int


@dataclass(frozen=True)
class KeyTile:
    """rows of a block, `down` warps along them; keys of a stage, `across` warps along them, each with a running maximum of its own;
    stages of keys and values in shared memory, one of which is multiplied while the others are on their way. kept: do queries
    stay in registers? blocks: that a multiprocessor has at once."""

    rows: int
    keys: int
    down: int
    across: int
    stages: int
    blocks: int
    kept: bool = True

    @property
    def threads(self) -> int:
        return 32 * self.down * self.across

    def __str__(self) -> str:
        return f"{self.rows}x{self.keys}"


@dataclass(frozen=True, eq=False)
class TensorAttention(Kernel, name="tensor_attention"):
    """On tensor cores. depth, columns: elements of keys and of values in shared memory, multiples of 16. q_chunk, k_chunk, v_chunk:
    bytes that are copied at once, which divide all addresses of that operand: 4, 8, 16, or 2 where they don't go ahead. run:
    elements of a result that are written at once. split: are there parts of the keys? mask: how many of its elements a thread
    reads at once, 1 or 2; 0 for none. capped: are scores under a softcap?"""

    block: ClassVar[Block] = TENSOR_ATTENTION
    dtype: str
    tile: KeyTile
    depth: int
    columns: int
    q_chunk: int
    k_chunk: int
    v_chunk: int
    run: int
    split: bool = False
    mask: int = 0
    capped: bool = False


@dataclass(frozen=True, eq=False)
class AttentionSums(Kernel, name="attention_sums"):
    """Results of splits of the keys together. dtype: of the result. Scores of float32 are in powers of e, others in powers of 2."""

    block: ClassVar[Block] = ATTENTION_SUMS
    dtype: str = "float32"
