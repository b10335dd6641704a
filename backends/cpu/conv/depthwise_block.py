"""conv/depthwise_driver.py. Strides in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.expr import Expr
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

DEPTHWISE = Block(
    "micro x w bias y n xs_n ys_n blocks out_h pixels k_h s_h d_h p_h in_h xs_block xs_h ys_block ys_h ws_block ws_h lo hi "
    "scratch stride epilogue_operands",
    record="ref n block h pixel",  # an operand of the epilogue
)

# a micro-kernel's: conv/depthwise_micro.py. A record an operand of the epilogue; without one the first ref is 0
DEPTHWISE_ROW = Block("xs_h pixels lo hi", record="ref pixel")


@dataclass(frozen=True, eq=False)
class Depthwise(Kernel, name="depthwise"):
    """A depthwise convolution, row by row."""

    block: ClassVar[Block] = DEPTHWISE
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class DepthwiseRow(Kernel, name="depthwise_row"):
    """A row of output pixels: see conv/depthwise_micro.py."""

    block: ClassVar[Block] = DEPTHWISE_ROW
    mr: int
    kernel_w: int
    stride: int
    dilation: int
    epilogue: Expr | None
    dtype: str = "float32"
