"""Squared distances of samples from vectors."""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, call5
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.trees.distances_block import DISTANCES, Distances

X, VECTORS, Y, N, FEATURES, COUNT, MICRO = DISTANCES["x vectors y n features count micro"]


@driver(Distances)
def distances(target):
    """Threads share the samples."""

    def distances(a, tid, nth):
        n, features, count = a[N], a[FEATURES], a[COUNT]
        first, end = piece(a, n, nth, 0)
        while first < end:
            for i in range(first, end):
                call5(a[MICRO], a[X] + i * features * 4, a[VECTORS], a[Y] + i * count * 4, features, count)
            first, end = piece(a, n, nth, end)

    return distances, STEP
