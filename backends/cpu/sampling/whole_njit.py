"""Rounding to whole numbers, of numbers within int64."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(error_model="numpy")
def rounded_down(x):
    whole = np.int64(x)
    return whole - 1 if whole > x else whole


@njit(error_model="numpy")
def rounded_up(x):
    whole = np.int64(x)
    return whole + 1 if whole < x else whole


@njit(error_model="numpy")
def nearest(x):
    """Halves to the even one."""
    whole = rounded_down(x + 0.5)
    return whole - 1 if whole == x + 0.5 and whole & 1 else whole


@njit(error_model="numpy")
def is_finite(x):
    return x - x == 0
