"""Attention on tensor cores, as FlashAttention-2 has it (Dao, 2023): a warp has rows of its own, whose queries, scores, powers and sums
stay in its registers; keys and values come by asynchronous copies ahead of it. Maxima and sums of a row are of four threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from numba import cuda
from numba.cuda.types import float32, int32, int64, uint8

from graphc.backends.cuda.attention.attention_block import EXTRA, TENSOR_ATTENTION, KeyTile, TensorAttention
from graphc.backends.cuda.attention.attention_kernels import divided, fetch, fetch_word, larger, put, tanh
from graphc.backends.cuda.attention.fragment_kernels import (
    ITEM,
    copy_now,
    keep_queries,
    mask_pair,
    power_of_two,
    scaled_run,
    score_product,
    shared_load,
    shared_store,
    store_run,
    value_product,
)
from graphc.backends.cuda.codegen.device import word
from graphc.backends.cuda.codegen.guarded import divide
from graphc.backends.cuda.codegen.ptx import commit, copy_ahead, shared_address, wait_until
from graphc.backends.cuda.codegen.threads import block, thread
from graphc.backends.cuda.kernel import Code, makes
from graphc.backends.cuda.product.run_kernels import add_runs
from graphc.backends.cuda.product.warp_kernels import CHUNK, line_of, order, row_of, spread

ALL = 0xFFFFFFFF  # lanes of a warp
FLOAT = INT = 4  # bytes
WORD = 8
LOWEST = float("-inf")
SUMS = 32  # floats: rows of sums in shared memory are a multiple long

Y, PARTS, SPLITS, KV_HEADS, GROUP, QUERIES = TENSOR_ATTENTION["y parts splits kv_heads group queries"]
SIZE, V_SIZE, ZEROS, Y_AT, Q, K, V, MASK = TENSOR_ATTENTION["size v_size zeros y_strides q k v mask"]
LENGTHS, LENGTHS_STRIDE, TILES, KEYS, SCALE = TENSOR_ATTENTION["lengths lengths_stride tiles keys scale"]
SOFTCAP, FIRST_SEEN, END_SEEN, Q_AT = TENSOR_ATTENTION["softcap first_seen end_seen q_strides"]
K_AT, V_AT, MASK_AT, SIGNS = TENSOR_ATTENTION["k_strides v_strides mask_strides signs"]


def shared_of(tile: KeyTile, depth: int, columns: int) -> int:
    """Bytes of shared memory: of queries, keys and values, or of sums, which lie in their place."""
    of_key, of_value = line_of(ITEM * depth), line_of(ITEM * columns)
    lines = tile.rows * of_key + tile.stages * tile.keys * (of_key + of_value)
    return max(lines, tile.across * tile.rows * FLOAT * (-(-columns // SUMS) * SUMS + EXTRA))


@dataclass(frozen=True)
class Sharing:
    """How threads share the copies of `lines` lines of `nbytes`: a thread has chunks `across` bytes apart of every `down`-th line,
    the first ones of which are at line `t >> shift` and chunk `t & mask`."""

    lines: int
    nbytes: int
    chunk: int
    threads: int

    @property
    def wide(self) -> int:
        """Threads of a line."""
        parts = self.nbytes // self.chunk
        return min(parts & -parts, self.threads)

    @property
    def shift(self) -> int:
        return self.wide.bit_length() - 1

    @property
    def mask(self) -> int:
        return self.wide - 1

    @property
    def down(self) -> int:
        return self.threads // self.wide

    @property
    def advance(self) -> int:
        """Lines from one pass to the next, and from the last one to the next tile."""
        return min(self.down, self.lines)

    @property
    def across(self) -> int:
        return self.wide * self.chunk

    @property
    def passes(self) -> int:
        return -(-self.lines // self.down)

    @property
    def copies(self) -> Callable[[int, int, int], None]:
        return copy_now if self.chunk < FLOAT else copy_ahead(self.chunk)


def line_copy(s: Sharing) -> Callable[..., None]:
    """copy(to, number, source, part, given): what a thread copies of a line of the tile at `to`, whose own first byte `part` lies at
    `source`; `given` bytes of the line, and zeros."""
    line, copy, turn = line_of(s.nbytes), s.copies, order(line_of(s.nbytes), False, ITEM)
    rounds, across, chunk = s.nbytes // s.across, s.across, s.chunk

    @cuda.jit(device=True)
    def copy_line(to, number, source, part, given):
        at, turned = int32(to + number * line), turn(number)
        for j in range(rounds):
            byte = int32(part + j * across)
            left = int32(min(max(int32(given - byte), int32(0)), int32(chunk)))
            copy(int32(at + ((byte & int32(-CHUNK)) ^ turned) + (byte & int32(CHUNK - 1))), source + j * across, left)

    made: Callable[..., None] = copy_line
    return made


def filler(s: Sharing) -> Callable[..., int]:
    """fill(to, source, step, there, given, first, part): a tile in shared memory, of lines that lie `step` bytes below those that the
    thread has before: `there` of them, `given` bytes of each, and zeros. source: where what is the thread's in the first one lies;
    gives where it lies in the next tile. Addresses are kept by adding to them: offsets of each would need registers."""
    copy, passes, down, lines, whole = line_copy(s), s.passes, s.down, s.lines, s.lines % s.down == 0

    @cuda.jit(device=True)
    def fill(to, source, step, there, given, first, part):
        for i in range(passes):
            number = int32(first + i * down)
            if whole or number < lines:
                copy(to, number, source, part, given if number < there else int32(0))
            source += step
        return source

    made: Callable[..., int] = fill
    return made


@makes(TensorAttention)
def tensor_attention(
    dtype: str,
    tile: KeyTile,
    depth: int,
    columns: int,
    q_chunk: int,
    k_chunk: int,
    v_chunk: int,
    run: int,
    split: bool,
    mask: int,
    capped: bool,
) -> Code:
    """A thread has two rows of each 16 of its warp, `lane / 4` and 8 behind it; of 8 keys or columns 2 neighbours."""
    ROWS, TILE_KEYS, ACROSS, STAGES, THREADS = tile.rows, tile.keys, tile.across, tile.stages, tile.threads
    OWN_ROWS, OWN_KEYS = ROWS // tile.down, TILE_KEYS // ACROSS  # of a warp
    HEIGHT, RIGHT, WIDE = OWN_ROWS // 16, OWN_KEYS // 8, columns // 8
    LINES, SCORES, TOTALS = 2 * HEIGHT, HEIGHT * RIGHT * 4, HEIGHT * WIDE * 4
    OF_ROW, OF_TOTAL = RIGHT * 4, WIDE * 4
    HELD = HEIGHT * depth // 4 if tile.kept else 1
    Q_LINE, V_LINE = line_of(ITEM * depth), line_of(ITEM * columns)
    FIRST, K_BYTES = ROWS * Q_LINE, TILE_KEYS * Q_LINE
    STAGE = K_BYTES + TILE_KEYS * V_LINE
    WIDTH = -(-columns // SUMS) * SUMS
    EXTRAS = ACROSS * ROWS * WIDTH * FLOAT  # behind the sums: of each row the largest score, and the sum of its powers
    SHARED = shared_of(tile, depth, columns)
    OF_MASKS = SHARED + INT * ROWS  # behind the query of each row, where its mask begins
    OF_WARP = ROWS * EXTRA * FLOAT
    PIECES = columns // run
    AHEAD, KEPT, CAPPED, SPLIT, MASKED, PLAIN = STAGES - 1, tile.kept, capped, split, mask, not (mask or capped)
    of_q, of_k, of_v = (
        Sharing(n, ITEM * size, chunk, THREADS)
        for n, size, chunk in ((ROWS, depth, q_chunk), (TILE_KEYS, depth, k_chunk), (TILE_KEYS, columns, v_chunk))
    )
    Q_SHIFT, Q_MASK, Q_CHUNK, Q_DOWN, Q_PASSES = of_q.shift, of_q.mask, of_q.chunk, of_q.down, of_q.passes
    K_SHIFT, K_MASK, K_CHUNK, K_DOWN = of_k.shift, of_k.mask, of_k.chunk, of_k.advance
    V_SHIFT, V_MASK, V_CHUNK, V_DOWN = of_v.shift, of_v.mask, of_v.chunk, of_v.advance
    copy_query, fill_keys, fill_values = line_copy(of_q), filler(of_k), filler(of_v)
    wait, wait_for_all = wait_until(AHEAD - 1), wait_until(0)
    keep = keep_queries(HEIGHT, depth, Q_LINE)
    score = score_product(HEIGHT, OWN_KEYS, depth, Q_LINE, Q_LINE, dtype, KEPT)
    gather = value_product(HEIGHT, OWN_KEYS, columns, V_LINE, dtype)
    read_mask = mask_pair(dtype, max(mask, 1))
    write, read, scaled, add = spread(HEIGHT, WIDE, WIDTH), row_of(WIDTH, run), scaled_run(run), add_runs(run)
    finish = store_run("float32" if split else dtype, run)
    number_of, address_of, sum_of = map(shared_load, ("int32", "int64", "float32"))
    put_number, put_address, put_sum = map(shared_store, ("int32", "int64", "float32"))

    def tensor_attention(a):
        memory = shared_address(cuda.shared.array(0, uint8, alignment=128))
        scores = cuda.local.array(SCORES, float32)
        sums = cuda.local.array(TOTALS, float32)
        held = cuda.local.array(HELD, int32)
        tops = cuda.local.array(LINES, float32)
        masses = cuda.local.array(LINES, float32)
        shrinks = cuda.local.array(LINES, float32)
        t, number = int32(thread()), int32(block())
        lane, warp = int32(t & 31), int32(t >> 5)
        warp_row, warp_key = int32(warp // ACROSS * OWN_ROWS), int32(warp % ACROSS * OWN_KEYS)
        own_row = int32(warp_row + int32(lane >> 2))

        # which rows of which heads, and which part of the keys: as in attention_kernels.py, since a function that both call makes
        # the tile of 64x64 with a mask spill
        splits, tiles, kv_heads = int32(word(a, SPLITS)), int32(word(a, TILES)), int32(word(a, KV_HEADS))
        rest = divide(number, splits)
        split = int32(number - rest * splits)
        z = divide(rest, tiles)
        row0 = int32((tiles - 1 - int32(rest - z * tiles)) * ROWS)  # the last rows, which may see the most, first
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

        # the keys that any of them sees
        last_row = int32(min(row0 + ROWS, total) - 1)
        head = divide(row0, queries)
        first_query, last_query = int32(row0 - head * queries), int32(last_row - head * queries)
        if last_query >= queries:  # of several heads
            first_query, last_query = int32(0), int32(queries - 1)
        low = int32(min(max(first_query + first_seen, 0), there))
        high = int32(min(max(last_query + end_seen, 0), there))
        first_tile = divide(low, int32(TILE_KEYS))
        count = int32(max(divide(int32(high + TILE_KEYS - 1), int32(TILE_KEYS)) - first_tile, 0))
        each = divide(int32(count + splits - 1), splits)
        steps = int32(min(each, count - split * each))
        key0 = int32((first_tile + split * each) * TILE_KEYS)

        if steps > 0:
            at = word(a, Q) + batch * word(a, Q_AT) + head0 * word(a, Q_AT + 1)
            part = int32((t & Q_MASK) * Q_CHUNK)
            for i in range(Q_PASSES):
                line = int32((t >> Q_SHIFT) + i * Q_DOWN)
                row = int32(row0 + line)
                head = divide(row, queries)
                found = at + head * word(a, Q_AT + 1) + int32(row - head * queries) * word(a, Q_AT + 2) + part
                if line < ROWS:
                    copy_query(memory, line, found, part, int32(ITEM * size) if row < total else int32(0))

        # what is known of each row
        if t < ROWS:
            row = int32(min(row0 + t, total - 1))
            head = divide(row, queries)
            query = int32(row - head * queries)
            put_number(int32(memory + SHARED + INT * t), query)
            if MASKED:
                found = word(a, MASK) + batch * word(a, MASK_AT) + (head0 + head) * word(a, MASK_AT + 1)
                put_address(int32(memory + OF_MASKS + WORD * t), found + query * word(a, MASK_AT + 2))
        for i in range(LINES):
            tops[i] = float32(LOWEST)
            masses[i] = float32(0)
        for i in range(TOTALS):
            sums[i] = float32(0)
        scale, cap, signs = fetch(a + 8 * SCALE), fetch(a + 8 * SOFTCAP), int32(word(a, SIGNS))
        factor = scale if PLAIN else float32(1)  # of scores: those under a cap or a mask have it already
        mask_step = word(a, MASK_AT + 3) if MASKED == 1 else int64(ITEM)
        k_step, v_step = word(a, K_AT + 2), word(a, V_AT + 2)
        k_line, k_part = int32(t >> K_SHIFT), int32((t & K_MASK) * K_CHUNK)
        v_line, v_part = int32(t >> V_SHIFT), int32((t & V_MASK) * V_CHUNK)
        k_at = word(a, K) + batch * word(a, K_AT) + kv_head * word(a, K_AT + 1) + (key0 + k_line) * k_step + k_part
        v_at = word(a, V) + batch * word(a, V_AT) + kv_head * word(a, V_AT + 1) + (key0 + v_line) * v_step + v_part
        k_step, v_step = k_step * K_DOWN, v_step * V_DOWN
        k_bytes, v_bytes = int32(ITEM * size), int32(ITEM * v_size)
        q_own = int32(memory + warp_row * Q_LINE)
        to, of = int32(memory + FIRST), int32(memory + FIRST)
        end = int32(memory + FIRST + STAGES * STAGE)
        left = int32(high - key0)  # keys that are not copied yet
        step = int32(-AHEAD)
        while step < steps:
            if step >= 0:
                wait()
                cuda.syncthreads()
            if int32(step + AHEAD) < steps:
                k_at = fill_keys(to, k_at, k_step, left, k_bytes, k_line, k_part)
                v_at = fill_values(int32(to + K_BYTES), v_at, v_step, left, v_bytes, v_line, v_part)
                left = int32(left - TILE_KEYS)
                to = int32(to + STAGE)
                if to == end:
                    to = int32(memory + FIRST)
            commit()
            if step >= 0:
                if KEPT and step == 0:
                    keep(held, q_own, signs, lane)
                score(scores, held, q_own, int32(of + warp_key * Q_LINE), signs, lane)

                # scores under the cap and the mask, as powers of two
                if not PLAIN:
                    for i in range(SCORES):
                        scores[i] = float32(scores[i] * scale)
                first_key = int32(key0 + warp_key + 2 * (lane & 3))
                if CAPPED:
                    for i in range(SCORES):
                        scores[i] = float32(tanh(scores[i]) * cap)
                if MASKED:
                    for i in range(LINES):
                        at = address_of(int32(memory + OF_MASKS + WORD * (own_row + 8 * i))) + first_key * mask_step
                        for j in range(RIGHT):
                            key, s = int32(first_key + 8 * j), (i // 2 * RIGHT + j) * 4 + i % 2 * 2
                            first, second = key < high, key + 1 < high
                            if MASKED == 2:
                                first = key < all_keys
                            added = read_mask(first, second, at, mask_step)
                            at += 8 * mask_step
                            for e in range(2):
                                scores[s + e] = float32(scores[s + e] + added[e])
                inner = (key0 + TILE_KEYS <= high) & (key0 - last_query >= first_seen)
                if not (inner & (key0 + TILE_KEYS - first_query <= end_seen)):
                    for i in range(LINES):
                        query = number_of(int32(memory + SHARED + INT * (own_row + 8 * i)))
                        for j in range(RIGHT):
                            for e in range(2):
                                key, s = int32(first_key + 8 * j + e), (i // 2 * RIGHT + j) * 4 + i % 2 * 2 + e
                                apart = int32(key - query)
                                seen = (key < high) & (apart >= first_seen) & (apart < end_seen)
                                scores[s] = scores[s] if seen else float32(LOWEST)

                # their powers, relative to the largest so far
                grown = int32(0)
                for i in range(LINES):
                    top = tops[i]
                    for j in range(RIGHT):
                        for e in range(2):
                            top = larger(scores[i // 2 * OF_ROW + j * 4 + i % 2 * 2 + e], top)
                    top = larger(cuda.shfl_xor_sync(ALL, top, 1), top)
                    top = larger(cuda.shfl_xor_sync(ALL, top, 2), top)
                    base = float32(0) if top == float32(LOWEST) else float32(top * factor)
                    shrink = power_of_two(float32(tops[i] * factor - base))
                    tops[i] = top
                    shrinks[i] = shrink
                    grown = int32(1) if shrink != float32(1) else grown
                    mass = float32(masses[i] * shrink)
                    for j in range(RIGHT):
                        for e in range(2):
                            s = i // 2 * OF_ROW + j * 4 + i % 2 * 2 + e
                            power = power_of_two(float32(scores[s] * factor - base))
                            mass = float32(mass + power)
                            scores[s] = power
                    masses[i] = mass
                if cuda.any_sync(ALL, grown):
                    for i in range(LINES):
                        for j in range(WIDE):
                            for e in range(2):
                                s = i // 2 * OF_TOTAL + j * 4 + i % 2 * 2 + e
                                sums[s] = float32(sums[s] * shrinks[i])
                gather(sums, scores, int32(of + K_BYTES + warp_key * V_LINE), lane)
                key0 = int32(key0 + TILE_KEYS)
                of = int32(of + STAGE)
                if of == end:
                    of = int32(memory + FIRST)
            step = int32(step + 1)

        # sums as rows, where keys and values were; those of warps along the keys become one
        wait_for_all()
        cuda.syncthreads()
        place = int32(warp % ACROSS * ROWS + warp_row)
        write(sums, int32(memory + place * (WIDTH * FLOAT)), lane)
        for i in range(LINES):
            mass = masses[i]
            mass = float32(mass + cuda.shfl_xor_sync(ALL, mass, 1))
            mass = float32(mass + cuda.shfl_xor_sync(ALL, mass, 2))
            if lane & 3 == 0:
                at = int32(memory + EXTRAS + EXTRA * FLOAT * (place + 8 * i + (lane >> 2)))
                put_sum(at, float32(tops[i] * factor))
                put_sum(int32(at + FLOAT), mass)
        cuda.syncthreads()
        n = t
        while n < ROWS * PIECES:
            line = int32(n // PIECES)
            column, row = int32((n - line * PIECES) * run), int32(row0 + line)
            of = int32(memory + EXTRAS + EXTRA * FLOAT * line)
            top = float32(LOWEST)
            for w in range(ACROSS):
                top = larger(sum_of(int32(of + w * OF_WARP)), top)
            base = float32(0) if top == float32(LOWEST) else top
            shrink = power_of_two(float32(sum_of(of) - base))
            mass = float32(sum_of(int32(of + FLOAT)) * shrink)
            found = scaled(shrink, read(memory, line, column))
            for w in range(1, ACROSS):
                shrink = power_of_two(float32(sum_of(int32(of + w * OF_WARP)) - base))
                mass = float32(mass + sum_of(int32(of + w * OF_WARP + FLOAT)) * shrink)
                found = add(found, scaled(shrink, read(memory, int32(w * ROWS + line), column)))
            inside = (row < total) & (column < v_size)
            if SPLIT:
                at = word(a, PARTS) + ((z * int64(total) + row) * splits + split) * (FLOAT * (v_size + EXTRA))
                finish(inside, at + FLOAT * column, found)
                if inside & (column == 0):
                    put(at + FLOAT * v_size, top)
                    put(at + FLOAT * v_size + FLOAT, mass)
            else:
                head = divide(row, queries)
                query = int32(row - head * queries)
                at = word(a, Y) + batch * word(a, Y_AT) + (head0 + head) * word(a, Y_AT + 1) + query * word(a, Y_AT + 2)
                none = (mass == float32(0)) & (word(a, ZEROS) != 0)
                each_by = float32(0) if none else divided(float32(1), mass)
                finish(inside, at + ITEM * column, scaled(each_by, found))
            n = int32(n + THREADS)

    return Code(tensor_attention, THREADS, OF_MASKS + WORD * ROWS * (mask > 0), tile.blocks)
