"""A recurrent layer through time: a block for a direction and a few rows of the batch.

A block reads all weights of its direction in each step, from the level-2 cache, and multiplies them with the states of all its
rows. Rows are independent of each other, so no block waits for another one. Layers with many weights and few rows keep few
multiprocessors busy so: they go in other ways (forms.py).
"""

from __future__ import annotations

from numba import cuda
from numba.cuda.types import int32

from graphc.backends.cuda.codegen.device import register, word
from graphc.backends.cuda.codegen.guarded import divide
from graphc.backends.cuda.codegen.threads import block, thread
from graphc.backends.cuda.kernel import Code, makes
from graphc.backends.cuda.lower.epilogue import summed
from graphc.backends.cuda.recurrent.ends_kernels import ends_of, length_of
from graphc.backends.cuda.recurrent.recurrent_block import RECURRENT, SHARED_BYTES, SLICES, Recurrent
from graphc.backends.cuda.recurrent.stage_kernels import stage_of
from graphc.backends.cuda.recurrent.state_kernels import pointer_of, pointer_to
from graphc.lower.recurrent_cells import Stage
from graphc.types import dtype_from_name

GROUPS, SCRATCH, SCRATCH_BYTES = RECURRENT["groups scratch scratch_bytes"]


@makes(Recurrent)
def recurrent(
    directions: tuple[tuple[Stage, ...], ...], gates: int, rows: int, threads: int, shared: bool, dtype: str
) -> Code:
    stages = directions[0]
    two = len(stages) > 1
    ends = ends_of(stages, rows, threads, dtype)
    begin, finish = ends.begin, ends.finish
    advance = stage_of(directions, 0, gates, rows, threads, shared, dtype)
    conclude = stage_of(directions, 1, gates, rows, threads, shared, dtype) if two else None
    number = register(summed(dtype_from_name(dtype)))
    each = -(-rows // SLICES)

    def recurrent(a):
        if shared:
            states = pointer_of(cuda.shared.array(0, number, alignment=16))
        else:
            states = pointer_to(word(a, SCRATCH) + block() * word(a, SCRATCH_BYTES))
        t, part_of_grid, groups = int32(thread()), int32(block()), int32(word(a, GROUPS))
        d = divide(part_of_grid, groups)
        row0 = int32((part_of_grid - d * groups) * rows)

        # this thread's rows, and all of the block's
        lengths = cuda.local.array(each, int32)
        part = int32((t >> 3) & (SLICES - 1))
        for i in range(each):
            lengths[i] = 0
            if SLICES * i + part < rows:
                lengths[i] = length_of(a, row0 + SLICES * i + part)
        steps = int32(0)
        for j in range(rows):
            steps = max(steps, length_of(a, row0 + j))
        begin(a, states, d, row0)
        cuda.syncthreads()

        step = int32(0)
        while step < steps:
            advance(a, states, lengths, step, d, row0)
            cuda.syncthreads()
            if two:
                conclude(a, states, lengths, step, d, row0)
                cuda.syncthreads()
            step = int32(step + 1)

        finish(a, states, d, row0)

    return Code(recurrent, threads, SHARED_BYTES if shared else 0, blocks=1)
