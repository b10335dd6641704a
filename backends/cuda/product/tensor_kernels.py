"""Products on tensor cores: a pipeline of asynchronous copies in front of mma.sync, or of wgmma."""

from __future__ import annotations

from numba import cuda
from numba.cuda.types import float32, int32, int64, uint8

from graphc.backends.cuda.codegen.device import word
from graphc.backends.cuda.codegen.guarded import divide
from graphc.backends.cuda.codegen.ptx import commit, copy_ahead, seen_by_groups, shared_address, wait_until
from graphc.backends.cuda.codegen.threads import block, thread, thread_number
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.product.product_block import TENSOR, TILE_SUMS, TensorProduct, TileSums
from graphc.backends.cuda.product.run_kernels import add_runs, finish_run, read_run, write_run
from graphc.backends.cuda.product.tile import Run, WarpTile
from graphc.backends.cuda.product.tile_kernels import batch_indices, start, taken
from graphc.backends.cuda.product.warp_kernels import (
    group_digits,
    group_done,
    group_product,
    order,
    row_of,
    spread,
    warp_product,
)
from graphc.expr import Expr

CHUNK = 16  # bytes of a row of a matrix that ldmatrix reads
WARP = 32
TOGETHER = 8


@cuda.jit(device=True)
def tile_of(a, number, columns, rows):
    """(column, row, what is left of the number) of a tile. columns, rows: words, how many there are. Tiles with neighbouring numbers
    are near each other, TOGETHER rows of them, so that L2 has what blocks read that run at the same time."""
    per_row, per_column = int32(word(a, columns)), int32(word(a, rows))
    rest = divide(int32(number), int32(per_row * per_column))
    number = int32(number - rest * (per_row * per_column))
    band = divide(number, int32(TOGETHER * per_row))
    first = int32(band * TOGETHER)
    number = int32(number - first * per_row)
    height = int32(min(per_column - first, TOGETHER))
    column = divide(number, height)
    return column, int32(first + number - column * height), rest


