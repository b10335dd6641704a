"""Single elements, whose size is an argument."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from graphc.backends.cpu.codegen.intrinsics import (
    copy_bytes,
    load_f32,
    load_i32,
    load_i64,
    load_u8,
    load_u16,
    load_u32,
    store_f32,
    store_i64,
    store_u8,
    store_u16,
    store_u32,
    typed_memory,
)

load_f64, store_f64 = typed_memory(types.float64)
INT32_BYTES, INT64_BYTES = np.dtype(np.int32).itemsize, np.dtype(np.int64).itemsize


@njit(error_model="numpy")
def copy_element(to, source, nbytes):
    """1, 2, 4 or 8 bytes."""
    if nbytes == 4:
        store_u32(to, load_u32(source))
    elif nbytes == 8:
        store_i64(to, load_i64(source))
    elif nbytes == 1:
        store_u8(to, load_u8(source))
    else:
        store_u16(to, load_u16(source))


@njit(error_model="numpy")
def copy_block(to, source, nbytes):
    """Any number of bytes; those of a single element by one instruction."""
    if nbytes == 4 or nbytes == 8 or nbytes == 1 or nbytes == 2:
        copy_element(to, source, nbytes)
    else:
        copy_bytes(to, source, nbytes)


@njit(error_model="numpy")
def load_integer(array, i, wide):
    """Element i of an array of int64 or, where not `wide`, of int32."""
    return load_i64(array + INT64_BYTES * i) if wide else load_i32(array + INT32_BYTES * i)


@njit(error_model="numpy")
def load_float(address, nbytes):
    """A float32 or float64, as float64."""
    return load_f64(address) if nbytes == 8 else np.float64(load_f32(address))


@njit(error_model="numpy")
def store_float(address, value, nbytes):
    """A float64, as one or as float32."""
    if nbytes == 8:
        store_f64(address, value)
    else:
        store_f32(address, np.float32(value))
