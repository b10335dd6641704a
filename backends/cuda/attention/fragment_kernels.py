"""What a warp does for attention on tensor cores: scores of its queries and keys, then their powers by its values.

The sums of the first product are where the left operand of the second one is wanted: of 16 keys, two groups of 8 sums, rounded and
packed by pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from graphc.backends.cuda.codegen.device import device
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.guarded import truth
from graphc.backends.cuda.codegen.ptx import SHARED, assembly, mma
from graphc.backends.cuda.product.warp_kernels import elements, left_fragments, right_fragments
from graphc.backends.llvm.emit import F32, I16, I32, memory_type
from graphc.ops._masks import hidden_from
from graphc.types import dtype_from_name

ITEM = 2  # bytes of an element
STEP = 16  # elements that one instruction multiplies
LOG2E = 1.4426950408889634
# What hides, times LOG2E, could be -inf, so that a row of nothing else has no sum; in float16 it does not cover a score's digits
HIDDEN = {"float16": 2.0**100, "bfloat16": 1.0}  # its factor
GROUP = 16  # of columns of values, in fragments that are read together: with fewer, ptxas needs more registers
_PACK = {"float16": "cvt.rn.f16x2.f32 $0, $1, $2;", "bfloat16": "cvt.rn.bf16x2.f32 $0, $1, $2;"}

# power_of_two(x): 0 for -inf, NaN for NaN
power_of_two = device(
    lambda q, a: assembly(q.b, [F32], "ex2.approx.ftz.f32 $0, $1;", "=f,f", a, effects=False)[0],
    types.float32,
    types.float32,
)


def keep_queries(rows: int, depth: int, line: int) -> Callable[..., None]:
    """keep(kept, at, signs, lane): fragments of 16 * rows rows of the tile at `at`, xored with the signs."""

    @intrinsic
    def keep(typing: Any, kept: Any, at: Any, signs: Any, lane: Any) -> Any:
        def code(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> ir.Value:
            pointers = iter(elements(context, b, signature.args[0], args[0], rows * depth // STEP * 4))
            for step in range(depth // STEP):
                for fragment in left_fragments(b, args[1], args[3], step, rows, line, ITEM):
                    for x in fragment:
                        b.store(b.xor(x, args[2]), next(pointers))
            return context.get_dummy_value()

        return types.void(kept, types.int32, types.int32, types.int32), code

    made: Callable[..., None] = keep
    return made


def score_product(
    rows: int, keys: int, depth: int, q_line: int, k_line: int, dtype: str, kept: bool
) -> Callable[..., None]:
    """multiply(scores, queries, q_at, k_at, signs, lane): scores[(i * keys / 8 + j) * 4 + e] = products of 16 * rows rows and of
    `keys` lines of the tile at `k_at`. kept: queries are as `keep_queries` left them; else they are read at `q_at`."""
    columns, fragments = keys // 8, rows * 4

    @intrinsic
    def multiply(typing: Any, scores: Any, queries: Any, q_at: Any, k_at: Any, signs: Any, lane: Any) -> Any:
        def code(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> ir.Value:
            to = elements(context, b, signature.args[0], args[0], rows * keys // 2)
            _, _, q_at, k_at, signs, lane = args
            if kept:
                held = elements(context, b, signature.args[1], args[1], depth // STEP * fragments)
            totals: list[ir.Value] = [ir.Constant(F32, 0.0)] * len(to)
            for step in range(depth // STEP):
                if kept:
                    first = step * fragments
                    left = [[b.load(p) for p in held[first + 4 * i : first + 4 * i + 4]] for i in range(rows)]
                else:
                    read = left_fragments(b, q_at, lane, step, rows, q_line, ITEM)
                    left = [[b.xor(x, signs) for x in fragment] for fragment in read]
                right = right_fragments(b, k_at, I32(0), lane, step, columns, k_line, ITEM, across=False)
                for i in range(rows):
                    for j in range(columns):
                        at = (i * columns + j) * 4
                        totals[at : at + 4] = mma(b, dtype, left[i], right[j], totals[at : at + 4])
            for pointer, value in zip(to, totals):
                b.store(value, pointer)
            return context.get_dummy_value()

        whole = types.int32
        return types.void(scores, queries, whole, whole, whole, whole), code

    made: Callable[..., None] = multiply
    return made


def value_product(rows: int, keys: int, columns: int, line: int, dtype: str) -> Callable[..., None]:
    """multiply(sums, powers, at, lane): sums[(i * columns / 8 + j) * 4 + e] += products of the powers, which lie as `score_product`
    leaves scores, and the lines of `columns` values of the tile at `at`."""
    across = columns // 8

    @intrinsic
    def multiply(typing: Any, sums: Any, powers: Any, at: Any, lane: Any) -> Any:
        def code(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> ir.Value:
            kept = elements(context, b, signature.args[0], args[0], rows * columns // 2)
            scores = [b.load(p) for p in elements(context, b, signature.args[1], args[1], rows * keys // 2)]
            totals = [b.load(p) for p in kept]
            at, lane = args[2:]
            for step in range(keys // STEP):
                left = []
                for i in range(rows):
                    first = (i * keys // 8 + 2 * step) * 4
                    pairs = ((scores[first + e + 1], scores[first + e]) for e in (0, 2, 4, 6))
                    left.append([assembly(b, [I32], _PACK[dtype], "=r,f,f", pair, effects=False)[0] for pair in pairs])
                for start in range(0, across, GROUP):
                    count = min(GROUP, across - start)
                    right = right_fragments(b, at, I32(8 * start), lane, step, count, line, ITEM, across=True)
                    for i in range(rows):
                        for j in range(count):
                            to = (i * across + start + j) * 4
                            totals[to : to + 4] = mma(b, dtype, left[i], right[j], totals[to : to + 4])
            for pointer, value in zip(kept, totals):
                b.store(value, pointer)
            return context.get_dummy_value()

        return types.void(sums, powers, types.int32, types.int32), code

    made: Callable[..., None] = multiply
    return made


# --- memory -----------------------------------------------------------------------------------------------------------
def _copy_now(q: CudaEmit, a: Sequence[ir.Value]) -> None:
    b = q.b
    before, read, after = b.block, b.append_basic_block("read"), b.append_basic_block("after")
    b.cbranch(b.icmp_signed(">", a[2], I32(0)), read, after)
    b.position_at_end(read)
    found = q.load_raw(q.pointer(a[1]), I16, 1)
    b.branch(after)
    b.position_at_end(after)
    bits = b.phi(I16)
    bits.add_incoming(ir.Constant(I16, 0), before)
    bits.add_incoming(found, read)
    b.store(bits, b.inttoptr(a[0], ir.PointerType(I16, SHARED)), align=2)


# copy_now(to, source, given): an element to shared memory, or 0 where none is given, as `copy_ahead` does it with words
copy_now = device(_copy_now, types.void, types.int32, types.int64, types.int32)


def _shared_pointer(q: CudaEmit, address: ir.Value, kind: np.dtype) -> ir.Value:
    return q.b.inttoptr(address, ir.PointerType(memory_type(kind), SHARED))


@cache
def shared_load(dtype: str) -> Callable[[int], Any]:
    """load(address): the element there, in shared memory."""
    kind = dtype_from_name(dtype)

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        return q.b.load(_shared_pointer(q, a[0], kind), align=kind.itemsize, typ=memory_type(kind))

    return device(emit, getattr(types, dtype), types.int32)


@cache
def shared_store(dtype: str) -> Callable[[int, Any], None]:
    """store(address, value): the inverse."""
    kind = dtype_from_name(dtype)

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        q.b.store(a[1], _shared_pointer(q, a[0], kind), align=kind.itemsize)

    return device(emit, types.void, types.int32, getattr(types, dtype))


def mask_pair(dtype: str, count: int) -> Callable[[bool, bool, int, int], Any]:
    """read(first, second, at, step): the elements at `at` and `step` bytes further as powers of two, each where it is wanted, or else
    0. count: 2 where they are neighbours in one word, both or none."""
    kind = dtype_from_name(dtype)
    lowest, factor, usual = (ir.Constant(F32, x) for x in (hidden_from(kind), HIDDEN[dtype], np.float32(LOG2E)))

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        b = q.b
        found: list[ir.Value] = [ir.Constant(F32, 0.0)] * 2
        for i in range(0, 2, count):
            before, read, after = b.block, b.append_basic_block("read"), b.append_basic_block("after")
            b.cbranch(truth(q, a[i]), read, after)
            b.position_at_end(read)
            at = q.pointer(b.add(a[2], a[3]) if i else a[2])
            values = q.load_run(at, kind, count)
            values = [b.fmul(v, b.select(b.fcmp_ordered("<=", v, lowest), factor, usual)) for v in values]
            b.branch(after)
            b.position_at_end(after)
            for j, value in enumerate(values):
                phi = b.phi(F32)
                phi.add_incoming(found[i + j], before)
                phi.add_incoming(value, read)
                found[i + j] = phi
        both = ir.Constant(ir.ArrayType(F32, 2), ir.Undefined)
        for i, value in enumerate(found):
            both = b.insert_value(both, value, i)
        return both

    return device(emit, types.UniTuple(types.float32, 2), types.boolean, types.boolean, types.int64, types.int64)


def scaled_run(count: int) -> Callable[[float, Any], Any]:
    """scaled(factor, run): each element times the factor."""
    kind = types.UniTuple(types.float32, count)

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        found = a[1]
        for i in range(count):
            found = q.b.insert_value(found, q.b.fmul(a[0], q.b.extract_value(a[1], i)), i)
        return found

    return device(emit, kind, types.float32, kind)


def store_run(dtype: str, count: int) -> Callable[[bool, int, Any], None]:
    """put(inside, address, run): neighbours, by one store, if they are inside."""
    kind = dtype_from_name(dtype)

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        with q.b.if_then(truth(q, a[0])):
            q.store_run([q.b.extract_value(a[2], i) for i in range(count)], q.pointer(a[1]), kind)

    return device(emit, types.void, types.boolean, types.int64, types.UniTuple(types.float32, count))
