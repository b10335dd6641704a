"""Words that say when they were written: 32 bits of data below a tag of 32, written and read as one.

Blocks of a launch that run at once hand each other numbers so, without a barrier between them: who needs a word reads it until it
has the tag that he waits for. Data and tag are one access, so nobody sees one without the other, and no fence is needed. Accesses
are relaxed, of the GPU's scope: they go past L1. Who writes a place again must know that everybody has read it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.cuda import types

from graphc.backends.cuda.codegen.device import device, register
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.ptx import assembly
from graphc.backends.llvm.emit import F32, I32, I64

WORD = 8  # bytes of a tagged word
PAIR = 2  # words of one read
_WRITE = "st.relaxed.gpu.global.u64 [$0], $1;"
_WRITE_PAIR = "st.relaxed.gpu.global.v2.u64 [$0], {$1, $2};"
_READ_PAIR = "ld.relaxed.gpu.global.v2.u64 {$0, $1}, [$2];"
_TAG = ir.Constant(I64, 32)


def words_of(dtype: np.dtype) -> int:
    """Tagged words of a number."""
    return dtype.itemsize // 4


@cache
def publish(dtype: np.dtype) -> Callable[[int, Any, int], None]:
    """publish(address, value, tag): address: a multiple of the bytes of its words."""

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        b, (address, value, tag) = q.b, a
        above = b.shl(b.zext(tag, I64), _TAG)
        if value.type == F32:
            assembly(b, [], _WRITE, "l,l,~{memory}", [address, b.or_(b.zext(b.bitcast(value, I32), I64), above)])
            return
        bits = b.bitcast(value, I64)
        halves = b.zext(b.trunc(bits, I32), I64), b.lshr(bits, _TAG)
        assembly(b, [], _WRITE_PAIR, "l,l,l,~{memory}", [address, *(b.or_(half, above) for half in halves)])

    return device(emit, types.void, types.int64, register(dtype), types.int32)


@cache
def take(pairs: int, stride: int, pitch: int, count: int) -> Callable[..., int]:
    """take(got, address, pair, used, tag): what is in `pairs` pairs, `stride` from one to the next, the first of which is `pair`, at
    this address; into the local array `got` of int32. Gives 1 where all have the tag, else 0. The words are lines of `pitch`, `used`
    of each are ever written, and `count` in all: for others there is 0.
    """

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        b, (got, address, pair, used, tag) = q.b, a
        read = [
            assembly(b, [I64, I64], _READ_PAIR, "=l,=l,l,~{memory}", [b.add(address, I64(k * stride * PAIR * WORD))])
            for k in range(pairs)
        ]
        ready = ir.Constant(ir.IntType(1), 1)
        for i, word in enumerate(word for two in read for word in two):
            number = b.add(b.mul(pair, I32(PAIR)), I32(i // PAIR * stride * PAIR + i % PAIR))
            exists = b.icmp_unsigned("<", b.urem(number, I32(pitch)), used)
            exists = b.and_(exists, b.icmp_unsigned("<", number, I32(count)))
            tagged = b.icmp_unsigned("==", b.trunc(b.lshr(word, _TAG), I32), tag)
            ready = b.and_(ready, b.or_(tagged, b.not_(exists)))
            data = b.select(exists, b.trunc(word, I32), I32(0))
            q.store_raw(data, q.offset(got, I64(4 * i)))
        return b.zext(ready, I32)

    return device(emit, types.int32, types.voidptr, types.int64, types.int32, types.int32, types.int32)


@cache
def keep(pairs: int, stride: int) -> Callable[..., None]:
    """keep(got, to, pair): the data of these pairs goes to where it belongs in the array at `to`."""

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        b, (got, to, pair) = q.b, a
        first = q.offset(to, b.mul(b.zext(pair, I64), I64(4 * PAIR)))
        for k in range(pairs):
            words = (q.load_raw(q.offset(got, I64(4 * (PAIR * k + i))), I32, 1) for i in range(PAIR))
            both = ir.Constant(ir.VectorType(I32, PAIR), ir.Undefined)
            for i, word in enumerate(words):
                both = b.insert_element(both, word, I32(i))
            q.store_raw(both, q.offset(first, I64(4 * PAIR * stride * k)))

    return device(emit, types.void, types.voidptr, types.voidptr, types.int32)


# --- numbers as two of half precision -----------------------------------------------------------------------------------
@cache
def publish_halves(dtype: np.dtype) -> Callable[[int, Any, int], None]:
    """publish_halves(address, value, tag): a float32 as the nearest number of a dtype of 16 bits, and below it what that lacks."""

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        b, (address, value, tag) = q.b, a

        def bits(x: ir.Value) -> ir.Value:
            return b.zext(b.bitcast(x, ir.IntType(16)), I32)

        upper = q.narrow(value, dtype, 1)
        rest = b.fsub(value, q.widen(upper, dtype, 1))
        rest = b.select(b.fcmp_unordered("uno", rest, rest), ir.Constant(F32, 0.0), rest)  # of what is not finite
        data = b.or_(bits(upper), b.shl(bits(q.narrow(rest, dtype, 1)), I32(16)))
        word = b.or_(b.zext(data, I64), b.shl(b.zext(tag, I64), _TAG))
        assembly(b, [], _WRITE, "l,l,~{memory}", [address, word])

    return device(emit, types.void, types.int64, types.float32, types.int32)


@cache
def keep_halves(pairs: int, stride: int, pitch: int, line: int, plane: int) -> Callable[..., None]:
    """keep_halves(got, to, pair): as `keep`, of rows of `pitch` numbers: upper halves to lines of `line` bytes, lower ones `plane` bytes
    behind them."""

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        b, (got, to, pair) = q.b, a
        for k in range(pairs):
            first, second = (q.load_raw(q.offset(got, I64(4 * (PAIR * k + i))), I32, 1) for i in range(PAIR))
            number = b.mul(b.add(pair, I32(k * stride)), I32(PAIR))
            row = b.udiv(number, I32(pitch))
            column = b.sub(number, b.mul(row, I32(pitch)))
            place = q.offset(to, b.zext(b.add(b.mul(row, I32(line)), b.mul(column, I32(2))), I64))
            low, high = I32(0xFFFF), I32(16)
            upper = b.or_(b.and_(first, low), b.shl(second, high))
            q.store_raw(upper, place)
            q.store_raw(b.or_(b.lshr(first, high), b.and_(second, b.not_(low))), q.offset(place, I64(plane)))

    return device(emit, types.void, types.voidptr, types.voidptr, types.int32)
