"""Products of matrices on tensor cores: a pipeline of asynchronous copies in front of mma.sync, or of wgmma."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import ptx
from emulated import array_of
from numba import cuda
from numba.cuda import types
from numba.cuda.extending import intrinsic
from numba.cuda.types import float16, float32, int32, uint16
from ptx import F32, I32, I64, assembly, data_of, shared_element


class TensorKernel(NamedTuple):
    function: Callable
    params: tuple
    threads: int
    shared: int


LDMATRIX = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0, $1, $2, $3}, [$4];"
OPERATION = {
    "f16": "m16n8k16.row.col.f32.f16.f16.f32",
    "bf16": "m16n8k16.row.col.f32.bf16.bf16.f32",
    "tf32": "m16n8k8.row.col.f32.tf32.tf32.f32",
}
ROUND = "cvt.rn.tf32.f32 $0, $1;"


def make_warp_product(rows: int, columns: int, depth: int, kind: str) -> Callable:
    """sums[(i * columns + j) * 4 + r] += A[16 rows, depth] B[8 columns, depth]^T of one warp, unrolled.

    Rows of `depth` elements in shared memory, 16-byte chunks xored with (row >> 1) & 3 where a row has 64 bytes, with row & 7 where
    it has 128. kind: tf32x3 adds three products, so that the result has the digits of float32.
    """
    item = 4 if kind.startswith("tf32") else 2
    row_bytes = depth * item
    mma = f"mma.sync.aligned.{OPERATION[kind[:4]]} "
    mma += "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};"

    @intrinsic
    def warp_product(typing, sums, shared, a_at, b_at, lane):
        def code(context, builder, signature, args):
            b = builder
            kept = [b.gep(data_of(context, b, signature.args[0], args[0]), [I32(i)]) for i in range(rows * columns * 4)]
            totals = [b.load(p) for p in kept]
            lane = args[4] if args[4].type == I32 else b.trunc(args[4], I32)
            a_base, b_base = (shared_element(context, b, signature.args[1], args[1], args[k]) for k in (2, 3))
            a_row, a_chunk = b.and_(lane, I32(15)), b.lshr(lane, I32(4))
            b_row = b.add(b.and_(lane, I32(7)), b.shl(b.lshr(lane, I32(4)), I32(3)))
            b_chunk = b.and_(b.lshr(lane, I32(3)), I32(1))

            def swizzle(row):
                return b.and_(b.lshr(row, I32(1)), I32(3)) if row_bytes == 64 else b.and_(row, I32(7))

            def rounded(bits):
                return assembly(b, [I32], ROUND, "=r,f", [b.bitcast(bits, F32)], False)[0]

            def rest(bits, large):
                less = b.fsub(b.bitcast(bits, F32), b.bitcast(large, F32))
                return assembly(b, [I32], ROUND, "=r,f", [less], False)[0]

            def load(base, row, chunk, step, first):
                at = b.shl(b.xor(b.or_(I32(2 * step), chunk), swizzle(row)), I32(4))
                address = b.add(b.add(b.add(base, b.mul(row, I32(row_bytes))), at), I32(first * row_bytes))
                return assembly(b, [I32] * 4, LDMATRIX, "=r,=r,=r,=r,r,~{memory}", [address])

            for step in range(row_bytes // 32):
                a = [load(a_base, a_row, a_chunk, step, 16 * i) for i in range(rows)]
                pairs = [load(b_base, b_row, b_chunk, step, 16 * j) for j in range(columns // 2)]
                c = [half for four in pairs for half in (four[:2], four[2:])]
                terms = [(a, c)]
                if kind.startswith("tf32"):
                    a_large, c_large = ([[rounded(x) for x in group] for group in m] for m in (a, c))
                    terms = [(a_large, c_large)]
                if kind == "tf32x3":
                    a_small = [[rest(x, y) for x, y in zip(g, h)] for g, h in zip(a, a_large)]
                    c_small = [[rest(x, y) for x, y in zip(g, h)] for g, h in zip(c, c_large)]
                    terms = [(a_small, c_large), (a_large, c_small), (a_large, c_large)]
                for left, right in terms:
                    for i in range(rows):
                        for j in range(columns):
                            at = (i * columns + j) * 4
                            given = [*left[i], *right[j], *totals[at : at + 4]]
                            constraints = "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f"
                            totals[at : at + 4] = assembly(b, [F32] * 4, mma, constraints, given)
            for pointer, value in zip(kept, totals):
                b.store(value, pointer)
            return context.get_dummy_value()

        return types.void(sums, shared, a_at, b_at, lane), code

    return warp_product


def make_product(
    kind: str, stages: int = 3, row_bytes: int = 64, pending: int | None = None, barrier: bool = True
) -> TensorKernel:
    """C[m, n] = A[m, k] B[n, k]^T in tiles of 64 x 64, 4 warps of 32 x 32.

    pending: how many groups of copies may be on their way where a stage is read; barrier: False plants a mistake.
    """
    item = 4 if kind.startswith("tf32") else 2
    depth, chunks, per_chunk = row_bytes // item, row_bytes // 16, 16 // item
    tile = 64 * depth
    b_first, ahead = stages * tile, stages - 1
    passes = 64 * chunks // 128
    step = 128 // chunks
    warp_product = make_warp_product(2, 4, depth, kind)
    wait = ptx.make_wait(stages - 2 if pending is None else pending)
    copy, commit = ptx.copy_16, ptx.commit
    element = {"f16": float16, "bf16": uint16}.get(kind, float32)
    store, pack = ptx.store_32, ptx.pack_f16 if kind == "f16" else ptx.pack_bf16
    wide, narrow_rows = item == 4, row_bytes == 64

    def product(a, b, c, m, n, k):
        shared = cuda.shared.array(0, element, alignment=128)
        thread = int32(cuda.threadIdx.x)
        lane, warp = int32(thread & 31), int32(thread >> 5)
        across = int32((n + 63) // 64)
        m0, n0 = int32(int32(cuda.blockIdx.x) // across * 64), int32(int32(cuda.blockIdx.x) % across * 64)
        sums = cuda.local.array(32, float32)
        for i in range(32):
            sums[i] = float32(0)
        row, chunk = int32(thread // chunks), int32(thread % chunks)
        swizzle = int32((row >> 1) & 3) if narrow_rows else int32(row & 7)
        to = int32(row * depth + (chunk ^ swizzle) * per_chunk)
        tiles = int32(k // depth)
        for s in range(ahead):
            if s < tiles:
                for h in range(passes):
                    r, at = int32(row + h * step), int32(s * tile + to + h * step * depth)
                    copy(shared, at, a, int32((m0 + r) * k + s * depth + chunk * per_chunk), m0 + r < m)
                    copy(shared, b_first + at, b, int32((n0 + r) * k + s * depth + chunk * per_chunk), n0 + r < n)
            commit()
        for t in range(tiles):
            wait()
            if barrier:
                cuda.syncthreads()
            s = int32(t + ahead)
            if s < tiles:
                for h in range(passes):
                    r, at = int32(row + h * step), int32(s % stages * tile + to + h * step * depth)
                    copy(shared, at, a, int32((m0 + r) * k + s * depth + chunk * per_chunk), m0 + r < m)
                    copy(shared, b_first + at, b, int32((n0 + r) * k + s * depth + chunk * per_chunk), n0 + r < n)
            commit()
            of = int32(t % stages * tile)
            warp_product(sums, shared, of + (warp >> 1) * 32 * depth, b_first + of + (warp & 1) * 32 * depth, lane)
        for i in range(2):
            for h in range(2):
                r = int32(m0 + (warp >> 1) * 32 + i * 16 + h * 8 + (lane >> 2))
                for j in range(4):
                    column = int32(n0 + (warp & 1) * 32 + j * 8 + ((lane & 3) << 1))
                    at = (i * 4 + j) * 4 + h * 2
                    if r < m and column < n:
                        if wide:
                            ptx.store_two(c, int32(r * n + column), sums[at], sums[at + 1])
                        else:
                            store(c, int32(r * n + column), pack(sums[at + 1], sums[at]))

    array = array_of(element)
    return TensorKernel(product, (array, array, array, int32, int32, int32), 128, 2 * stages * tile * item)


def make_wgmma(columns: int, kind: str) -> Callable:
    """sums of a warp group's 64 x columns += A[64, 128 bytes] B[columns, 128 bytes]^T, of tiles with the 128-byte swizzle."""
    item = 4 if kind == "tf32" else 2
    count = columns // 2
    tail = "p, 1, 1" + ("" if kind == "tf32" else ", 0, 0")
    names = ", ".join(f"${i}" for i in range(count))
    text = (
        f"{{ .reg .pred p; setp.ne.b32 p, ${2 * count + 2}, 0; wgmma.mma_async.sync.aligned.m64n{columns}k{32 // item}"
    )
    text += f".f32.{kind}.{kind} {{{names}}}, ${2 * count}, ${2 * count + 1}, {tail}; }}"
    constraints = ",".join(["=f"] * count + [str(i) for i in range(count)] + ["l", "l", "r", "~{memory}"])
    fixed = 1 << 62 | (1024 >> 4) << 32 | 1 << 16  # the swizzle, 1024 bytes between groups of 8 rows

    @intrinsic
    def wgmma(typing, sums, shared, a_at, b_at):
        def code(context, builder, signature, args):
            b = builder
            kept = [b.gep(data_of(context, b, signature.args[0], args[0]), [I32(i)]) for i in range(count)]
            totals = [b.load(p) for p in kept]

            def descriptor(at):
                address = shared_element(context, b, signature.args[1], args[1], at)
                return b.or_(b.zext(b.and_(b.lshr(address, I32(4)), I32(0x3FFF)), I64), I64(fixed))

            first, second = map(descriptor, args[2:])
            assembly(b, [], "wgmma.fence.sync.aligned;", "~{memory}", [])
            for k in range(4):
                given = [*totals, b.add(first, I64(2 * k)), b.add(second, I64(2 * k)), I32(1)]
                totals = assembly(b, [F32] * count, text, constraints, given)
            assembly(b, [], "wgmma.commit_group.sync.aligned;", "~{memory}", [])
            assembly(b, [], "wgmma.wait_group.sync.aligned 0;", "~{memory}", [])
            for pointer, value in zip(kept, totals):
                b.store(assembly(b, [F32], "", "=f,0,~{memory}", [value])[0], pointer)
            return context.get_dummy_value()

        return types.void(sums, shared, a_at, b_at), code

    return wgmma


