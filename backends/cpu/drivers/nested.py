"""Programs inside a step: a table of steps that runs again and again, with addresses that move on.

Every thread runs whole turns on its own, with a copy of the argument blocks in memory of its own: no thread waits for
another between the inner steps.
"""

from __future__ import annotations

from backends.cpu.drivers.work import piece
from backends.cpu.intrinsics import STEP, block_address, call3, copy_bytes, load_i64, store_i64
from backends.cpu.toolchain import driver

IMAGES, PARTS, SHIFTS, WORDS, SCRATCH, STRIDE, PARTS_AT, STEPS_AT, SHIFTS_AT, WORDS_AT = range(10)
PART, ROW, SHIFT = 2, 2, 3  # words of a record


@driver("nested")
def nested(target):
    """A turn is one part of one image: some of the inner steps, one after the other.

    *_AT are indices of words of this block. Parts: first step and count. Steps: driver, and its block's first word among
    WORDS inner words. Shifts: an inner word that is an address, its bytes from image to image, and 1 where it lies in
    SCRATCH, of which each thread has STRIDE bytes: first its copy of the inner words, then the inner steps' memory.
    """

    def nested(a, tid, nth):
        parts, shifts = a[PARTS], a[SHIFTS]
        here = block_address(a)
        moved = tid * a[STRIDE]
        mine = a[SCRATCH] + moved
        template = here + 8 * a[WORDS_AT]
        first, end = piece(a, a[IMAGES] * parts, nth, 0)
        image = -1
        if first < end:
            copy_bytes(mine, template, 8 * a[WORDS])
        while first < end:
            for turn in range(first, end):
                n = turn // parts
                if n != image:
                    image = n
                    for i in range(shifts):
                        shift = a[SHIFTS_AT] + SHIFT * i
                        at = 8 * a[shift]
                        store_i64(mine + at, load_i64(template + at) + n * a[shift + 1] + moved * a[shift + 2])
                part = a[PARTS_AT] + PART * (turn - n * parts)
                for i in range(a[part], a[part] + a[part + 1]):
                    row = a[STEPS_AT] + ROW * i
                    call3(a[row], mine + 8 * a[row + 1], 0, 1)
            first, end = piece(a, a[IMAGES] * parts, nth, end)

    return nested, STEP
