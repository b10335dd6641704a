"""Non-maximum suppression: of each class the best boxes that overlap no better one.

Candidates come from a heap while few are taken; then the rest is sorted. Each is held against the chosen ones, not each chosen
one against all: what comes behind the last one that is wanted is never looked at.
"""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import (
    STEP,
    as_block,
    call5,
    call6,
    load_f32,
    load_i32,
    load_i64,
    store_i32,
    store_i64,
)
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.selection.sort_njit import heapify, pop, radix_sort
from graphc.backends.cpu.selection.suppression_block import SUPPRESS, SUPPRESSED, Suppress, Suppressed
from graphc.backends.cpu.verbs.items_njit import INT32_BYTES, INT64_BYTES

BOXES, SCORES, LIMIT, IOU, THRESHOLD = SUPPRESS["boxes scores limit iou threshold"]
BATCHES, CLASSES, NUMBER, MOST, KEPT, COUNTS = SUPPRESS["batches classes n most kept counts"]
PASSING, KEEP, CHOSEN_ARRAY = SUPPRESS["passing keep chosen_array"]
CANDIDATES, CANDIDATES_STRIDE, SPARE, SPARE_STRIDE = SUPPRESS["candidates candidates_stride spare spare_stride"]
DIGITS, DIGITS_STRIDE, CHOSEN, CHOSEN_STRIDE = SUPPRESS["digits digits_stride chosen chosen_stride"]

BOX_BYTES, SCORE_BYTES = 16, 4
LOW = 0xFFFFFFFF
FEW, SHARE = 64, 8  # so many candidates, or this part of them, come from the heap


@njit(error_model="numpy")
def _limit(a):
    """Boxes that are wanted of each class."""
    limit = min(load_i64(a[LIMIT]), a[MOST]) if a[LIMIT] != 0 else 0
    return limit if load_f32(a[IOU]) >= 0 else min(limit, 1)  # else boxes that don't touch overlap too much


@njit(error_model="numpy")
def _suppress(a, job, limit, candidates, spare, digits, chosen):
    """The boxes that stay of a class of a batch entry; how many."""
    boxes = a[BOXES] + job // a[CLASSES] * a[NUMBER] * BOX_BYTES
    scores, kept = a[SCORES] + job * a[NUMBER] * SCORE_BYTES, a[KEPT] + job * a[MOST] * INT32_BYTES
    said = digits  # where micro-kernels say something
    call5(a[PASSING], a[NUMBER], scores, a[THRESHOLD], candidates, said)
    left = load_i64(said)
    from_heap = max(left // SHARE, FEW)
    heap = as_block(candidates)
    heapify(heap, left)
    ordered = as_block(candidates)
    count = 0
    while left > 0 and count < limit:
        if from_heap > 0:
            candidate = pop(heap, left)
            from_heap -= 1
            if from_heap == 0:
                sorted_keys, _ = radix_sort(candidates, 0, spare, 0, digits, left - 1)
                ordered = as_block(sorted_keys)
        else:
            candidate = ordered[left - 1]
        left -= 1
        box = LOW - (candidate & LOW)
        call6(a[KEEP], boxes + box * BOX_BYTES, chosen, a[CHOSEN_ARRAY], count, a[IOU], said)
        if load_i64(said):
            store_i32(kept + INT32_BYTES * count, box)
            count += 1
    return count


@driver(Suppress)
def suppress(target):
    """Per class of a batch entry: the numbers of the boxes that stay, the best first."""

    def suppress(a, tid, nth):
        jobs, limit = a[BATCHES] * a[CLASSES], _limit(a)
        candidates, spare = a[CANDIDATES] + tid * a[CANDIDATES_STRIDE], a[SPARE] + tid * a[SPARE_STRIDE]
        digits, chosen = a[DIGITS] + tid * a[DIGITS_STRIDE], a[CHOSEN] + tid * a[CHOSEN_STRIDE]
        first, end = piece(a, jobs, nth, 0)
        while first < end:
            for job in range(first, end):
                count = _suppress(a, job, limit, candidates, spare, digits, chosen) if limit > 0 else 0
                store_i64(a[COUNTS] + INT64_BYTES * job, count)
            first, end = piece(a, jobs, nth, end)

    return suppress, STEP


@driver(Suppressed)
def suppressed(target):
    """Y[row] = (batch entry, class, box), of all classes in order."""
    KEPT, COUNTS, JOBS, CLASSES, MOST, Y, TOTAL = SUPPRESSED["kept counts jobs classes most y total"]

    def suppressed(a, tid, nth):
        if tid != 0:
            return
        y, counts, classes = as_block(a[Y]), as_block(a[COUNTS]), a[CLASSES]
        row = 0
        for job in range(a[JOBS]):
            batch = job // classes
            kept = a[KEPT] + job * a[MOST] * INT32_BYTES
            for i in range(counts[job]):
                y[3 * row] = batch
                y[3 * row + 1] = job - batch * classes
                y[3 * row + 2] = load_i32(kept + INT32_BYTES * i)
                row += 1
        store_i64(a[TOTAL], row)

    return suppressed, STEP
