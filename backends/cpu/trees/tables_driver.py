"""Numbers in sorted tables, and probabilities of classes from those of pairs."""

from __future__ import annotations

from numba import njit, types

from graphc.backends.cpu.codegen.intrinsics import STEP, copy_bytes, load_f32, load_i64, typed_memory
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.trees.tables_block import COUPLE, LOOK_UP, Couple, LookUp

X, Y, N, KEYS, SIZE, VALUES, ITEM = LOOK_UP["x y n keys size values item"]
PAIRS, P, SAMPLES, CLASSES, MEMORY, STRIDE = COUPLE["pairs y n classes memory stride"]
_load_f64, _store_f64 = typed_memory(types.float64)


@driver(LookUp, computes=True)
def look_up(target, key):
    """By bisection: no branch depends on a number."""
    load, key_bytes = {"float32": (load_f32, 4), "float64": (_load_f64, 8), "int64": (load_i64, 8)}[key]

    def look_up(a, tid, nth):
        n, keys, size, values, item = a[N], a[KEYS], a[SIZE], a[VALUES], a[ITEM]
        nan = size > 0 and load(keys + (size - 1) * key_bytes) != load(keys + (size - 1) * key_bytes)
        numbers = size - 1 if nan else size
        for i in range(n * tid // nth, n * (tid + 1) // nth):
            v = load(a[X] + i * key_bytes)
            first, left = 0, numbers
            while left > 1:
                half = left // 2
                first = first + half if load(keys + (first + half) * key_bytes) <= v else first
                left -= half
            at = size
            if v != v:
                at = numbers
            elif numbers > 0 and load(keys + first * key_bytes) == v:
                at = first
            copy_bytes(a[Y] + i * item, values + at * item, item)

    return look_up, STEP


@njit(error_model="numpy")
def _at(matrix, k, i, j):
    return matrix + 8 * (i * k + j)


@njit(error_model="numpy")
def _couple(pairs, p, k, r, q, qp, tiny, near, rounds):
    """ops/ml/coupling.py, of a sample; r, q: [k, k], qp: [k]."""
    for i in range(k):
        for j in range(i + 1, k):
            v = min(max(_load_f64(pairs), tiny), 1 - tiny)
            _store_f64(_at(r, k, i, j), v)
            _store_f64(_at(r, k, j, i), 1 - v)
            pairs += 8
    for i in range(k):
        own = 0.0
        for j in range(k):
            if i != j:
                v = _load_f64(_at(r, k, j, i))
                own += v * v
                _store_f64(_at(q, k, i, j), -v * _load_f64(_at(r, k, i, j)))
        _store_f64(_at(q, k, i, i), own)
        _store_f64(p + 8 * i, 1 / k)
    for _ in range(rounds):
        total, off = 0.0, 0.0
        for i in range(k):
            v = 0.0
            for j in range(k):
                v += _load_f64(_at(q, k, i, j)) * _load_f64(p + 8 * j)
            _store_f64(qp + 8 * i, v)
            total += v * _load_f64(p + 8 * i)
        for i in range(k):
            off = max(off, abs(_load_f64(qp + 8 * i) - total))
        if off < near / k:
            break
        for i in range(k):
            own = _load_f64(_at(q, k, i, i))
            step = (total - _load_f64(qp + 8 * i)) / own
            _store_f64(p + 8 * i, _load_f64(p + 8 * i) + step)
            total = (total + step * (step * own + 2 * _load_f64(qp + 8 * i))) / ((1 + step) * (1 + step))
            for j in range(k):
                at = qp + 8 * j
                _store_f64(at, (_load_f64(at) + step * _load_f64(_at(q, k, i, j))) / (1 + step))
                _store_f64(p + 8 * j, _load_f64(p + 8 * j) / (1 + step))


@driver(Couple, computes=True)
def couple(target, tiny, near, rounds):
    """Threads share the samples."""

    def couple(a, tid, nth):
        n, k = a[SAMPLES], a[CLASSES]
        r = a[MEMORY] + tid * a[STRIDE]
        first, end = piece(a, n, nth, 0)
        while first < end:
            for i in range(first, end):
                pairs = a[PAIRS] + i * 8 * (k * (k - 1) // 2)
                _couple(pairs, a[P] + i * 8 * k, k, r, r + 8 * k * k, r + 16 * k * k, tiny, near, rounds)
            first, end = piece(a, n, nth, end)

    return couple, STEP
