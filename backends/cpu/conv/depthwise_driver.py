"""Depthwise convolution: loops over images, channel blocks and rows around `depthwise_row`."""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, call6, store_i64
from graphc.backends.cpu.conv.depthwise_block import DEPTHWISE, DEPTHWISE_ROW, Depthwise
from graphc.backends.cpu.conv.window_njit import window
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.dtypes import BY_NAME

MICRO, X, W, BIAS, Y, N, BLOCKS, PIXELS = DEPTHWISE["micro x w bias y n blocks pixels"]
OUT_H, K_H, S_H, D_H, P_H, IN_H = DEPTHWISE["out_h k_h s_h d_h p_h in_h"]
XS_N, XS_BLOCK, XS_H, YS_N, YS_BLOCK, YS_H = DEPTHWISE["xs_n xs_block xs_h ys_n ys_block ys_h"]
WS_BLOCK, WS_H, LO, HI, SCRATCH, STRIDE, OPERANDS_COUNT = DEPTHWISE[
    "ws_block ws_h lo hi scratch stride epilogue_operands"
]
OPERANDS_AT, OPERAND_SIZE = DEPTHWISE.size, DEPTHWISE.record_size
R_REF, R_N, R_BLOCK, R_H, R_PIXEL = DEPTHWISE.in_record("ref n block h pixel")
MICRO_XS_H, MICRO_PIXELS, MICRO_LO, MICRO_HI = DEPTHWISE_ROW["xs_h pixels lo hi"]
MICRO_OPERANDS_AT, MICRO_OPERAND_SIZE = DEPTHWISE_ROW.size, DEPTHWISE_ROW.record_size
MICRO_REF, MICRO_PIXEL = DEPTHWISE_ROW.in_record("ref pixel")


@driver(Depthwise)
def depthwise(target, dtype):
    element = BY_NAME[dtype]
    bias_bytes = target.lanes(element) * element.accumulator.itemsize

    def depthwise(a, tid, nth):
        blocks, out_h, epilogue_operands = a[BLOCKS], a[OUT_H], a[OPERANDS_COUNT]
        block = a[SCRATCH] + tid * a[STRIDE]
        store_i64(block + 8 * MICRO_XS_H, a[XS_H] * a[D_H])
        store_i64(block + 8 * MICRO_PIXELS, a[PIXELS])
        store_i64(block + 8 * MICRO_LO, a[LO])
        store_i64(block + 8 * MICRO_HI, a[HI])
        store_i64(block + 8 * (MICRO_OPERANDS_AT + MICRO_REF), 0)
        for e in range(epilogue_operands):
            store_i64(
                block + 8 * (MICRO_OPERANDS_AT + MICRO_OPERAND_SIZE * e + MICRO_PIXEL),
                a[OPERANDS_AT + OPERAND_SIZE * e + R_PIXEL],
            )
        work = a[N] * blocks * out_h
        first_item, end = piece(a, work, nth, 0)
        while first_item < end:
            for k in range(first_item, end):
                rest = k // out_h
                h = k - rest * out_h
                n = rest // blocks
                c = rest - n * blocks
                in_h = h * a[S_H] - a[P_H]
                kh0, kh1 = window(in_h, a[D_H], a[K_H], a[IN_H])
                for e in range(epilogue_operands):
                    r = OPERANDS_AT + OPERAND_SIZE * e
                    row = a[r + R_REF] + n * a[r + R_N] + c * a[r + R_BLOCK] + h * a[r + R_H]
                    store_i64(block + 8 * (MICRO_OPERANDS_AT + MICRO_OPERAND_SIZE * e + MICRO_REF), row)
                call6(
                    a[MICRO],
                    block,
                    a[X] + n * a[XS_N] + c * a[XS_BLOCK] + (in_h + kh0 * a[D_H]) * a[XS_H],
                    a[W] + c * a[WS_BLOCK] + kh0 * a[WS_H],
                    a[Y] + n * a[YS_N] + c * a[YS_BLOCK] + h * a[YS_H],
                    a[BIAS] + c * bias_bytes,
                    kh1 - kh0,
                )
            first_item, end = piece(a, work, nth, end)

    return depthwise, STEP
