"""Kernels made of passes, and weighted sums.

What a thread does with an element is LLVM IR made from the passes (`_Lane`); how threads share rows and columns is below it.
Several threads share a row or column: each takes elements in strides, and what their elements combine to is combined in a
tree, the same way in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import cuda
from numba.cuda import types

from graphc.backends.cuda.codegen.device import device, function_of, load, register, store, word
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.loops import indices, place
from graphc.backends.cuda.codegen.threads import block, thread, thread_number
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.verbs.bits_kernels import ALL, bits_type, from_bits, to_bits
from graphc.backends.cuda.verbs.passes_block import BLEND, PASSES, BlendAxis, ColumnPasses, RowPasses
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.combine import combined, identity_of
from graphc.backends.llvm.emit import I64, i64, register_type
from graphc.expr import Expr
from graphc.lower.kernel import Pass
from graphc.types import dtype_from_name

TOTAL, LENGTH, N, SHIFT, DIMS = PASSES["total length n shift dims"]
REF, STEP, STRIDES = PASSES.in_record("ref step strides")


class _Lane:
    """What one thread does. Its state is words: of each operand and output the address (or the count) where its row or column
    begins, their byte steps, the results of the passes as bits.

    down: columns, where a number of a thread is a column's; else it is a row's.
    """

    def __init__(
        self,
        kinds: str,
        dtypes: Sequence[str],
        passes: Sequence[Pass],
        outputs: Sequence[tuple[str, Expr]],
        loops: int,
        down: bool,
    ) -> None:
        self.passes, self.outputs, self.loops, self.down = passes, outputs, loops, down
        self.operands = len(kinds)
        self.kinds = kinds + "".join(kind for kind, _ in outputs)
        self.dtypes = [*map(dtype_from_name, dtypes), *(value.dtype for _, value in outputs)]
        self.words = 2 * len(self.kinds) + len(passes)
        self.bits = bits_type(*(p.map.dtype for p in passes))

    def functions(self) -> tuple[Callable[..., Any], ...]:
        """For kernels:

        start(a, number): the state
        first(k): of pass k the bits that change nothing
        step(state, k, s, j, total): with element j of segment s, or of step s down a column
        both(k, total, other): combined
        finish(state, k, total): the state with the result of pass k
        put(state, s, j): stores what there is of each element; put_numbers(state): of each row or column
        """
        state, bits, whole = types.UniTuple(types.int64, self.words), self.bits, types.int64
        return (
            device(self._start, state, whole, whole),
            device(self._first, bits, whole),
            device(self._step, bits, state, whole, whole, whole, bits),
            device(self._both, bits, whole, bits, bits),
            device(self._finish, state, state, whole, bits),
            device(self._put, types.void, state, whole, whole),
            device(self._put_numbers, types.void, state),
        )

    # --- the state ---------------------------------------------------------------------------------------------------
    def _start(self, q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        b, table, number, column = q.b, q.pointer(a[0]), a[1], i64(0)
        if self.down:
            n = q.slot(table, N)
            number = b.udiv(a[1], n)
            column = b.sub(a[1], b.mul(number, n))
        at = indices(q, number, table, DIMS, self.loops)
        starts, steps = [], []
        for i, (kind, dtype) in enumerate(zip(self.kinds, self.dtypes)):
            record = PASSES.size + PASSES.record_size * i
            first = q.slot(table, record + REF)
            if kind != "c":
                first = place(q, first, at, table, record + STRIDES)
            if self.down and (kind == "v" or i >= self.operands):
                first = b.add(first, b.mul(column, i64(dtype.itemsize)))
            starts.append(first)
            steps.append(q.slot(table, record + STEP))
        state = ir.Constant(ir.ArrayType(I64, self.words), None)
        for i, value in enumerate([*starts, *steps]):
            state = b.insert_value(state, value, i)
        return state

    def _address(self, q: CudaEmit, state: ir.Value, i: int, s: ir.Value, j: ir.Value) -> ir.Value:
        b, count = q.b, len(self.kinds)
        at = b.add(b.extract_value(state, i), b.mul(s, b.extract_value(state, count + i)))
        return q.pointer(b.add(at, b.mul(j, i64(self.dtypes[i].itemsize))) if self.kinds[i] == "v" else at)

    def _fetch(
        self, q: CudaEmit, state: ir.Value, s: ir.Value, j: ir.Value, last: ir.Value | None = None, k: int = -1
    ) -> Callable[[int], ir.Value]:
        """The operands of expressions. last: the result of pass k, which is not finished yet."""

        def operand(i: int) -> ir.Value:
            of_pass = i - self.operands
            if of_pass >= 0:
                if of_pass == k:
                    return last
                raw = q.b.extract_value(state, 2 * len(self.kinds) + of_pass)
                return from_bits(q, raw, self.passes[of_pass].finish.dtype)
            if self.kinds[i] == "c":
                return expr_code.convert(q, q.b.extract_value(state, i), dtype_from_name("int64"), self.dtypes[i], 1)
            return q.load(self._address(q, state, i, s, j), self.dtypes[i], 1)

        return operand

    # --- passes ------------------------------------------------------------------------------------------------------
    def _of_pass(self, q: CudaEmit, k: ir.Value, kind: ir.Type, make: Callable[[int, Pass], ir.Value]) -> ir.Value:
        """What `make` gives for pass number k."""
        if len(self.passes) == 1:
            return make(0, self.passes[0])
        made = q.variable(kind)
        for i, p in enumerate(self.passes):
            with q.b.if_then(q.b.icmp_signed("==", k, i64(i))):
                q.b.store(make(i, p), made)
        return q.b.load(made)

    @property
    def _kind(self) -> ir.Type:
        return ir.IntType(self.bits.bitwidth)

    def _first(self, q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        def make(i: int, p: Pass) -> ir.Value:
            value = q.const(identity_of(p.combine, p.map.dtype), register_type(p.map.dtype), 1)
            return to_bits(q, value, self.bits)

        return self._of_pass(q, a[0], self._kind, make)

    def _step(self, q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        state, k, s, j, total = a

        def make(i: int, p: Pass) -> ir.Value:
            value = expr_code.emit(q, p.map, self._fetch(q, state, s, j), 1)
            if p.keep:
                q.store(value, self._address(q, state, self.operands, s, j), p.map.dtype, 1)
            value = combined(q, p.combine, p.map.dtype, from_bits(q, total, p.map.dtype), value)
            return to_bits(q, value, self.bits)

        return self._of_pass(q, k, self._kind, make)

    def _both(self, q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        def make(i: int, p: Pass) -> ir.Value:
            x, y = (from_bits(q, bits, p.map.dtype) for bits in a[1:])
            return to_bits(q, combined(q, p.combine, p.map.dtype, x, y), self.bits)

        return self._of_pass(q, a[0], self._kind, make)

    def _finish(self, q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        state, k, total = a
        zero = i64(0)

        def make(i: int, p: Pass) -> ir.Value:
            given = self._fetch(q, state, zero, zero, from_bits(q, total, p.map.dtype), i)
            return to_bits(q, expr_code.emit(q, p.finish, given, 1), types.int64)

        result = self._of_pass(q, k, I64, make)
        for i in range(len(self.passes)):
            at = 2 * len(self.kinds) + i
            mine = q.b.icmp_signed("==", k, i64(i))
            before = q.b.extract_value(state, at)
            state = q.b.insert_value(state, q.b.select(mine, result, before), at)
        return state

    def _put(self, q: CudaEmit, a: Sequence[ir.Value]) -> None:
        self._store(q, "v", *a)

    def _put_numbers(self, q: CudaEmit, a: Sequence[ir.Value]) -> None:
        self._store(q, "s", a[0], i64(0), i64(0))

    def _store(self, q: CudaEmit, wanted: str, state: ir.Value, s: ir.Value, j: ir.Value) -> None:
        for i, (kind, value) in enumerate(self.outputs):
            if kind == wanted:
                result = expr_code.emit(q, value, self._fetch(q, state, s, j), 1)
                q.store(result, self._address(q, state, self.operands + i, s, j), value.dtype, 1)


@makes(RowPasses)
def row_passes(
    kinds: str,
    dtypes: tuple[str, ...],
    passes: tuple[Pass, ...],
    outputs: tuple[tuple[str, Expr], ...],
    loops: int,
    segments: bool,
    threads: int,
) -> Code:
    """2^shift neighbouring threads share a row: those of a part of a warp, or of the whole block."""
    lane = _Lane(kinds, dtypes, passes, outputs, loops, down=False)
    start, first, step, both, finish, put, put_numbers = lane.functions()
    bits, warps, count, elements = lane.bits, threads // 32, len(passes), any(kind == "v" for kind, _ in outputs)

    def row_passes(a):
        of_warps = cuda.shared.array(warps, bits)
        t = thread()
        lanes = 1 << word(a, SHIFT)
        row = thread_number(threads) >> word(a, SHIFT)
        inside = row < word(a, TOTAL)
        state = start(a, min(row, word(a, TOTAL) - 1))
        length = word(a, LENGTH) if inside else 0
        n = max(word(a, N), 1)
        at = t & (lanes - 1)
        s0, j0, up, over = 0, at, 0, lanes  # where a thread begins, and how far it goes
        if segments:
            s0, up = at // n, lanes // n
            j0, over = at - s0 * n, lanes - up * n
        for k in range(count):
            total = first(k)
            i, s, j = at, s0, j0
            while i < length:
                total = step(state, k, s, j, total)
                i += lanes
                j += over
                if segments:
                    s += up
                    if j >= n:
                        j -= n
                        s += 1
            apart = 1
            while apart < lanes and apart < 32:
                total = both(k, total, cuda.shfl_xor_sync(ALL, total, apart))
                apart *= 2
            if lanes > 32:
                if t & 31 == 0:
                    of_warps[t >> 5] = total
                cuda.syncthreads()
                total = of_warps[t & (warps - 1)]
                apart = 1
                while apart < warps:
                    total = both(k, total, cuda.shfl_xor_sync(ALL, total, apart))
                    apart *= 2
                cuda.syncthreads()
            state = finish(state, k, total)
        if elements:
            i, s, j = at, s0, j0
            while i < length:
                put(state, s, j)
                i += lanes
                j += over
                if segments:
                    s += up
                    if j >= n:
                        j -= n
                        s += 1
        if inside and at == 0:
            put_numbers(state)

    return Code(row_passes, threads)


@makes(ColumnPasses)
def column_passes(
    kinds: str,
    dtypes: tuple[str, ...],
    passes: tuple[Pass, ...],
    outputs: tuple[tuple[str, Expr], ...],
    loops: int,
) -> Code:
    """2^shift neighbouring columns a block; threads that far apart share one."""
    lane = _Lane(kinds, dtypes, passes, outputs, loops, down=True)
    start, first, step, both, finish, put, put_numbers = lane.functions()
    bits, count, elements = lane.bits, len(passes), any(kind == "v" for kind, _ in outputs)

    def column_passes(a):
        shared = cuda.shared.array(THREADS, bits)
        t = thread()
        width = 1 << word(a, SHIFT)
        share, shares = t >> word(a, SHIFT), THREADS >> word(a, SHIFT)
        column = block() * width + (t & (width - 1))
        inside = column < word(a, TOTAL)
        state = start(a, min(column, word(a, TOTAL) - 1))
        length = word(a, LENGTH) if inside else 0
        for k in range(count):
            total = first(k)
            i = share
            while i < length:
                total = step(state, k, i, 0, total)
                i += shares
            if shares > 1:
                shared[t] = total
                cuda.syncthreads()
                apart = THREADS // 2
                while apart >= width:
                    if t < apart:
                        shared[t] = both(k, shared[t], shared[t + apart])
                    cuda.syncthreads()
                    apart //= 2
                total = shared[t & (width - 1)]
                cuda.syncthreads()
            state = finish(state, k, total)
        if elements:
            i = share
            while i < length:
                put(state, i, 0)
                i += shares
        if inside and share == 0:
            put_numbers(state)

    return Code(column_passes)


# --- weighted sums ------------------------------------------------------------------------------------------------------
B_TOTAL, X, Y, B_N, INNER, X_BYTES, TAPS, OFFSETS, WEIGHTS = BLEND["total x y n inner x_bytes taps offsets weights"]


@makes(BlendAxis)
def blend(dtype: str, term: Expr, finish: Expr) -> Code:
    source, wide = dtype_from_name(dtype), term.dtype
    item, weight_item, result_item = source.itemsize, wide.itemsize, finish.dtype.itemsize

    def weighted(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        """total + weight * term(the element at an address)."""
        x = q.load(q.pointer(a[2]), source, 1)
        return q.fma(a[1], expr_code.emit(q, term, [x], 1), a[0])

    zero = device(lambda q, a: q.const(0, register_type(wide), 1), register(wide))
    add = device(weighted, register(wide), register(wide), register(wide), types.int64)
    weight, finished, put = load(wide.name), function_of(finish, [wide]), store(finish.dtype.name)

    def blend(a):
        i = thread_number(THREADS)
        if i < word(a, B_TOTAL):
            inner, n, taps = word(a, INNER), word(a, B_N), word(a, TAPS)
            up = i // inner
            outer = up // n
            x = word(a, X) + outer * word(a, X_BYTES) + (i - up * inner) * item
            total = zero()
            for t in range((up - outer * n) * taps, (up - outer * n + 1) * taps):
                total = add(total, weight(word(a, WEIGHTS) + weight_item * t), x + word(word(a, OFFSETS), t))
            put(word(a, Y) + i * result_item, finished(total))

    return Code(blend)
