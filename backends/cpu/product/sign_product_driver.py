"""Rows of floats to rows of bits, for products of signs."""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, block_address, call3
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.product.sign_product_block import SIGN_ROWS, SignRows

X, TO, M, KERNEL, X_ROW, TO_ROW = SIGN_ROWS["x to m kernel x_row to_row"]


@driver(SignRows)
def sign_rows(target):
    def sign_rows(a, tid, nth):
        block = block_address(a)
        begin, end = piece(a, a[M], nth, 0)
        while begin < end:
            for row in range(begin, end):
                call3(a[KERNEL], block, a[X] + row * a[X_ROW], a[TO] + row * a[TO_ROW])
            begin, end = piece(a, a[M], nth, end)

    return sign_rows, STEP
