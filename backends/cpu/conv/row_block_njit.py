"""What drivers write into the block of `conv_row` and its like (conv/conv_row_block.py)."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import fill_bytes, store_i64
from graphc.backends.cpu.conv.conv_row_block import BLOCK_BYTES, CONV_ROW, EPILOGUE_OPERAND

BLOCKS, YS_W, YS_BLOCK, LO, HI, OPERANDS = CONV_ROW["blocks ys_w ys_block lo hi epilogue_operands"]
OPERAND = EPILOGUE_OPERAND.size
REF, BY_BLOCK, BY_PIXEL = EPILOGUE_OPERAND["ref block pixel"]
NO_CLIP_LOW, NO_CLIP_HIGH = 0xFF800000, 0x7F800000  # bits of -inf and inf


@njit(error_model="numpy")
def start_block(block, blocks, y_pixel, y_block, low, high):
    """All words but these are 0. blocks: of input channels. low, high: bits of the bounds of the result."""
    fill_bytes(block, BLOCK_BYTES, 0)
    store_i64(block + 8 * BLOCKS, blocks)
    store_i64(block + 8 * YS_W, y_pixel)
    store_i64(block + 8 * YS_BLOCK, y_block)
    store_i64(block + 8 * LO, low)
    store_i64(block + 8 * HI, high)


@njit(error_model="numpy")
def stride_operand(block, e, channel_block, pixel):
    """The strides of operand e of the epilogue."""
    store_i64(block + 8 * (OPERANDS + OPERAND * e + BY_BLOCK), channel_block)
    store_i64(block + 8 * (OPERANDS + OPERAND * e + BY_PIXEL), pixel)


@njit(error_model="numpy")
def point_operand(block, e, address):
    """Where operand e of the epilogue begins for the next row."""
    store_i64(block + 8 * (OPERANDS + OPERAND * e + REF), address)
