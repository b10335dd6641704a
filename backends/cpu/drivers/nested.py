"""Programs inside a step: a table of steps that runs again and again, with addresses that move on.

Every thread runs whole images on its own, with a copy of the argument blocks in memory of its own: no thread waits for
another between the inner steps.
"""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, block_address, call3, copy_bytes, load_i64, store_i64
from graphc.backends.cpu.drivers.work import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.sizes import NESTED_HEAD

IMAGES, STEPS, SHIFTS, WORDS, SCRATCH, STRIDE, STEPS_AT, SHIFTS_AT, WORDS_AT = range(NESTED_HEAD)
ROW, SHIFT = 2, 3  # words of a record


@driver("nested")
def nested(target):
    """All inner steps for each image, one after the other.

    *_AT are indices of words of this block. Steps: driver, and its block's first word among
    WORDS inner words. Shifts: an inner word that is an address, its bytes from image to image, and 1 where it lies in
    SCRATCH, of which each thread has STRIDE bytes: first its copy of the inner words, then the inner steps' memory.
    """

    def nested(a, tid, nth):
        steps, shifts = a[STEPS], a[SHIFTS]
        here = block_address(a)
        moved = tid * a[STRIDE]
        mine = a[SCRATCH] + moved
        template = here + 8 * a[WORDS_AT]
        first, end = piece(a, a[IMAGES], nth, 0)
        if first < end:
            copy_bytes(mine, template, 8 * a[WORDS])
        while first < end:
            for n in range(first, end):
                for i in range(shifts):
                    shift = a[SHIFTS_AT] + SHIFT * i
                    at = 8 * a[shift]
                    store_i64(mine + at, load_i64(template + at) + n * a[shift + 1] + moved * a[shift + 2])
                for i in range(steps):
                    row = a[STEPS_AT] + ROW * i
                    call3(a[row], mine + 8 * a[row + 1], 0, 1)
            first, end = piece(a, a[IMAGES], nth, end)

    return nested, STEP
