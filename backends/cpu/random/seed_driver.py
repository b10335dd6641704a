"""A seed that is another one in each run, step and process: the time in cycles, mixed."""

from __future__ import annotations

import numpy as np
from numba import njit

from graphc.backends.cpu.codegen.intrinsics import STEP, cycles, store_i64
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.random.seed_block import SEED, Seed


@njit(error_model="numpy")
def _mixed(x):
    """Every bit of x changes half of the result's (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014)."""
    x = np.uint64(x)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64(x ^ (x >> np.uint64(31)))


@driver(Seed)
def seed(target):
    """Y = the counter of cycles, the place of the arena and the step's salt, mixed."""
    Y, SALT = SEED["y salt"]

    def seed(a, tid, nth):
        if tid == 0:
            store_i64(a[Y], _mixed(_mixed(_mixed(a[Y]) + cycles()) + a[SALT]))

    return seed, STEP
