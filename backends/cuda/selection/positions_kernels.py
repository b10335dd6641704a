"""Positions of what is not zero, as coordinates, and what lies at such positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import register_jitable

from graphc.backends.cuda.codegen.device import device, load, move, store, word
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.guarded import divide_wide
from graphc.backends.cuda.codegen.threads import thread_number
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.selection.positions_block import COUNT_TRUE, FIND_TRUE, TAKE, CountTrue, FindTrue, Take
from graphc.backends.cuda.selection.ranks_kernels import counting, ranking
from graphc.backends.cuda.verbs.index_kernels import report
from graphc.backends.llvm.emit import register_type
from graphc.dtypes import is_float
from graphc.types import dtype_from_name

load_word, store_word = load("int64"), store("int64")


@cache
def _not_zero(dtype: str) -> Callable[[int], bool]:
    """not_zero(address): of the element there. NaN is not zero."""
    kind = dtype_from_name(dtype)

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        x = q.load(q.pointer(a[0]), kind, 1)
        if kind == np.bool_:
            return x
        compare = q.b.fcmp_unordered if is_float(kind) else q.b.icmp_unsigned
        return compare("!=", x, q.const(0, register_type(kind), 1))

    return device(emit, types.boolean, types.int64)


def _true(dtype: str, x: int) -> Callable[[int, int], bool]:
    """x: the word with the address of the elements."""
    item, not_zero = dtype_from_name(dtype).itemsize, _not_zero(dtype)

    @register_jitable
    def true(a, i):
        return not_zero(word(a, x) + i * item)

    return true


@makes(CountTrue)
def count_true(dtype: str) -> Code:
    return Code(counting(_true(dtype, *COUNT_TRUE["x"])))


@makes(FindTrue)
def find_true(dtype: str) -> Code:
    FOUND, RANK = FIND_TRUE["found rank"]
    SIZES = FIND_TRUE.size

    @register_jitable
    def coordinates(a, i, chosen, rank, total):
        if chosen:
            found = word(a, FOUND) + 8 * rank
            rest, d = i, word(a, RANK) - 1
            while d > 0:
                size = word(a, SIZES + d)
                up = divide_wide(rest, size)
                store_word(found + 8 * d * total, rest - up * size)
                rest = up
                d -= 1
            if d == 0:
                store_word(found, rest)

    return Code(ranking(_true(dtype, *FIND_TRUE["x"]), coordinates))


@makes(Take)
def take(item: int) -> Code:
    """A thread per item of as many blocks as there can be. Where a position is out of range, which is reported, nothing is read."""
    TOTAL, POSITIONS, X, Y, COUNT, MOST = TAKE["total indices x y count most"]
    SIZE, PER_BLOCK, NBYTES = TAKE["size threads block"]
    REPORT, copy = 8 * TAKE.size, move(item)

    def take(a):
        number = thread_number(THREADS)
        if number < word(a, TOTAL):
            per_block, most, size = word(a, PER_BLOCK), word(a, MOST), word(a, SIZE)
            count, positions = load_word(word(a, COUNT)), word(a, POSITIONS)
            up = divide_wide(number, per_block)
            at = number - up * per_block
            outer = divide_wide(up, most)
            i = up - outer * most
            if i < count:
                position = load_word(positions + 8 * i)
                if position >= size:
                    if outer == 0 and at == 0:
                        report(a, a + REPORT, i)
                elif word(a, NBYTES) > 0 and load_word(positions + 8 * (count - 1)) < size:
                    to = ((outer * count + i) * per_block + at) * item
                    copy(word(a, Y) + to, word(a, X) + ((outer * size + position) * per_block + at) * item)

    return Code(take)
