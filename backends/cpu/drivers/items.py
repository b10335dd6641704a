"""Copies of single elements, and of blocks of them."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import (
    copy_bytes,
    load_i64,
    load_u8,
    load_u16,
    load_u32,
    store_i64,
    store_u8,
    store_u16,
    store_u32,
)


@njit(error_model="numpy")
def copy_item(to, source, nbytes):
    """Any number of bytes; those of a single element by one instruction."""
    if nbytes == 4:
        store_u32(to, load_u32(source))
    elif nbytes == 8:
        store_i64(to, load_i64(source))
    elif nbytes == 1:
        store_u8(to, load_u8(source))
    elif nbytes == 2:
        store_u16(to, load_u16(source))
    else:
        copy_bytes(to, source, nbytes)
