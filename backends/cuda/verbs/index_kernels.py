"""Reading and writing at positions that come from data. A position out of range is reported, and nothing is touched.

Places are numbered over loops; along each, the address of the positions and an offset of the data advance by byte strides. A
place is that offset plus, for each axis that it is looked up in, the position times the axis' stride.
"""

from __future__ import annotations

from collections.abc import Callable

from numba.cuda import types
from numba.cuda.extending import register_jitable

from graphc import expr as e
from graphc.backends.cuda.codegen import atomics
from graphc.backends.cuda.codegen.device import device, function_of, load, move, store, word
from graphc.backends.cuda.codegen.threads import thread_number
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.verbs.index_block import (
    GATHER,
    LOOKUP,
    POSITIONS,
    REVERSE,
    SCATTER_COMBINE,
    SCATTER_LAST,
    SCATTER_MARK,
    SCATTER_PLACES,
    Gather,
    Reverse,
    ScatterCombine,
    ScatterLast,
    ScatterMark,
    ScatterPlaces,
)
from graphc.dtypes import is_float
from graphc.expr import Expr
from graphc.types import dtype_from_name

INDICES, WIDE = POSITIONS["indices wide"]
TOTAL, NEGATIVE, LOOPS, DIMS, INDEX_STRIDES = LOOKUP["total negative loops dims index_strides"]
DATA_STRIDES, AXIS_COUNT, AXES = LOOKUP["data_strides axis_count axes"]

divide = device(
    lambda q, a: q.b.udiv(a[0], a[1]), types.int64, types.int64, types.int64
)  # of numbers that are not negative
load_narrow, load_word, store_word = load("int32"), load("int64"), store("int64")
exchange, exchange_if, raise_to, fence = atomics.exchange, atomics.exchange_if, atomics.raise_to, atomics.fence
atomic_read = atomics.read


@register_jitable
def position_at(a, number):
    """Number `number` of the positions."""
    if word(a, WIDE) != 0:
        return load_word(word(a, INDICES) + 8 * number)
    return types.int64(load_narrow(word(a, INDICES) + 4 * number))


def reporter(value_at: Callable) -> Callable:
    """What reports a position, whose value is `value_at(a, number)`."""

    @register_jitable
    def report(a, words, number):
        """Position `number` is out of range. What stays in the two words is of the first that is: 1 + its number, its value.

        Whoever makes the number smaller writes the value of the number that it then finds, until it finds the same again: of
        all these writes the last one is of the smallest number.
        """
        new = number + 1
        old = atomic_read(words)
        while old == 0 or new < old:
            found = exchange_if(words, old, new)
            if found != old:
                old = found
                continue
            while True:
                fence()
                exchange(words + 8, value_at(a, new - 1))
                fence()
                old = atomic_read(words)
                if old == new:
                    break
                new = old

    return report


report = reporter(position_at)


@register_jitable
def find(a, number, words, tells):
    """Byte offset of a place, or -1 where a position is out of range. words: of the report. tells: by this thread?"""
    index, offset = 0, 0
    for d in range(word(a, LOOPS)):
        extent = word(a, DIMS + d)
        up = divide(number, extent)
        at = number - up * extent
        index += at * word(a, INDEX_STRIDES + d)
        offset += at * word(a, DATA_STRIDES + d)
        number = up
    index >>= 3 if word(a, WIDE) != 0 else 2
    for axis in range(word(a, AXIS_COUNT)):
        position, size = position_at(a, index + axis), word(a, AXES + 2 * axis)
        if position < 0 and word(a, NEGATIVE) != 0:
            position += size
        if position < 0 or position >= size:
            if tells:
                report(a, words, index + axis)
            return -1
        offset += position * word(a, AXES + 2 * axis + 1)
    return offset


# --- reading ----------------------------------------------------------------------------------------------------------
@makes(Gather)
def gather(item: int) -> Code:
    """A thread per item; zeros where a position is out of range. Each thread looks its place up anew: divisions and cached loads
    for every item, so wide blocks cost no memory traffic but some arithmetic."""
    X, Y, PER_PLACE, NBYTES = GATHER["x y threads block"]
    REPORT, copy, clear = 8 * GATHER.size, move(item), store(f"uint{8 * item}")

    def gather(a):
        i = thread_number(THREADS)
        if i < word(a, TOTAL):
            per_place = word(a, PER_PLACE)
            number = divide(i, per_place)
            at = i - number * per_place
            place = find(a, number, a + REPORT, at == 0)
            if word(a, NBYTES) > 0:
                y = word(a, Y) + item * i
                if place >= 0:
                    copy(y, word(a, X) + place + item * at)
                else:
                    clear(y, 0)

    return Code(gather)


