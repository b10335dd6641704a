"""Programs inside a step: a table of steps that runs again and again, with addresses that move on.

Every thread runs whole samples on its own, with a copy of the argument blocks in memory of its own: no thread waits for
another between the inner steps.
"""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, block_address, call3, copy_bytes, load_i64, store_i64
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.nested.nested_block import INNER_STEP, NESTED, SHIFT, Nested

SAMPLES, STEPS, SHIFTS, WORDS, SCRATCH, STRIDE = NESTED["samples steps shifts words scratch stride"]
STEPS_AT, SHIFTS_AT, WORDS_AT = NESTED["steps_at shifts_at words_at"]
DRIVER, BLOCK = INNER_STEP["driver block"]
WORD, PER_SAMPLE, IN_SCRATCH = SHIFT["word per_sample in_scratch"]
STEP_SIZE, SHIFT_SIZE = INNER_STEP.size, SHIFT.size


@driver(Nested)
def nested(target):
    """All inner steps for each sample, one after the other."""

    def nested(a, tid, nth):
        steps, shifts = a[STEPS], a[SHIFTS]
        here = block_address(a)
        moved = tid * a[STRIDE]
        mine = a[SCRATCH] + moved
        template = here + 8 * a[WORDS_AT]
        first, end = piece(a, a[SAMPLES], nth, 0)
        if first < end:
            copy_bytes(mine, template, 8 * a[WORDS])
        while first < end:
            for n in range(first, end):
                for i in range(shifts):
                    shift = a[SHIFTS_AT] + SHIFT_SIZE * i
                    at = 8 * a[shift + WORD]
                    store_i64(
                        mine + at, load_i64(template + at) + n * a[shift + PER_SAMPLE] + moved * a[shift + IN_SCRATCH]
                    )
                for i in range(steps):
                    row = a[STEPS_AT] + STEP_SIZE * i
                    call3(a[row + DRIVER], mine + 8 * a[row + BLOCK], 0, 1)
            first, end = piece(a, a[SAMPLES], nth, end)

    return nested, STEP
