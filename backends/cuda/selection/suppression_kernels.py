"""Non-maximum suppression. Candidates are in order, the best first.

A block of threads takes 64 candidates at a time. Each is held against all boxes that were chosen before, then against those
behind it among the 64: bits of a word say which ones it would suppress. One thread goes through these words, and takes a step
for each box that is chosen. What comes behind the last one that is wanted is never looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda
from numba.cuda import types
from numba.cuda.extending import register_jitable
from numba.cuda.types import float32, int32, int64

from graphc.backends.cuda.codegen.device import device, load, store, word
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.threads import block, thread, thread_number
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.selection.ranks_kernels import WARPS, sum_of
from graphc.backends.cuda.selection.suppression_block import (
    BOXES,
    PARTS,
    SCORE_KEYS,
    SUPPRESS,
    SUPPRESSED,
    ScoreKeys,
    Suppress,
    Suppressed,
)
from graphc.backends.cuda.verbs.bits_kernels import ALL
from graphc.backends.cuda.verbs.ordered_kernels import LEAST, key_of
from graphc.backends.llvm import boxes
from graphc.backends.llvm.boxes import BOX_NUMBERS, CORNERS
from graphc.backends.llvm.emit import F32

F32_BYTES, BOX_BYTES = 4, 4 * CORNERS
load_word, store_word, load_number = load("int64"), store("int64"), load("float32")
load_place, store_place = load("int32"), store("int32")
numbers = types.UniTuple(float32, BOX_NUMBERS)


# --- boxes ------------------------------------------------------------------------------------------------------------
@cache
def box_at(center: bool) -> Any:
    """box_at(center)(address): see backends/llvm/boxes.py."""

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        given = [q.load_raw(q.offset(q.pointer(a[0]), F32_BYTES * i), F32, 1) for i in range(CORNERS)]
        made = ir.Constant(ir.ArrayType(F32, BOX_NUMBERS), ir.Undefined)
        for i, value in enumerate(boxes.box(q, given, center)):
            made = q.b.insert_value(made, value, i)
        return made

    return device(emit, numbers, types.int64)


def _overlap(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
    one, other = ([q.b.extract_value(x, i) for i in range(BOX_NUMBERS)] for x in a[:2])
    return q.b.and_(boxes.has_area(q, one), boxes.overlap(q, one, other, a[2], 1))


overlap = device(_overlap, types.boolean, numbers, numbers, float32)  # overlap(one, other, limit)


@register_jitable
def put_box(shared, pitch, i, box):
    """shared: `pitch` of each number of a box."""
    for k in range(BOX_NUMBERS):
        shared[k * pitch + i] = box[k]


@register_jitable
def get_box(shared, pitch, i):
    return shared[i], shared[pitch + i], shared[2 * pitch + i], shared[3 * pitch + i], shared[4 * pitch + i]


# --- scores -----------------------------------------------------------------------------------------------------------
@makes(ScoreKeys)
def score_keys() -> Code:
    """LEAST where a score does not pass. NaN comes last, and passes where there is no threshold."""
    N, SCORES, THRESHOLD, KEYS = SCORE_KEYS["n scores threshold keys"]
    key = key_of(np.dtype(np.float32), True, LEAST + 1)

    def score_keys(a):
        i = thread_number(THREADS)
        if i < word(a, N):
            at, threshold = word(a, SCORES) + F32_BYTES * i, word(a, THRESHOLD)
            passes = threshold == 0 or load_number(at) > load_number(threshold)
            store_word(word(a, KEYS) + 8 * i, key(at) if passes else LEAST)

    return Code(score_keys)


# --- suppression ------------------------------------------------------------------------------------------------------
@makes(Suppress)
def suppress(center: bool) -> Code:
    GIVEN, LIMIT, IOU, CLASSES = SUPPRESS["boxes limit iou classes"]
    N, MOST, KEYS, PLACES, KEPT, COUNTS = SUPPRESS["n most keys places kept counts"]
    box_of, threads, share = box_at(center), BOXES * PARTS, BOXES // PARTS
    own_size, chosen_size = BOX_NUMBERS * BOXES, BOX_NUMBERS * BOXES * PARTS

    @register_jitable
    def limit_of(a):
        """Boxes that are wanted of each class."""
        limit = min(load_word(word(a, LIMIT)), word(a, MOST)) if word(a, LIMIT) != 0 else int64(0)
        if load_number(word(a, IOU)) >= 0:
            return limit
        return min(limit, int64(1))  # boxes that don't touch overlap too much

    def suppress(a):
        own = cuda.shared.array(own_size, float32)  # of the candidates
        chosen = cuda.shared.array(chosen_size, float32)
        hits = cuda.shared.array(threads, int32)
        masks = cuda.shared.array(threads, int64)
        halves = cuda.shared.array(2, int64)  # of a word: which candidates no box that was chosen before suppresses
        taken = cuda.shared.array(1, int64)
        t, job, n = thread(), block(), word(a, N)
        c, part = t & (BOXES - 1), t // BOXES
        given = word(a, GIVEN) + job // word(a, CLASSES) * n * BOX_BYTES
        keys, places = word(a, KEYS) + 8 * job * n, word(a, PLACES) + 8 * job * n
        kept = word(a, KEPT) + 4 * job * word(a, MOST)
        limit, iou = limit_of(a), load_number(word(a, IOU))
        count, start = int64(0), int64(0)
        while count < limit and start < n and load_word(keys + 8 * start) > LEAST:
            i = start + c
            passes = i < n and load_word(keys + 8 * i) > LEAST
            if part == 0 and passes:
                put_box(own, BOXES, c, box_of(given + BOX_BYTES * load_word(places + 8 * i)))
            elif part == 0:
                put_box(own, BOXES, c, (float32(0), float32(0), float32(0), float32(0), float32(0)))
            cuda.syncthreads()
            mine = get_box(own, BOXES, c)
            hit = not passes
            for first in range(0, count, threads):
                if first + t < count:
                    place = int64(load_place(kept + 4 * (first + t)))
                    put_box(chosen, threads, t, box_of(given + BOX_BYTES * place))
                cuda.syncthreads()
                for k in range(part, min(threads, count - first), PARTS):
                    if not hit:
                        hit = overlap(mine, get_box(chosen, threads, k), iou)
                cuda.syncthreads()
            mask = int64(0)  # of those that the candidate would suppress
            for k in range(part * share, (part + 1) * share):
                if k > c and overlap(mine, get_box(own, BOXES, k), iou):
                    mask |= int64(1) << k
            hits[t], masks[t] = hit, mask
            cuda.syncthreads()
            if t < BOXES:
                for p in range(1, PARTS):
                    hit = hit or hits[p * BOXES + t] != 0
                    mask |= masks[p * BOXES + t]
                masks[t] = mask
                vote = cuda.ballot_sync(ALL, not hit)
                if t & 31 == 0:
                    halves[t >> 5] = (int64(vote) & 0xFFFFFFFF) << t
            cuda.syncthreads()
            if t == 0:
                left, found, wanted = halves[0] | halves[1], int64(0), limit - count
                while left != 0 and wanted > 0:
                    k = int64(cuda.ffs(left)) - 1
                    found |= int64(1) << k
                    left &= ~(masks[k] | int64(1) << k)
                    wanted -= 1
                taken[0] = found
            cuda.syncthreads()
            found = taken[0]
            if part == 0 and (found >> c) & 1 != 0:
                before = cuda.popc(found & ((int64(1) << c) - 1))
                store_place(kept + 4 * (count + before), int32(load_word(places + 8 * i)))
            count += cuda.popc(found)
            start += BOXES
            cuda.syncthreads()
        if t == 0:
            store_word(word(a, COUNTS) + 8 * job, count)

    return Code(suppress, threads)


@makes(Suppressed)
def suppressed() -> Code:
    KEPT, COUNTS, JOBS, CLASSES, MOST, Y, TOTAL = SUPPRESSED["kept counts jobs classes most y total"]

    def suppressed(a):
        shared = cuda.shared.array(WARPS, int64)
        job, counts = block(), word(a, COUNTS)
        row = sum_of(counts, 0, job, shared)
        if job == word(a, JOBS):
            if thread() == 0:
                store_word(word(a, TOTAL), row)
        else:
            batch = job // word(a, CLASSES)
            for i in range(thread(), load_word(counts + 8 * job), THREADS):
                to = word(a, Y) + 24 * (row + i)
                store_word(to, batch)
                store_word(to + 8, job - batch * word(a, CLASSES))
                store_word(to + 16, int64(load_place(word(a, KEPT) + 4 * (job * word(a, MOST) + i))))

    return Code(suppressed)
