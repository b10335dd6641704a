"""conv/dense_window_driver.py. Strides in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

_SHARED = (
    "x y n channels in_d in_h in_w out_d out_h out_w k_d k_h k_w s_d s_h s_w d_d d_h d_w p_d p_h p_w "
    "xs_n xs_c xs_d xs_h xs_w ys_n ys_c ys_d ys_h ys_w"
)
DENSE_WINDOW = Block(_SHARED)  # the head of the others; channels: of the output

# bias: 0 if there is none. ws: of [out channel, in channel, d, h, w]. add_scaled: the micro-kernel
CONV_DENSE = Block(f"{_SHARED} w bias groups per_group bias_step ws_o ws_i ws_d ws_h ws_w add_scaled")

# end: padding at the end. padded: averages count padding. indices: their output, or 0; index: its steps. norm: the norm's p
POOL_DENSE = Block(f"{_SHARED} end_d end_h end_w padded indices index_d index_h index_w norm")


@dataclass(frozen=True, eq=False)
class ConvDense(Kernel, name="conv_dense"):
    """Conv and ConvTranspose of dense operands."""

    block: ClassVar[Block] = CONV_DENSE
    dtype: str
    transposed: bool


@dataclass(frozen=True, eq=False)
class PoolDense(Kernel, name="pool_dense"):
    """Pools of dense values."""

    block: ClassVar[Block] = POOL_DENSE
    op: str
    dtype: str


@dataclass(frozen=True, eq=False)
class AddScaled(Kernel, name="add_scaled"):
    """A row, scaled, onto another."""

    dtype: str
