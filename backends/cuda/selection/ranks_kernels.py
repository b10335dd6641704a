"""Numbering what is chosen of many elements, in order: two kernels, of which the first counts in chunks, a block of threads each.
In the second one each block knows from these counts where its own numbers begin, and how many there are in all.
"""

from __future__ import annotations

from collections.abc import Callable

from numba import cuda
from numba.cuda.extending import register_jitable
from numba.cuda.types import int32, int64

from graphc.backends.cuda.codegen.device import load, store, word
from graphc.backends.cuda.codegen.threads import block, thread
from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.selection.ranks_block import COUNTED, RANKED, TILE
from graphc.backends.cuda.verbs.bits_kernels import ALL

N, CHUNK, COUNTS = COUNTED["n chunk counts"]
(TOTAL,) = RANKED["total"]
WARPS, EACH = THREADS // 32, TILE // THREADS
load_word, store_word = load("int64"), store("int64")


@register_jitable
def sum_of_block(number, shared):
    """Of a number of each thread. shared: WARPS int64."""
    apart = 1
    while apart < 32:
        number += cuda.shfl_xor_sync(ALL, number, apart)
        apart *= 2
    t = thread()
    if t & 31 == 0:
        shared[t >> 5] = number
    cuda.syncthreads()
    total = int64(0)
    for warp in range(WARPS):
        total += shared[warp]
    cuda.syncthreads()
    return total


@register_jitable
def sum_of(counts, first, end, shared):
    """Of the int64 at an address with the numbers first … end, by all threads of the block."""
    mine = int64(0)
    for i in range(first + thread(), end, THREADS):
        mine += load_word(counts + 8 * i)
    return sum_of_block(mine, shared)


def counting(true: Callable[..., bool]) -> Callable[..., None]:
    """A kernel whose block begins as COUNTED. true(a, i): is element i chosen?"""

    def count_chosen(a):
        shared = cuda.shared.array(WARPS, int64)
        first = block() * word(a, CHUNK)
        mine = int64(0)
        for i in range(first + thread(), min(first + word(a, CHUNK), word(a, N)), THREADS):
            if true(a, i):
                mine += 1
        total = sum_of_block(mine, shared)
        if thread() == 0:
            store_word(word(a, COUNTS) + 8 * block(), total)

    return count_chosen


def ranking(true: Callable[..., bool], act: Callable[..., None]) -> Callable[..., None]:
    """A kernel whose block begins as RANKED. act(a, i, chosen, rank, total): rank: how many are chosen before element i, of
    `total`."""

    def rank_chosen(a):
        shared = cuda.shared.array(WARPS, int64)
        of_warps = cuda.shared.array(WARPS, int32)
        votes = cuda.local.array(EACH, int32)
        t, number = thread(), block()
        lane, warp = t & 31, t >> 5
        chunks = word(a, N) // word(a, CHUNK) + 1
        rank = sum_of(word(a, COUNTS), 0, number, shared)
        total = rank + sum_of(word(a, COUNTS), number, chunks, shared)
        if number == 0 and t == 0:
            store_word(word(a, TOTAL), total)
        first = number * word(a, CHUNK)
        end = min(first + word(a, CHUNK), word(a, N))
        for start in range(first, end, TILE):
            begin = start + warp * (32 * EACH) + lane
            mine = int32(0)
            for k in range(EACH):
                i = begin + 32 * k
                votes[k] = cuda.ballot_sync(ALL, i < end and true(a, i))
                mine += cuda.popc(votes[k])
            if lane == 0:
                of_warps[warp] = mine
            cuda.syncthreads()
            at = rank
            for w in range(WARPS):
                if w < warp:
                    at += of_warps[w]
                rank += of_warps[w]
            cuda.syncthreads()
            for k in range(EACH):
                i, vote = begin + 32 * k, votes[k]
                if i < end:
                    before = vote & int32((int64(1) << lane) - 1)
                    act(a, i, (vote >> lane) & 1 != 0, at + cuda.popc(before), total)
                at += cuda.popc(vote)

    return rank_chosen
