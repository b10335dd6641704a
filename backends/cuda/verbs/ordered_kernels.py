"""Kernels along an ordered axis.

What is compared are keys, int64 whose order is that of the elements; of equal keys the place decides. So any order in which
threads compare gives the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda
from numba.cuda.types import int64

from graphc.backends.cuda.codegen.device import device, load, move, register, store, word
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.threads import block, thread, thread_number
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.verbs.bits_kernels import ALL, as_bits, as_number, bits_type
from graphc.backends.cuda.verbs.ordered_block import (
    EXTREME,
    MERGE_RUNS,
    SCAN,
    SORT_TILE,
    Extreme,
    MergeRuns,
    ScanColumns,
    ScanTiles,
    SortTile,
)
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.combine import combined, identity_of
from graphc.backends.llvm.emit import I64, i64, register_type
from graphc.dtypes import is_float
from graphc.types import dtype_from_name

LEAST, MOST = -(1 << 63), (1 << 63) - 1  # of int64; (LEAST, MOST) is the key and place of what comes last of all
ITEM, PLACE = 16, 8  # bytes of a run's item, and those before its place


def key_of(dtype: np.dtype, largest: bool, nan: int) -> Callable[[int], int]:
    """key(address): of the element there, the larger the earlier it comes. -0 equals 0. nan: the key of all NaN."""

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        x = q.load(q.pointer(a[0]), dtype, 1)
        if not is_float(dtype):
            key = (
                q.b.xor(x, i64(LEAST)) if dtype == np.uint64 else expr_code.convert(q, x, dtype, np.dtype(np.int64), 1)
            )
            return key if largest else q.b.not_(key)
        key = float_key(q, x)
        odd = q.b.fcmp_unordered("uno", x, x)
        return q.b.select(odd, i64(nan), key if largest else q.b.not_(key))

    return device(emit, int64, int64)


def float_key(q: CudaEmit, x: ir.Value) -> ir.Value:
    """The bits of a positive number grow with its value; those of a negative one are flipped."""
    b = q.b
    zero = ir.Constant(x.type, 0.0)
    bits = b.bitcast(
        b.select(b.fcmp_ordered("==", x, zero), zero, x), ir.IntType(32 if x.type == ir.FloatType() else 64)
    )
    flipped = b.xor(bits, ir.Constant(bits.type, (1 << (bits.type.width - 1)) - 1))
    key = b.select(b.icmp_signed("<", bits, ir.Constant(bits.type, 0)), flipped, bits)
    return key if key.type == I64 else b.sext(key, I64)


@makes(Extreme)
def extreme(dtype: str, largest: bool, last: bool) -> Code:
    TOTAL, X, Y, SIZE, INNER, WIDTH = EXTREME["total x y size inner width"]
    kind = dtype_from_name(dtype)
    item, key_at, put = kind.itemsize, key_of(kind, largest, MOST), store("int64")
    nowhere = -1 if last else MOST

    def extreme(a):
        keys = cuda.shared.array(THREADS, int64)
        places = cuda.shared.array(THREADS, int64)
        t, size, inner, width = thread(), word(a, SIZE), word(a, INNER), word(a, WIDTH)
        workers = THREADS // width
        column, worker = t & (width - 1), t // width
        if inner == 1:
            column, worker = t // workers, t & (workers - 1)
        number = block() * width + column
        inside = number < word(a, TOTAL)
        outer = number // inner
        x = word(a, X) + (outer * size * inner + number - outer * inner) * item
        best, where = LEAST, nowhere
        if inside:
            for i in range(worker, size, workers):
                key = key_at(x + i * inner * item)
                if key > best or (key == best and (i > where if last else i < where)):
                    best, where = key, i
        mine = worker * width + column
        keys[mine], places[mine] = best, where
        cuda.syncthreads()
        apart = workers // 2
        while apart > 0:
            if worker < apart:
                other = mine + apart * width
                key, i = keys[other], places[other]
                if key > keys[mine] or (key == keys[mine] and (i > places[mine] if last else i < places[mine])):
                    keys[mine], places[mine] = key, i
            cuda.syncthreads()
            apart //= 2
        if inside and worker == 0:
            put(word(a, Y) + 8 * number, places[mine])

    return Code(extreme)


# --- scans --------------------------------------------------------------------------------------------------------------
def _running(dtype: str, combine: str, exclusive: bool) -> tuple[Callable[..., Any], ...]:
    """first(), both(x, y), load(address), store(address, x)."""
    kind = dtype_from_name(dtype)
    begin = identity_of(combine, kind)
    if combine == "add" and is_float(kind) and not exclusive:
        begin = -0.0  # the first result keeps its sign
    one = register(kind)
    first = device(lambda q, a: q.const(begin, register_type(kind), 1), one)
    both = device(lambda q, a: combined(q, combine, kind, a[0], a[1]), one, one, one)
    return first, both, load(dtype), store(dtype)


TOTAL, X, Y, SIZE, INNER, FIRST, STEP = SCAN["total x y size inner first step"]


@makes(ScanColumns)
def scan_columns(dtype: str, combine: str, exclusive: bool) -> Code:
    first, both, get, put = _running(dtype, combine, exclusive)
    item = dtype_from_name(dtype).itemsize

    def scan_columns(a):
        number = thread_number(THREADS)
        if number < word(a, TOTAL):
            size, inner, step = word(a, SIZE), word(a, INNER), word(a, STEP)
            outer = number // inner
            at = word(a, FIRST) + (outer * size * inner + number - outer * inner) * item
            total = first()
            for _ in range(size):
                before, total = total, both(total, get(word(a, X) + at))
                put(word(a, Y) + at, before if exclusive else total)
                at += step

    return Code(scan_columns)


@makes(ScanTiles)
def scan_tiles(dtype: str, combine: str, exclusive: bool) -> Code:
    """As many elements at once as there are threads: within warps, then with what the warps before them have."""
    first, both, get, put = _running(dtype, combine, exclusive)
    kind = dtype_from_name(dtype)
    item, bits, raw, number_of, warps = kind.itemsize, bits_type(kind), as_bits(kind), as_number(kind), THREADS // 32

    def scan_tiles(a):
        of_warps = cuda.shared.array(warps, bits)
        t, number = thread(), block()
        lane, warp = t & 31, t >> 5
        size, inner, step = word(a, SIZE), word(a, INNER), word(a, STEP)
        outer = number // inner
        at = word(a, FIRST) + (outer * size * inner + number - outer * inner) * item
        carry = first()
        for start in range(0, size, THREADS):
            i = start + t
            total = get(word(a, X) + at + i * step) if i < size else first()
            apart = 1
            while apart < 32:
                other = number_of(cuda.shfl_up_sync(ALL, raw(total), apart))
                if lane >= apart:
                    total = both(other, total)
                apart *= 2
            if lane == 31:
                of_warps[warp] = raw(total)
            cuda.syncthreads()
            before = carry
            for w in range(warps):
                if w < warp:
                    before = both(before, number_of(of_warps[w]))
                carry = both(carry, number_of(of_warps[w]))
            cuda.syncthreads()
            if exclusive:
                other = number_of(cuda.shfl_up_sync(ALL, raw(total), 1))
                total = both(before, other) if lane > 0 else before
            else:
                total = both(before, total)
            if i < size:
                put(word(a, Y) + at + i * step, total)

    return Code(scan_tiles)


# --- sorting ------------------------------------------------------------------------------------------------------------
@makes(SortTile)
def sort_tile(dtype: str, largest: bool, tile: int, last: bool) -> Code:
    """A bitonic sort in shared memory."""
    X, SIZE, INNER, TILES, WIDTH, KEPT = SORT_TILE["x size inner tiles width kept"]
    TO, VALUES, PLACES = SORT_TILE["to values places"]
    kind = dtype_from_name(dtype)
    item, key_at = kind.itemsize, key_of(kind, largest, MOST if largest else LEAST)
    put, copy = store("int64"), move(kind.itemsize)
    threads = min(tile // 2, 256)

    def sort_tile(a):
        keys = cuda.shared.array(tile, int64)
        places = cuda.shared.array(tile, int64)
        t, size, inner, width, kept = thread(), word(a, SIZE), word(a, INNER), word(a, WIDTH), word(a, KEPT)
        number = block() // word(a, TILES)
        begin = (block() - number * word(a, TILES)) * tile
        outer = number // inner
        column = number - outer * inner
        x = word(a, X) + (outer * size * inner + column) * item
        for i in range(t, width, threads):
            keys[i], places[i] = LEAST, MOST
            if begin + i < size:
                keys[i], places[i] = key_at(x + (begin + i) * inner * item), begin + i
        cuda.syncthreads()
        length = 2
        while length <= width:
            apart = length // 2
            while apart > 0:
                for p in range(t, width // 2, threads):
                    i = 2 * p - (p & (apart - 1))
                    j = i + apart
                    key, other = keys[i], keys[j]
                    place, other_place = places[i], places[j]
                    ahead = other > key or (other == key and other_place < place)
                    behind = other < key or (other == key and other_place > place)
                    if ahead if i & length == 0 else behind:
                        keys[i], places[i] = other, other_place
                        keys[j], places[j] = key, place
                cuda.syncthreads()
                apart //= 2
            length *= 2
        for i in range(t, kept, threads):
            if last:
                to = (outer * kept + i) * inner + column
                copy(word(a, VALUES) + to * item, x + places[i] * inner * item)
                put(word(a, PLACES) + 8 * to, places[i])
            else:
                to = word(a, TO) + (block() * kept + i) * ITEM
                put(to, keys[i])
                put(to + PLACE, places[i])

    return Code(sort_tile, threads)


@makes(MergeRuns)
def merge_runs(item: int, last: bool) -> Code:
    """A thread per item: its place in the new run is its own and how many of the other run come before it."""
    TOTAL, X, SIZE, INNER, SOURCE, RUNS, LENGTH = MERGE_RUNS["total x size inner source runs length"]
    PAIRS, KEPT, TO, VALUES, PLACES = MERGE_RUNS["pairs kept to values places"]
    put, copy = store("int64"), move(item)

    def merge_runs(a):
        i = thread_number(THREADS)
        if i < word(a, TOTAL):
            runs, length, pairs, kept = word(a, RUNS), word(a, LENGTH), word(a, PAIRS), word(a, KEPT)
            run = i // length  # of all, where an axis has an even number of them
            at = i - run * length
            second = run & 1
            pair = run >> 1
            number = pair // pairs
            mine = run - 2 * number * pairs
            other = mine + 1 - 2 * second
            key, place = LEAST, MOST
            if mine < runs:
                own = word(a, SOURCE) + ((number * runs + mine) * length + at) * ITEM
                key, place = word(own, 0), word(own, 1)
            theirs = word(a, SOURCE) + (number * runs + other) * length * ITEM
            low, high = 0, length if other < runs else 0
            while low < high:
                middle = (low + high) // 2
                k, p = word(theirs + middle * ITEM, 0), word(theirs + middle * ITEM, 1)
                if k > key or (k == key and (p < place or (p == place and second == 1))):
                    low = middle + 1
                else:
                    high = middle
            rank = at + low
            if rank < kept:
                if last:
                    size, inner = word(a, SIZE), word(a, INNER)
                    outer = number // inner
                    column = number - outer * inner
                    to = (outer * kept + rank) * inner + column
                    x = word(a, X) + (outer * size * inner + column) * item
                    copy(word(a, VALUES) + to * item, x + place * inner * item)
                    put(word(a, PLACES) + 8 * to, place)
                else:
                    to = word(a, TO) + (pair * kept + rank) * ITEM
                    put(to, key)
                    put(to + PLACE, place)

    return Code(merge_runs)
