"""Loop and Scan: a program again and again.

What an iteration reads and writes moves on: elements of scanned operands and collected results by a stride, carried values
between two pieces of memory. No value is copied for that: words of the body that hold such addresses are written anew. The
last of the most trips that there may be writes the result where it belongs; if the condition ends the loop before, it may
have to be copied.
"""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import (
    STEP,
    as_block,
    block_address,
    copy_bytes,
    fill_bytes,
    load_i64,
    load_u8,
    store_i64,
    store_u8,
)
from graphc.backends.cpu.control.loop_block import BODY_AT, LOOP, MOVING, PATCH, STATE, TEAM_AT, Loop
from graphc.backends.cpu.control.subprogram_block import SUBPROGRAM
from graphc.backends.cpu.control.subprogram_njit import begin, dismiss, leads, run_steps
from graphc.backends.cpu.kernel import driver

TRIPS, FIRST, LIMIT, CONDITION, AGAIN, COUNTER, PLACES = LOOP["trips first limit condition again counter places"]
DONE, GOING = LOOP["done going"]
MOVINGS, MOVING_AT, STATES, STATES_AT, PATCHES, PATCHES_AT = LOOP[
    "moving moving_at states states_at patches patches_at"
]
START, BY, CLEAR = MOVING["start step clear"]
INITIAL, RESULT, SPARE, NBYTES = STATE["initial result spare nbytes"]
WORD, PLACE = PATCH["word place"]
MOVING_SIZE, STATE_SIZE, PATCH_SIZE = MOVING.size, STATE.size, PATCH.size
WORDS_AT, COPY = (BODY_AT + at for at in SUBPROGRAM["words_at copy"])


@driver(Loop)
def loop(target):
    """The body's steps while the condition holds, at most so many times."""

    def loop(a, tid, nth):
        if leads(a, TEAM_AT, nth):
            begin(a, BODY_AT)
            copy, words = a[COPY], block_address(a) + 8 * a[WORDS_AT]
            moving, states, patches = a[MOVINGS], a[STATES], a[PATCHES]
            places = as_block(a[PLACES])
            first, trips, going = 0, a[TRIPS], True
            if a[FIRST] != 0:
                first = load_i64(a[FIRST])
            if a[LIMIT] != 0:
                trips = min(trips, load_i64(a[LIMIT]) - first)
            if a[CONDITION] != 0:
                going = load_u8(a[CONDITION]) != 0
            for i in range(moving):
                places[i] = a[a[MOVING_AT] + MOVING_SIZE * i + START]
            for i in range(states):
                places[moving + 2 * i] = a[a[STATES_AT] + STATE_SIZE * i + INITIAL]
            done = 0
            while going and done < trips:
                to = RESULT if (trips - done) & 1 != 0 else SPARE
                for i in range(states):
                    places[moving + 2 * i + 1] = a[a[STATES_AT] + STATE_SIZE * i + to]
                for i in range(patches):
                    patch = a[PATCHES_AT] + PATCH_SIZE * i
                    at = 8 * a[patch + WORD]
                    store_i64(copy + at, load_i64(words + at) + places[a[patch + PLACE]])
                if a[COUNTER] != 0:
                    store_i64(a[COUNTER], first + done)
                going = run_steps(a, BODY_AT, TEAM_AT, nth)
                done += 1
                if a[AGAIN] != 0:
                    going = going and load_u8(a[AGAIN]) != 0
                for i in range(moving):
                    places[i] += a[a[MOVING_AT] + MOVING_SIZE * i + BY]
                for i in range(states):
                    places[moving + 2 * i] = places[moving + 2 * i + 1]
            for i in range(states):
                state = a[STATES_AT] + STATE_SIZE * i
                if places[moving + 2 * i] != a[state + RESULT]:
                    copy_bytes(a[state + RESULT], places[moving + 2 * i], a[state + NBYTES])
            for i in range(moving):
                record = a[MOVING_AT] + MOVING_SIZE * i
                if a[record + CLEAR] != 0:
                    fill_bytes(places[i], (a[TRIPS] - done) * a[record + BY], 0)
            if a[DONE] != 0:
                store_i64(a[DONE], done)
            if a[GOING] != 0:
                store_u8(a[GOING], 1 if going else 0)
            dismiss(a, TEAM_AT, nth)

    return loop, STEP
