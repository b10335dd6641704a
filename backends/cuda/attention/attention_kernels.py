"""Attention in flash form (Dao et al., "FlashAttention", 2022): scores of a tile of rows and a tile of keys become
powers at once, relative to the largest score so far; what was summed before is rescaled where that grows (Milakov &
Gimelshein, "Online normalizer calculation for softmax", 2018)."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir
from numba import cuda
from numba.cuda import types
from numba.cuda.types import float32, int32, int64

from graphc.backends.cuda.attention.attention_block import (
    ACROSS,
    ATTENTION,
    ATTENTION_SUMS,
    DOWN,
    EXTRA,
    THREADS,
    WARPS,
    Attention,
    AttentionSums,
)
from graphc.backends.cuda.attention.fragment_kernels import power_of_two
from graphc.backends.cuda.codegen.device import device, load, store, word
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.guarded import divide, divide_wide, load_where
from graphc.backends.cuda.codegen.runs import run_of
from graphc.backends.cuda.codegen.threads import block, thread, thread_number
from graphc.backends.cuda.kernel import THREADS as PLAIN_THREADS
from graphc.backends.cuda.kernel import Code, makes
from graphc.backends.llvm import vmath
from graphc.backends.llvm.emit import F32
from graphc.types import dtype_from_name

ALL = 0xFFFFFFFF  # lanes of a warp
WARP = 32
PAD = 4  # floats between rows in shared memory, so that neighbouring rows lie in other banks
BATCH = 8  # numbers that a thread has under way
LOWEST = float("-inf")
SMALL = -87.33  # e to this and less is subnormal: 0 here, as on the CPU


def _power(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
    """e**x for x <= 0; NaN stays."""
    b, x = q.b, a[0]
    small = b.fcmp_ordered("<", x, ir.Constant(F32, SMALL))
    power = vmath.exp_bounded(q, b.select(small, ir.Constant(F32, 0.0), x), 1)
    power = b.select(b.fcmp_unordered("uno", x, x), x, power)
    return b.select(small, ir.Constant(F32, 0.0), power)


power_of = device(_power, types.float32, types.float32)
tanh = device(lambda q, a: vmath.tanh(q, a[0], 1), types.float32, types.float32)
# larger(x, y): y where x is NaN
larger = device(
    lambda q, a: q.b.select(q.b.fcmp_ordered(">", a[0], a[1]), a[0], a[1]), types.float32, types.float32, types.float32
)
divided = device(lambda q, a: q.b.fdiv(a[0], a[1]), types.float32, types.float32, types.float32)
fetch, fetch_where, put = load("float32"), load_where("float32"), store("float32")
fetch_word = load("int64")


Y, PARTS, SPLITS, KV_HEADS, GROUP, QUERIES = ATTENTION["y parts splits kv_heads group queries"]
SIZE, V_SIZE = ATTENTION["size v_size"]
ZEROS, Y_AT, Q, K, V, MASK = ATTENTION["zeros y_strides q k v mask"]
LENGTHS, LENGTHS_STRIDE, TILES, KEYS, SCALE = ATTENTION["lengths lengths_stride tiles keys scale"]
SOFTCAP, FIRST_SEEN, END_SEEN, Q_AT = ATTENTION["softcap first_seen end_seen q_strides"]
K_AT, V_AT, MASK_AT, FOURS, KEY_FOURS = ATTENTION["k_strides v_strides mask_strides fours key_fours"]


@makes(Attention)
def attention(depth: int, columns: int, rows: int, keys: int) -> Code:
    """Thread (ty, tx) has the rows ty + DOWN i; of the scores the keys tx + ACROSS j, of the result runs of WIDE
    columns. Powers go through shared memory from the threads of half a warp to each other, so that no barrier is needed
    for them. Eight threads that read four floats each of neighbouring rows of keys meet different banks: a row has an
    odd number of fours."""
    PITCH, V_PITCH, P_PITCH = depth + PAD, columns, keys + PAD
    K_FIRST = rows * PITCH
    V_FIRST = K_FIRST + keys * PITCH
    P_FIRST = V_FIRST + keys * V_PITCH
    TABLE = (P_FIRST + rows * P_PITCH) // 2  # in words: of each row the query, then where its mask begins
    TM, TN, TC = rows // DOWN, keys // ACROSS, V_PITCH // ACROSS
    WIDE = next(w for w in (4, 2, 1) if TC % w == 0)
    RUNS, run_at, four_at = TC // WIDE, run_of("float32", WIDE), run_of("float32", 4)
    SCORES, SUMS, LEFT, RIGHT = TM * TN, TM * TC, 4 * TM, 4 * TN
    PER_WARP = keys // WARPS
    STRIPS, V_STRIPS = -(-depth // WARP), -(-columns // WARP)
    COUNT = min(BATCH if SUMS <= 32 else BATCH // 2, PER_WARP)
    Q_COUNT = min(COUNT, rows // WARPS)
    KEY_ROUNDS, ROW_ROUNDS = PER_WARP // COUNT, rows // WARPS // Q_COUNT

    def attention(a):
        shared = cuda.shared.array(0, float32, alignment=16)
        table = cuda.shared.array(0, int64, alignment=16)
        scores = cuda.local.array(SCORES, float32)
        sums = cuda.local.array(SUMS, float32)
        tops = cuda.local.array(TM, float32)
        totals = cuda.local.array(TM, float32)
        left = cuda.local.array(LEFT, float32)
        right = cuda.local.array(RIGHT, float32)
        values = cuda.local.array(TC, float32)
        moved = cuda.local.array(COUNT, float32)
        t, number = int32(thread()), int32(block())
        tx, ty, lane, warp = int32(t & (ACROSS - 1)), int32(t >> 4), int32(t & (WARP - 1)), int32(t >> 5)

        # which rows of which heads, and which part of the keys
        splits, tiles, kv_heads = int32(word(a, SPLITS)), int32(word(a, TILES)), int32(word(a, KV_HEADS))
        rest = divide(number, splits)
        split = int32(number - rest * splits)
        z = divide(rest, tiles)
        row0 = int32((tiles - 1 - int32(rest - z * tiles)) * rows)  # the last rows, which may see the most, first
        batch = divide(z, kv_heads)
        kv_head = int32(z - batch * kv_heads)
        group, queries = int32(word(a, GROUP)), int32(word(a, QUERIES))
        size, v_size = int32(word(a, SIZE)), int32(word(a, V_SIZE))
        total = int32(group * queries)
        all_keys = int32(word(a, KEYS))
        there = all_keys
        if word(a, LENGTHS) != 0:
            there = int32(min(max(fetch_word(word(a, LENGTHS) + batch * word(a, LENGTHS_STRIDE)), 0), all_keys))
        first_seen = int32(word(a, FIRST_SEEN) + there - all_keys)
        end_seen = int32(word(a, END_SEEN) + there - all_keys)
        head0 = int32(kv_head * group)

        # queries, and what is known of each row
        q_at = word(a, Q) + batch * word(a, Q_AT) + head0 * word(a, Q_AT + 1) + 4 * lane
        for strip in range(STRIPS):
            column = int32(lane + WARP * strip)
            for once in range(ROW_ROUNDS):
                for i in range(Q_COUNT):
                    row = int32(row0 + warp + WARPS * (once * Q_COUNT + i))
                    head = divide(row, queries)
                    at = q_at + head * word(a, Q_AT + 1) + int32(row - head * queries) * word(a, Q_AT + 2)
                    moved[i] = fetch_where((row < total) & (column < size), at + 4 * WARP * strip)
                if column < depth:
                    for i in range(Q_COUNT):
                        shared[(warp + WARPS * (once * Q_COUNT + i)) * PITCH + column] = moved[i]
        if t < rows:
            row = int32(min(row0 + t, total - 1))
            head = divide(row, queries)
            query = int32(row - head * queries)
            at = word(a, MASK) + batch * word(a, MASK_AT) + (head0 + head) * word(a, MASK_AT + 1)
            table[TABLE + t] = query
            table[TABLE + rows + t] = at + query * word(a, MASK_AT + 2)

        # the keys that any of them sees
        last_row = int32(min(row0 + rows, total) - 1)
        head = divide(row0, queries)
        first_query, last_query = int32(row0 - head * queries), int32(last_row - head * queries)
        if last_query >= queries:  # of several heads
            first_query, last_query = int32(0), int32(queries - 1)
        low = int32(min(max(first_query + first_seen, 0), there))
        high = int32(min(max(last_query + end_seen, 0), there))
        first_tile = divide(low, int32(keys))
        count = int32(max(divide(int32(high + keys - 1), int32(keys)) - first_tile, 0))
        each = divide(int32(count + splits - 1), splits)
        key0 = int32((first_tile + split * each) * keys)
        end = int32(min(key0 + each * keys, high))

        scale, cap = fetch(a + 8 * SCALE), fetch(a + 8 * SOFTCAP)
        k_step, v_step = word(a, K_AT + 2), word(a, V_AT + 2)
        k_at = word(a, K) + batch * word(a, K_AT) + kv_head * word(a, K_AT + 1) + (key0 + warp) * k_step + 4 * lane
        v_at = word(a, V) + batch * word(a, V_AT) + kv_head * word(a, V_AT + 1) + (key0 + warp) * v_step + 4 * lane
        # loops of constant length would be unrolled whole, and need more registers
        fours, key_fours = int32(word(a, FOURS)), int32(word(a, KEY_FOURS))
        for i in range(SUMS):
            sums[i] = float32(0)
        for i in range(TM):
            tops[i] = float32(LOWEST)
            totals[i] = float32(0)

        while key0 < end:
            for strip in range(STRIPS):
                column = int32(lane + WARP * strip)
                for once in range(KEY_ROUNDS):
                    for i in range(COUNT):
                        down = int32(WARPS * (once * COUNT + i))
                        inside = (key0 + warp + down < high) & (column < size)
                        moved[i] = fetch_where(inside, k_at + down * k_step + 4 * WARP * strip)
                    if column < depth:
                        for i in range(COUNT):
                            shared[K_FIRST + (warp + WARPS * (once * COUNT + i)) * PITCH + column] = moved[i]
            for strip in range(V_STRIPS):
                column = int32(lane + WARP * strip)
                for once in range(KEY_ROUNDS):
                    for i in range(COUNT):
                        down = int32(WARPS * (once * COUNT + i))
                        inside = (key0 + warp + down < high) & (column < v_size)
                        moved[i] = fetch_where(inside, v_at + down * v_step + 4 * WARP * strip)
                    if column < columns:
                        for i in range(COUNT):
                            shared[V_FIRST + (warp + WARPS * (once * COUNT + i)) * V_PITCH + column] = moved[i]
            cuda.syncthreads()

            # scores
            for i in range(SCORES):
                scores[i] = float32(0)
            l_at, r_at = int32(ty * PITCH), int32(K_FIRST + tx * PITCH)
            for _ in range(fours):
                for i in range(TM):
                    four = four_at(shared, l_at + DOWN * i * PITCH)
                    for c in range(4):
                        left[4 * i + c] = four[c]
                for j in range(TN):
                    four = four_at(shared, r_at + ACROSS * j * PITCH)
                    for c in range(4):
                        right[4 * j + c] = four[c]
                for c in range(4):
                    for i in range(TM):
                        for j in range(TN):
                            scores[i * TN + j] = float32(scores[i * TN + j] + left[4 * i + c] * right[4 * j + c])
                l_at, r_at = int32(l_at + 4), int32(r_at + 4)
            for i in range(SCORES):
                scores[i] = float32(scores[i] * scale)
            if cap != float32(0):
                for i in range(SCORES):
                    scores[i] = float32(tanh(scores[i]) * cap)
            if word(a, MASK) != 0:
                step = word(a, MASK_AT + 3)
                for i in range(TM):
                    at = table[TABLE + rows + ty + DOWN * i]
                    for j in range(TN):
                        key = int32(key0 + tx + ACROSS * j)
                        scores[i * TN + j] = float32(scores[i * TN + j] + fetch_where(key < high, at + key * step))
            for i in range(TM):
                query = int32(table[TABLE + ty + DOWN * i])
                for j in range(TN):
                    key = int32(key0 + tx + ACROSS * j)
                    apart = int32(key - query)
                    seen = (key < high) & (apart >= first_seen) & (apart < end_seen)
                    scores[i * TN + j] = scores[i * TN + j] if seen else float32(LOWEST)

            # their powers
            for i in range(TM):
                top = float32(LOWEST)
                for j in range(TN):
                    top = larger(scores[i * TN + j], top)
                top = larger(cuda.shfl_xor_sync(ALL, top, 1), top)
                top = larger(cuda.shfl_xor_sync(ALL, top, 2), top)
                top = larger(cuda.shfl_xor_sync(ALL, top, 4), top)
                top = larger(cuda.shfl_xor_sync(ALL, top, 8), top)
                top = larger(top, tops[i])
                base = float32(0) if top == float32(LOWEST) else top
                factor = power_of(float32(tops[i] - base))
                tops[i] = top
                mass = float32(totals[i] * factor)
                for j in range(TN):
                    power = power_of(float32(scores[i * TN + j] - base))
                    mass = float32(mass + power)
                    shared[P_FIRST + (ty + DOWN * i) * P_PITCH + tx + ACROSS * j] = power
                totals[i] = mass
                for j in range(TC):
                    sums[i * TC + j] = float32(sums[i * TC + j] * factor)
            cuda.syncwarp()

            # sums of values
            l_at, r_at = int32(P_FIRST + ty * P_PITCH), int32(V_FIRST + tx * WIDE)
            for _ in range(key_fours):
                for i in range(TM):
                    four = four_at(shared, l_at + DOWN * i * P_PITCH)
                    for c in range(4):
                        left[4 * i + c] = four[c]
                for c in range(4):
                    for j in range(RUNS):
                        run = run_at(shared, r_at + c * V_PITCH + j * (ACROSS * WIDE))
                        for w in range(WIDE):
                            values[j * WIDE + w] = run[w]
                    for i in range(TM):
                        for j in range(TC):
                            sums[i * TC + j] = float32(sums[i * TC + j] + left[4 * i + c] * values[j])
                l_at, r_at = int32(l_at + 4), int32(r_at + 4 * V_PITCH)
            cuda.syncthreads()
            key0 = int32(key0 + keys)
            k_at += keys * k_step
            v_at += keys * v_step

        for i in range(TM):
            mass = totals[i]
            mass = float32(mass + cuda.shfl_xor_sync(ALL, mass, 1))
            mass = float32(mass + cuda.shfl_xor_sync(ALL, mass, 2))
            mass = float32(mass + cuda.shfl_xor_sync(ALL, mass, 4))
            totals[i] = float32(mass + cuda.shfl_xor_sync(ALL, mass, 8))
        cuda.syncthreads()  # the table is there, where no key was
        for i in range(TM):
            row = int32(row0 + ty + DOWN * i)
            if row < total:
                if splits == 1:
                    query = int32(table[TABLE + ty + DOWN * i])
                    head = int32(head0 + divide(row, queries))
                    at = word(a, Y) + batch * word(a, Y_AT) + head * word(a, Y_AT + 1) + query * word(a, Y_AT + 2)
                    none = (totals[i] == float32(0)) & (word(a, ZEROS) != 0)
                    factor = float32(0) if none else divided(float32(1), totals[i])
                else:
                    at = word(a, PARTS) + ((z * int64(total) + row) * splits + split) * (4 * (v_size + EXTRA))
                    factor = float32(1)
                    if tx == 0:
                        put(at + 4 * v_size, tops[i])
                        put(at + 4 * v_size + 4, totals[i])
                for j in range(TC):
                    column = int32(tx * WIDE + j // WIDE * (ACROSS * WIDE) + j % WIDE)
                    if column < v_size:
                        put(at + 4 * column, float32(sums[i * TC + j] * factor))

    return Code(attention, THREADS, 8 * (TABLE + 2 * rows))


@makes(AttentionSums)
def attention_sums(dtype: str) -> Code:
    """A number of the result by each thread: sums of the splits, relative to the largest score of all."""
    TO, FROM, COUNT, SHARED, OF_GROUP, ROWS = ATTENTION_SUMS["y parts splits kv_heads group queries"]
    NO_NAN, TO_AT, TOTAL, SIZE_OF_ROW = ATTENTION_SUMS["zeros y_strides total v_size"]
    ITEM, finish = dtype_from_name(dtype).itemsize, store(dtype)
    power = power_of if dtype == "float32" else power_of_two

    def attention_sums(a):
        i = thread_number(PLAIN_THREADS)
        if i < word(a, TOTAL):
            v_size = word(a, SIZE_OF_ROW)
            record = 4 * (v_size + EXTRA)
            row = divide_wide(i, v_size)
            column = i - row * v_size
            splits, queries = word(a, COUNT), word(a, ROWS)
            heads = word(a, SHARED) * word(a, OF_GROUP)
            first = word(a, FROM) + row * splits * record
            top = float32(LOWEST)
            for s in range(splits):
                top = larger(fetch(first + s * record + 4 * v_size), top)
            base = float32(0) if top == float32(LOWEST) else top
            result, total = float32(0), float32(0)
            for s in range(splits):
                part = first + s * record
                factor = power(float32(fetch(part + 4 * v_size) - base))
                total = float32(total + fetch(part + 4 * v_size + 4) * factor)
                result = float32(result + fetch(part + 4 * column) * factor)
            none = (total == float32(0)) & (word(a, NO_NAN) != 0)
            factor = float32(0) if none else divided(float32(1), total)
            head = divide_wide(row, queries)
            query = row - head * queries
            batch = divide_wide(head, heads)
            at = word(a, TO) + batch * word(a, TO_AT) + (head - batch * heads) * word(a, TO_AT + 1)
            finish(at + query * word(a, TO_AT + 2) + ITEM * column, float32(result * factor))

    return Code(attention_sums, PLAIN_THREADS)
