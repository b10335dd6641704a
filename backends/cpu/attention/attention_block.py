"""attention/attention_driver.py. Strides in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.backends.cpu.block import Block
from graphc.lower.kernel import Kernel

# kernels: `product_tile` for scores and for the weighted sums (values), last: of the last column tile; `softmax_tile`;
# `transpose_panel`. group: heads of queries to one of keys. nv_k, nv_v: vectors of a column tile of scores and of y, last_k,
# last_v: of the last one, of whose last vector last_lanes columns of y exist. chunk: tiles of mr queries in a work item.
# scale: the bits of a float32. Strides of batch, head and sequence (of queries, for the mask).
ATTENTION = Block(
    "scores scores_last values values_last softmax transpose q k v mask y zeros batch heads group queries keys size v_size mr "
    "nv_k last_k nv_v last_v last_lanes chunk scale scratch scratch_stride q_strides*3 k_strides*3 v_strides*3 y_strides*3 "
    "mask_strides*3"
)
SOFTMAX_TILE = Block("keys scale mask mask_row")  # a micro-kernel's: attention/attention_micro.py


class Attention(Kernel, name="attention"):
    """Both products and the softmax between them."""

    block: ClassVar[Block] = ATTENTION


@dataclass(frozen=True, eq=False)
class SoftmaxTile(Kernel, name="softmax_tile"):
    """The softmax of a tile of scores."""

    block: ClassVar[Block] = SOFTMAX_TILE
    rows: int
    mask: str
    zeros: bool