@makes(Reverse)
def reverse(item: int) -> Code:
    """A thread per item."""
    X, Y, PER_STEP, ROWS, STEPS, NBYTES = REVERSE["x y threads rows steps block"]
    BATCH_STRIDE, TIME_STRIDE = REVERSE["batch_stride time_stride"]
    REPORT, copy = 8 * REVERSE.size, move(item)

    def reverse(a):
        i = thread_number(THREADS)
        if i < word(a, TOTAL):
            per_step, rows, steps = word(a, PER_STEP), word(a, ROWS), word(a, STEPS)
            row = divide(i, per_step)
            at = i - row * per_step
            entry = divide(row, rows)
            t = row - entry * rows
            length = position_at(a, entry)
            if length < 0 or length > steps:
                if t == 0 and at == 0:
                    report(a, a + REPORT, entry)
                length = 0
            if word(a, NBYTES) > 0:
                source = length - 1 - t if t < length else t
                start = entry * word(a, BATCH_STRIDE) + item * at
                stride = word(a, TIME_STRIDE)
                copy(word(a, Y) + start + t * stride, word(a, X) + start + source * stride)

    return Code(reverse)


# --- writing ----------------------------------------------------------------------------------------------------------
@makes(ScatterPlaces)
def scatter_places() -> Code:
    """A thread per place."""
    NBYTES, SLOTS, HEADS = SCATTER_PLACES["block slots heads"]
    REPORT = 8 * SCATTER_PLACES.size

    def scatter_places(a):
        i = thread_number(THREADS)
        if i < word(a, TOTAL):
            place = find(a, i, a + REPORT, True)
            if word(a, SLOTS) != 0:
                slot = divide(place, word(a, NBYTES)) if place >= 0 else -1
                store_word(word(a, SLOTS) + 8 * i, slot)
                if slot >= 0:
                    exchange(word(a, HEADS) + 8 * slot, 0)

    return Code(scatter_places)


@makes(ScatterMark)
def scatter_mark(linked: bool) -> Code:
    """A thread per place, an atomic operation each. The order within a list is any."""
    COUNT, SLOTS, HEADS, NEXT = SCATTER_MARK["total slots heads next"]

    def scatter_mark(a):
        i = thread_number(THREADS)
        if i < word(a, COUNT):
            slot = load_word(word(a, SLOTS) + 8 * i)
            if slot >= 0:
                head = word(a, HEADS) + 8 * slot
                if linked:
                    store_word(word(a, NEXT) + 8 * i, exchange(head, i + 1))
                else:
                    raise_to(head, i + 1)

    return Code(scatter_mark)


@makes(ScatterLast)
def scatter_last(item: int) -> Code:
    """A thread per item of an update."""
    COUNT, SLOTS, HEADS, Y, UPDATES, PER_PLACE = SCATTER_LAST["total slots heads y updates threads"]
    copy = move(item)

    def scatter_last(a):
        i = thread_number(THREADS)
        if i < word(a, COUNT):
            per_place = word(a, PER_PLACE)
            number = divide(i, per_place)
            slot = load_word(word(a, SLOTS) + 8 * number)
            if slot >= 0 and load_word(word(a, HEADS) + 8 * slot) == number + 1:
                to = slot * per_place + i - number * per_place
                copy(word(a, Y) + item * to, word(a, UPDATES) + item * i)

    return Code(scatter_last)


@makes(ScatterCombine)
def scatter_combine(dtype: str, reduction: str) -> Code:
    """A thread per element of an update; of a list of updates, those of the one at its head go through all.

    Of n updates of one place, integers take n steps, in any order. Floats take them in order: each is the smallest number of the
    list that is larger than the last one, n * n steps; where that is more than all places, these are looked at one by one.
    """
    COUNT, PLACES, SLOTS, HEADS, NEXT = SCATTER_COMBINE["total places slots heads next"]
    Y, UPDATES, BLOCK = SCATTER_COMBINE["y updates block"]
    kind = dtype_from_name(dtype)
    item, in_order = kind.itemsize, is_float(kind)
    both = Expr(reduction, (e.arg(0, kind), e.arg(1, kind)), kind)
    combine = function_of(Expr("cast", (both,), kind), [kind, kind])  # each step is rounded
    get, put = load(dtype), store(dtype)

    def scatter_combine(a):
        i = thread_number(THREADS)
        if i < word(a, COUNT):
            block, slots, following = word(a, BLOCK), word(a, SLOTS), word(a, NEXT)
            number = divide(i, block)
            element = i - number * block
            slot = load_word(slots + 8 * number)
            if slot >= 0 and load_word(word(a, HEADS) + 8 * slot) == number + 1:
                y = word(a, Y) + item * (slot * block + element)
                updates, step = word(a, UPDATES) + item * element, item * block
                value = get(y)
                count, k = 0, number + 1
                while k > 0:
                    if not in_order:
                        value = combine(value, get(updates + step * (k - 1)))
                    count += 1
                    k = load_word(following + 8 * (k - 1))
                if in_order and count * count > word(a, PLACES):
                    for p in range(word(a, PLACES)):
                        if load_word(slots + 8 * p) == slot:
                            value = combine(value, get(updates + step * p))
                elif in_order:
                    last = 0
                    for _ in range(count):
                        least, k = word(a, PLACES) + 1, number + 1
                        while k > 0:
                            if last < k < least:
                                least = k
                            k = load_word(following + 8 * (k - 1))
                        value = combine(value, get(updates + step * (least - 1)))
                        last = least
                put(y, value)

    return Code(scatter_combine)
