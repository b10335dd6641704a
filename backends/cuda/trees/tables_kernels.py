"""Numbers in sorted tables, squared distances, probabilities of classes from those of pairs."""

from __future__ import annotations

from numba.cuda.extending import register_jitable
from numba.cuda.types import int64

from graphc.backends.cuda.codegen.device import load, move, register, store, word
from graphc.backends.cuda.codegen.guarded import divide_wide
from graphc.backends.cuda.codegen.threads import thread_number
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.trees.tables_block import COUPLE, DISTANCES, LOOK_UP, Couple, Distances, LookUp
from graphc.types import dtype_from_name

read, write = load("float64"), store("float64")


@makes(LookUp)
def look_up(key: str, item: int) -> Code:
    """By bisection."""
    N, X, Y, KEYS, SIZE, VALUES = LOOK_UP["n x y keys size values"]
    get, put, key_bytes = load(key), move(item), dtype_from_name(key).itemsize

    def look_up(a):
        i = thread_number(THREADS)
        if i < word(a, N):
            keys, size = word(a, KEYS), word(a, SIZE)
            numbers = size  # without a NaN
            if size > 0:
                last = get(keys + (size - 1) * key_bytes)
                if last != last:
                    numbers = size - 1
            value = get(word(a, X) + i * key_bytes)
            first, left = int64(0), numbers
            while left > 1:
                half = left // 2
                if get(keys + (first + half) * key_bytes) <= value:
                    first += half
                left -= half
            at = size
            if value != value:
                at = numbers
            elif numbers > 0 and get(keys + first * key_bytes) == value:
                at = first
            put(word(a, Y) + i * item, word(a, VALUES) + at * item)

    return Code(look_up)


@makes(Distances)
def distances(dtype: str) -> Code:
    """Threads of a warp read vectors that lie beside each other; no difference is stored."""
    TOTAL, X, VECTORS, Y, FEATURES, COUNT = DISTANCES["total x vectors y features count"]
    kind, item, get, put = register(dtype), dtype_from_name(dtype).itemsize, load(dtype), store(dtype)

    def distances(a):
        number = thread_number(THREADS)
        if number < word(a, TOTAL):
            features, count = word(a, FEATURES), word(a, COUNT)
            sample = divide_wide(number, count)
            x, vector = word(a, X) + sample * features * item, word(a, VECTORS) + (number - sample * count) * item
            total = kind(0)
            for f in range(features):
                difference = kind(get(x + f * item) - get(vector + f * count * item))
                total = kind(total + kind(difference * difference))
            put(word(a, Y) + number * item, total)

    return Code(distances)


@makes(Couple)
def couple(tiny: float, near: float, rounds: int) -> Code:
    """graphc/ops/ml/coupling.py, a sample per thread at once."""
    N, PAIRS, Y, CLASSES, MEMORY, STRIDE, ALL = COUPLE["n pairs y classes memory stride threads"]

    @register_jitable
    def fill(pairs, r, q, k):
        """Matrices r and q [k, k] of a sample's pairs."""
        for i in range(k):
            for j in range(i + 1, k):
                v = min(max(read(pairs), tiny), 1.0 - tiny)
                write(r + 8 * (i * k + j), v)
                write(r + 8 * (j * k + i), 1.0 - v)
                pairs += 8
        for i in range(k):
            own = 0.0
            for j in range(k):
                if i != j:
                    v = read(r + 8 * (j * k + i))
                    own += v * v
                    write(q + 8 * (i * k + j), -v * read(r + 8 * (i * k + j)))
            write(q + 8 * (i * k + i), own)

    @register_jitable
    def products(q, p, qp, k):
        """qp = q p; p qp."""
        total = 0.0
        for i in range(k):
            v = 0.0
            for j in range(k):
                v += read(q + 8 * (i * k + j)) * read(p + 8 * j)
            write(qp + 8 * i, v)
            total += v * read(p + 8 * i)
        return total

    @register_jitable
    def improve(q, p, qp, k, total):
        for i in range(k):
            own = read(q + 8 * (i * k + i))
            step = (total - read(qp + 8 * i)) / own
            write(p + 8 * i, read(p + 8 * i) + step)
            total = (total + step * (step * own + 2.0 * read(qp + 8 * i))) / ((1.0 + step) * (1.0 + step))
            for j in range(k):
                at = qp + 8 * j
                write(at, (read(at) + step * read(q + 8 * (i * k + j))) / (1.0 + step))
                write(p + 8 * j, read(p + 8 * j) / (1.0 + step))

    def couple(a):
        number, k = thread_number(THREADS), word(a, CLASSES)
        r = word(a, MEMORY) + number * word(a, STRIDE)
        q = r + 8 * k * k
        qp = q + 8 * k * k
        for sample in range(number, word(a, N), word(a, ALL)):
            p = word(a, Y) + sample * 8 * k
            fill(word(a, PAIRS) + sample * 8 * (k * (k - 1) // 2), r, q, k)
            for i in range(k):
                write(p + 8 * i, 1.0 / k)
            for _ in range(rounds):
                total, off = products(q, p, qp, k), 0.0
                for i in range(k):
                    off = max(off, abs(read(qp + 8 * i) - total))
                if off < near / k:
                    break
                improve(q, p, qp, k, total)

    return Code(couple)
