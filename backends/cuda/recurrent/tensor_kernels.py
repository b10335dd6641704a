"""Products of tensor cores with weights that stay in registers: 16 rows of the batch by the gates of four units for each warp.

The state comes as two numbers of half precision each, of which the first is its upper digits and the second what that lacks: two
products, whose sums are float32. Columns of an instruction are unit, then gate, two gates to an instruction: so a thread ends with
all gates of its unit, of two rows. The steps of the sum are in an order in which a thread reads 16 bytes of a row at once, of
weights and states alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir
from numba.cuda import types

from graphc.backends.cuda.codegen.device import device
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.ptx import mma
from graphc.backends.cuda.recurrent.persistent_block import GATES, TENSOR_DEPTH, TENSOR_LANES, WORDS, Layout, tiles_of
from graphc.backends.llvm.emit import F32, I32, I64


def tensor_weights(stages: Sequence[Sequence[int]], layout: Layout) -> Callable[..., None]:
    """tensor_weights(weights, rows, step, lane, hidden): this thread's share of each gate's row of weights, of each stage, into a local
    array of int32. rows: the address of gate 0's row of this thread's column's unit; step: bytes from one gate to the next."""

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        b, (weights, row, step, lane, hidden) = q.b, a
        odd = b.icmp_unsigned("!=", b.and_(b.lshr(lane, I32(2)), I32(1)), I32(0))
        quarter = b.mul(b.and_(lane, I32(3)), I32(TENSOR_LANES))
        at = 0
        for gates in stages:
            for p in range(tiles_of(len(gates))):
                first, *second = gates[GATES * p : GATES * (p + 1)]
                gate = b.select(odd, I64(second[0] if second else first), I64(first))
                line = b.add(row, b.mul(step, gate))
                for i in range(layout.span):
                    k = b.add(quarter, I32(i * TENSOR_DEPTH))
                    inside = b.icmp_unsigned("<", k, hidden)
                    where = b.select(inside, k, I32(0))
                    if not second:
                        inside = b.and_(inside, b.not_(odd))
                    four = q.load_raw(q.pointer(b.add(line, b.mul(b.zext(where, I64), I64(2)))), I32, WORDS)
                    for j in range(WORDS):
                        word = b.select(inside, b.extract_element(four, I32(j)), I32(0))
                        q.store_raw(word, q.offset(weights, I64(4 * at)))
                        at += 1

    return device(emit, types.void, types.voidptr, types.int64, types.int64, types.int32, types.int32)


def tensor_products(at: int, count: int, layout: Layout, dtype: str, stride: int) -> Callable[..., None]:
    """tensor_products(totals, weights, tile, lane): totals[g] becomes gate g's sum of row lane / 4, totals[stride + g] that of the row
    8 below. at: the first word of the stage's weights."""
    tiles = tiles_of(count)

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        b, (totals, weights, tile, lane) = q.b, a
        start = b.add(b.mul(b.lshr(lane, I32(2)), I32(layout.line)), b.mul(b.and_(lane, I32(3)), I32(16)))
        first = q.offset(tile, b.zext(start, I64))
        zero = ir.Constant(F32, 0.0)
        sums = [[[zero] * 4 for _ in range(2)] for _ in range(tiles)]  # of the upper and the lower digits
        for i in range(layout.span):
            for digits in range(2):
                words = []
                for rows in range(2):
                    place = digits * layout.plane + rows * 8 * layout.line + i * 2 * TENSOR_DEPTH
                    four = q.load_raw(q.offset(first, I64(place)), I32, WORDS)
                    words.append([b.extract_element(four, I32(j)) for j in range(WORDS)])
                upper, lower = words
                for p in range(tiles):
                    number = at + (p * layout.span + i) * WORDS
                    held = [q.load_raw(q.offset(weights, I64(4 * (number + j))), I32, 1) for j in range(WORDS)]
                    for j in (0, 2):
                        left = upper[j], lower[j], upper[j + 1], lower[j + 1]
                        sums[p][digits] = mma(b, dtype, left, held[j : j + 2], sums[p][digits])
        for g in range(count):
            both = sums[g // GATES]
            for rows in range(2):
                number = 2 * rows + g % GATES
                total = b.fadd(both[0][number], both[1][number])
                q.store_raw(total, q.offset(totals, I64(4 * (rows * stride + g))))

    return device(emit, types.void, types.voidptr, types.voidptr, types.voidptr, types.int32)


def words_of_weights(stages: Sequence[Sequence[int]], layout: Layout) -> int:
    return sum(tiles_of(len(gates)) for gates in stages) * layout.span * WORDS
