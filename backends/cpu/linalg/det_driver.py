"""Determinants: elimination with the largest element of a column as pivot, in float64."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import STEP
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.linalg.det_block import DETERMINANTS, Determinants
from graphc.backends.cpu.verbs.items_njit import load_f64, load_float, store_f64, store_float


@njit(error_model="numpy")
def _swap_rows(m, n, i, j):
    for c in range(n):
        left, right = m + 8 * (i * n + c), m + 8 * (j * n + c)
        value = load_f64(left)
        store_f64(left, load_f64(right))
        store_f64(right, value)


@njit(error_model="numpy")
def _determinant(m, n):
    """Of m[n, n], which is overwritten."""
    product = 1.0
    for k in range(n):
        pivot, largest = k, abs(load_f64(m + 8 * (k * n + k)))
        for i in range(k + 1, n):
            size = abs(load_f64(m + 8 * (i * n + k)))
            if size > largest or size != size:  # NaN comes through
                pivot, largest = i, size
        if largest == 0:
            return 0.0
        if pivot != k:
            _swap_rows(m, n, pivot, k)
            product = -product
        row = m + 8 * k * n
        diagonal = load_f64(row + 8 * k)
        product *= diagonal
        for i in range(k + 1, n):
            other = m + 8 * i * n
            factor = load_f64(other + 8 * k) / diagonal
            for c in range(k + 1, n):
                store_f64(other + 8 * c, load_f64(other + 8 * c) - factor * load_f64(row + 8 * c))
    return product


@driver(Determinants, computes=True)
def determinants(target):
    """Y[i] = the determinant of X[i]. Threads share the matrices."""
    X, Y, COUNT, N, ITEM, SCRATCH, STRIDE = DETERMINANTS["x y count n item scratch stride"]

    def determinants(a, tid, nth):
        n, item, m = a[N], a[ITEM], a[SCRATCH] + tid * a[STRIDE]
        for k in range(a[COUNT] * tid // nth, a[COUNT] * (tid + 1) // nth):
            x = a[X] + k * n * n * item
            for i in range(n * n):
                store_f64(m + 8 * i, load_float(x + i * item, item))
            store_float(a[Y] + k * item, _determinant(m, n), item)

    return determinants, STEP
