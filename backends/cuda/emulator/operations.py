"""Numbers that kernels hand to the runtime: kinds of access, and warp operations: a code in the low 8 bits, a parameter above."""

from __future__ import annotations

READ, WRITE, ATOMIC, VOLATILE = range(4)  # of memory. VOLATILE: a read that goes with an atomic access

SYNCWARP, SHUFFLE, VOTE, MATCH, LDMATRIX, MMA, WGMMA = range(1, 8)
KINDS = {"f16": 0, "bf16": 1, "tf32": 2}  # of operands of tensor cores
INDEX, UP, DOWN, XOR = range(4)  # shuffles
ALL, ANY, EQUAL, BALLOT = range(4)  # votes


def ldmatrix(matrices: int, transposed: bool) -> int:
    return LDMATRIX | (matrices | transposed << 3) << 8


def mma(kind: str) -> int:
    return MMA | KINDS[kind] << 8


def wgmma(kind: str, columns: int, across: bool) -> int:
    return WGMMA | (KINDS[kind] | across << 3 | columns << 4) << 8
