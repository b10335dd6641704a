"""What is left of a row after its whole vectors: masked loads and stores where the CPU has them, else one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from llvmlite import ir

from graphc.backends.cpu.target import Target
from graphc.backends.llvm.emit import I32, PTR, Emit, i64, memory_type, register_type, type_suffix

Body = Callable[[ir.Value, int, "ir.Value | None"], None]  # (index, lanes, mask or None)


def can_mask(target: Target, dtypes: Iterable[np.dtype]) -> bool:
    """Are partial vectors of these dtypes one instruction? So for words of 4 and 8 bytes with AVX2 and AVX-512."""
    words = (memory_type(d) == register_type(d) and d.itemsize >= 4 for d in map(np.dtype, dtypes))
    return target.asm is not None and all(words)


def over_row(q: Emit, n: ir.Value, lanes: int, masked: bool, body: Body, start: ir.Value | None = None) -> None:
    """body(i, lanes, None) over whole vectors of [start, n), then body(i, lanes, mask) or body(i, 1, None) for the rest."""
    b = q.b
    start = start if start is not None else i64(0)
    whole = b.add(start, b.and_(b.sub(n, start), i64(-lanes)))
    with q.loop(whole, start=start, step=lanes) as i:
        body(i, lanes, None)
    if masked:
        with b.if_then(b.icmp_signed("<", whole, n)):
            body(whole, lanes, tail_mask(q, b.sub(n, whole), lanes))
    else:
        with q.loop(n, start=whole) as i:
            body(i, 1, None)


def tail_mask(q: Emit, left: ir.Value, lanes: int) -> ir.Value:
    """The first `left` lanes."""
    numbers = ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))
    return q.b.icmp_signed("<", numbers, q.splat(q.b.trunc(left, I32), lanes))


def load(q: Emit, pointer: ir.Value, dtype: np.dtype, lanes: int, mask: ir.Value | None) -> ir.Value:
    """Elements in their register type; zero where the mask is off."""
    if mask is None:
        return q.load(pointer, dtype, lanes)
    kind = q.vector(memory_type(dtype), lanes)
    name, zero = f"llvm.masked.load.{type_suffix(kind)}.p0", ir.Constant(kind, None)
    return q.call(name, kind, q.b.bitcast(pointer, PTR), ir.Constant(I32, 1), mask, zero)


def store(q: Emit, value: ir.Value, pointer: ir.Value, dtype: np.dtype, lanes: int, mask: ir.Value | None) -> None:
    """Store the elements where the mask is on."""
    if mask is None:
        q.store(value, pointer, dtype, lanes)
        return
    name = f"llvm.masked.store.{type_suffix(value.type)}.p0"
    q.call(name, ir.VoidType(), value, q.b.bitcast(pointer, PTR), ir.Constant(I32, 1), mask)


def element(q: Emit, row: ir.Value, index: ir.Value, dtype: np.dtype) -> ir.Value:
    """Pointer to element `index` of a contiguous row."""
    return q.offset(row, q.b.mul(index, i64(np.dtype(dtype).itemsize)))