def make_wgmma_product(kind: str, columns: int, groups: int = 2) -> TensorKernel:
    """C[64 groups, columns] = A[64 groups, k] B[columns, k]^T, a warp group for each 64 rows, one stage."""
    item = 4 if kind == "tf32" else 2
    depth, per_chunk = 128 // item, 16 // item
    threads, rows = 128 * groups, 64 * groups
    step = threads // 8
    b_first = rows * depth
    count = columns // 2
    wgmma, wait = make_wgmma(columns, kind), ptx.make_wait(0)
    copy, commit, fence = ptx.copy_16, ptx.commit, ptx.fence_proxy_async
    element: Any = float32 if item == 4 else float16
    wide = item == 4

    def product(a, b, c, k):
        shared = cuda.shared.array(0, element, alignment=1024)
        thread = int32(cuda.threadIdx.x)
        group, lane = int32(thread >> 7), int32(thread & 31)
        sums = cuda.local.array(count, float32)
        for i in range(count):
            sums[i] = float32(0)
        row, chunk = int32(thread >> 3), int32(thread & 7)
        for k0 in range(int32(0), k, int32(depth)):
            for r in range(row, int32(rows), int32(step)):
                at = int32(r * depth + (chunk ^ (r & 7)) * per_chunk)
                copy(shared, at, a, int32(r * k + k0 + chunk * per_chunk), True)
            for r in range(row, int32(columns), int32(step)):
                at = int32(b_first + r * depth + (chunk ^ (r & 7)) * per_chunk)
                copy(shared, at, b, int32(r * k + k0 + chunk * per_chunk), True)
            commit()
            wait()
            fence()
            cuda.syncthreads()
            wgmma(sums, shared, int32(group * 64 * depth), int32(b_first))
            cuda.syncthreads()
        first = int32(group * 64 + ((thread >> 5) & 3) * 16 + (lane >> 2))
        for h in range(2):
            for j in range(columns // 8):
                at = int32((first + h * 8) * columns + j * 8 + ((lane & 3) << 1))
                if wide:
                    ptx.store_two(c, at, sums[j * 4 + h * 2], sums[j * 4 + h * 2 + 1])
                else:
                    ptx.store_32(c, at, ptx.pack_f16(sums[j * 4 + h * 2 + 1], sums[j * 4 + h * 2]))

    array = array_of(element)
    return TensorKernel(product, (array, array, array, int32), threads, (rows + columns) * 128)