@makes(TensorProduct)
def tensor_product(
    dtype: str,
    tile: WarpTile,
    left_chunk: int,
    right_chunk: int,
    across: bool,
    expression: Expr,
    operands: tuple[str, ...],
    run: Run,
    products: int,
    dealt: bool,
) -> Code:
    item = 4 if dtype == "float32" else 2
    TILES_M, TILES_N, M, N, K, DIMS, LEFT_LINE, RIGHT_LINE = TENSOR["tiles_m tiles_n m n k dims left_line right_line"]
    PARTS, PART, PART_ROWS = TENSOR["parts part part_rows"]
    GRID, WHOLE, DEALT, EACH, SOURCE = TENSOR["grid whole dealt each source"]
    BM, BN, WM, WN, STAGES, THREADS = tile.m, tile.n, tile.wm, tile.wn, tile.stages, tile.threads
    GROUP, DEPTH = tile.group, tile.depth
    AHEAD = STAGES - 2 if GROUP else STAGES - 1  # stages: of a group, the one before is still being read
    ROW = DEPTH * item  # bytes of a line of the left tile
    LINE = BN * item if across else ROW  # of the right one
    PIECE = 128 if GROUP else LINE  # of a line: pieces of all lines, one after the other
    LEFT_BYTES, RIGHT_BYTES = BM * ROW, BN * ROW
    RAW = LEFT_BYTES + RIGHT_BYTES
    STAGE = RAW * tile.digits
    DIGITS = GROUP and item == 4  # are they made in shared memory?
    assert not DIGITS or (left_chunk == right_chunk == CHUNK and not across)
    L_PARTS, R_PARTS = ROW // left_chunk, LINE // right_chunk  # of a line
    L_LINES, R_LINES = THREADS // L_PARTS, THREADS // R_PARTS  # that all threads copy at once
    L_PASSES, R_PASSES = BM // L_LINES, (DEPTH if across else BN) // R_LINES
    ROWS, COLUMNS, PER_ROW = WM // 16, WN // 8, BN // WN
    SUMS = ROWS * COLUMNS * 4
    RUN, PER_WIDTH = run.count, WN // run.count
    RUNS = WM * PER_WIDTH // WARP  # of a thread
    copy_left, copy_right = copy_ahead(left_chunk), copy_ahead(right_chunk)
    wait, alignment = wait_until(AHEAD - 1), 1024 if GROUP else 128
    LEFT_WARPS, LEFT_STEP = (4, 64 * ROW) if GROUP else (PER_ROW, WM * ROW)  # that share rows, bytes of these
    shift, right_shift = order(ROW, False, item), order(PIECE, across, item)
    multiply = (
        group_product(BN, DEPTH, across, dtype, STAGE - RAW)
        if GROUP
        else warp_product(ROWS, COLUMNS, LINE, across, dtype, products)
    )
    done, digits = group_done(SUMS), group_digits(RAW // (THREADS * CHUNK), THREADS * CHUNK, STAGE - RAW)
    write, read = spread(ROWS, COLUMNS), row_of(WN, RUN)
    finish, keep = finish_run(TENSOR, expression, operands, run), write_run(RUN)
    left_start, right_start = start(TENSOR, "left"), start(TENSOR, "right")

    @cuda.jit(device=True, inline="always")
    def tile_part(a, memory, column_tile, row_tile, rest, first, k, rows_before, part_at):
        """k steps of the sum of a tile, from step `first` on. part_at: where they go as they are, 0 for the ending."""
        sums = cuda.local.array(SUMS, float32)
        m, n = int32(word(a, M)), int32(word(a, N))
        t = int32(thread())
        lane, warp = int32(t & 31), int32(t >> 5)
        b0, b1, b2, b3 = batch_indices(a, DIMS, rest)
        column0, row0 = int32(column_tile * BN), int32(row_tile * BM)
        left_line, right_line = word(a, LEFT_LINE), word(a, RIGHT_LINE)

        # what this thread copies: a part of every L_LINES-th line
        l_line, l_part = int32(t // L_PARTS), int32(t % L_PARTS * left_chunk)
        left = left_start(a, b0, b1, b2, b3) + (row0 + l_line) * left_line + first * item + l_part
        own = int32(
            l_line * ROW + (l_part ^ shift(l_line))
        )  # in a stage, of whole chunks; the next are THREADS chunks further
        l_step = L_LINES * left_line
        l_bytes = int32(k * item - l_part)  # from there to the row's end
        r_line, r_part = int32(t // R_PARTS), int32(t % R_PARTS * right_chunk)
        right = right_start(a, b0, b1, b2, b3) + r_line * right_line + r_part
        r_to, r_in = int32(LEFT_BYTES), r_part
        if PIECE < LINE:
            r_to, r_in = int32(LEFT_BYTES + r_part // PIECE * (DEPTH * PIECE)), int32(r_part % PIECE)
        r_step = R_LINES * right_line
        if across:
            right += first * right_line + column0 * item
            r_bytes, r_first, r_end = int32((n - column0) * item - r_part), r_line, k
        else:
            right += column0 * right_line + first * item
            r_bytes, r_first, r_end = int32(k * item - r_part), int32(column0 + r_line), n

        for i in range(SUMS):
            sums[i] = float32(0)
        steps = int32((k + DEPTH - 1) // DEPTH)
        to, of = memory, memory
        end = int32(memory + STAGES * STAGE)
        step = int32(-AHEAD)
        while True:  # at least once, or ptxas has sums that no wgmma wrote, and makes each of them wait
            if step >= 0:
                wait()
                if DIGITS:
                    digits(int32(of + own))
                if GROUP:
                    seen_by_groups()
                cuda.syncthreads()
            if step + AHEAD < steps:
                given = int32(min(max(l_bytes, 0), left_chunk))
                for i in range(L_PASSES):
                    line = int32(l_line + i * L_LINES)
                    at = int32(to + line * ROW + ((l_part & -CHUNK) ^ shift(line)) + (l_part & (CHUNK - 1)))
                    copy_left(at, left + i * l_step, given if row0 + line < m else 0)
                left += ROW
                l_bytes = int32(l_bytes - ROW)
                given = int32(min(max(r_bytes, 0), right_chunk))
                for i in range(R_PASSES):
                    line = int32(r_line + i * R_LINES)
                    at = int32(to + r_to + line * PIECE + ((r_in & -CHUNK) ^ right_shift(line)))
                    at = int32(at + (r_in & (CHUNK - 1)))
                    copy_right(at, right + i * r_step, given if r_first + i * R_LINES < r_end else 0)
                if across:
                    right += DEPTH * right_line
                    r_first = int32(r_first + DEPTH)
                else:
                    right += ROW
                    r_bytes = int32(r_bytes - ROW)
                to = int32(to + STAGE)
                if to == end:
                    to = memory
            commit()
            if step >= 0:
                at = int32(of + warp // LEFT_WARPS * LEFT_STEP)
                multiply(sums, at, int32(of + LEFT_BYTES), warp % PER_ROW * WN, lane)
                of = int32(of + STAGE)
                if of == end:
                    of = memory
            step = int32(step + 1)
            if step >= steps:
                break

        if GROUP:
            done(sums)

        # the sums of a warp as rows, where its tiles were
        cuda.syncthreads()
        rows = int32(memory + warp * (WM * WN * 4))
        write(sums, rows, lane)
        cuda.syncwarp()
        first_row, first_column = int32(row0 + warp // PER_ROW * WM), int32(column0 + warp % PER_ROW * WN)
        if dealt and part_at != 0:
            for i in range(RUNS):
                number = int32(i * WARP + lane)
                y, x = int32(number // PER_WIDTH), int32(number % PER_WIDTH * RUN)
                place = int32((first_row - row0 + y) * BN + first_column - column0 + x)
                keep(part_at + 4 * place, read(rows, y, x))
        else:
            for i in range(RUNS):
                number = int32(i * WARP + lane)
                y, x = int32(number // PER_WIDTH), int32(number % PER_WIDTH * RUN)
                r, c = int32(first_row + y), int32(first_column + x)
                finish(a, (r < m) & (c < n), c, r + rows_before, b0, b1, b2, b3, read(rows, y, x))

    def tensor_product(a):
        memory = shared_address(cuda.shared.array(0, uint8, alignment=alignment))
        column_tile, row_tile, rest = tile_of(a, block(), TILES_N, TILES_M)
        part, rest = taken(a, PARTS, rest)
        first = int32(part * word(a, PART))
        k = int32(min(int32(word(a, K)) - first, int32(word(a, PART))))
        tile_part(a, memory, column_tile, row_tile, rest, first, k, part * word(a, PART_ROWS), 0)

    def dealt_product(a):
        memory = shared_address(cuda.shared.array(0, uint8, alignment=alignment))
        k, whole, each = int32(word(a, K)), int32(word(a, WHOLE)), int32(word(a, EACH))
        steps = int32((k + DEPTH - 1) // DEPTH)
        own, unit = int32(block()), int32(block() * each)
        last = int32(min(unit + each, int32(word(a, DEALT))))
        while (own < whole) | (unit < last):
            number, begin, count, part_at = own, int32(0), steps, int64(0)
            if own < whole:
                own = int32(own + int32(word(a, GRID)))
            else:
                before = divide(unit, steps)
                number, begin = int32(whole + before), int32(unit - before * steps)
                count = int32(min(steps - begin, last - unit))
                unit = int32(unit + count)
                if count < steps:
                    part_at = word(a, SOURCE) + (2 * block() + (1 if begin == 0 else 0)) * (BM * BN * 4)
            column_tile, row_tile, rest = tile_of(a, number, TILES_N, TILES_M)
            first = int32(begin * DEPTH)
            tile_part(a, memory, column_tile, row_tile, rest, first, int32(min(k - first, count * DEPTH)), 0, part_at)
            cuda.syncthreads()  # before operands of the next one lie where sums did

    return Code(dealt_product if dealt else tensor_product, THREADS, tile.shared(item), tile.blocks)


@makes(TileSums)
def tile_sums(expression: Expr, operands: tuple[str, ...], run: Run) -> Code:
    PLACES, RUNS, TILE_M, TILE_N, TILES_M, TILES_N, M, N = TILE_SUMS["places runs tile_m tile_n tiles_m tiles_n m n"]
    WHOLE, DEALT, EACH, STEPS, SOURCE, DIMS = TILE_SUMS["whole dealt each steps source dims"]
    RUN = run.count
    get, add, finish = read_run(RUN), add_runs(RUN), finish_run(TILE_SUMS, expression, operands, run)

    def tile_sums(a):
        number = int32(thread_number(THREADS))
        if number >= word(a, PLACES) * word(a, RUNS):
            return
        inner, before = taken(a, RUNS, number)
        each, steps = int32(word(a, EACH)), int32(word(a, STEPS))
        cut = int32((before + 1) * each)  # where the steps of block before + 1 begin
        if cut >= word(a, DEALT):
            return
        tile = divide(cut, steps)
        begin, end = int32(tile * steps), int32(tile * steps + steps)
        if (cut == begin) | (before * each > begin):  # no tile is shared there, or it is another place's
            return
        tile_n = int32(word(a, TILE_N))
        row = divide(inner, int32(tile_n // RUN))
        column = int32((inner - row * (tile_n // RUN)) * RUN)
        place = tile_n * word(a, TILE_M) * 4
        at = word(a, SOURCE) + (row * tile_n + column) * 4 + 2 * before * place
        totals = get(at + place)
        while cut < end:
            at += 2 * place
            totals = add(totals, get(at))
            cut = int32(cut + each)
        column_tile, row_tile, rest = tile_of(a, int32(word(a, WHOLE) + tile), TILES_N, TILES_M)
        b0, b1, b2, b3 = batch_indices(a, DIMS, rest)
        r, c = int32(row_tile * word(a, TILE_M) + row), int32(column_tile * tile_n + column)
        finish(a, (r < word(a, M)) & (c < word(a, N)), c, r, b0, b1, b2, b3, totals)

    return Code(tile_sums, THREADS)
