"""Where the emulator's state lies: a record for each fiber, a record for each worker. Offsets in bytes of 8-byte words.

A fiber runs one CUDA thread; a worker runs one block at a time. Kernels and the runtime address both records as plain integers.
"""

from __future__ import annotations

WORD = 8
WARP = 32
MOST_THREADS = 1024  # of a block
MOST_WARPS = MOST_THREADS // WARP
MOST_SHARED = 227 << 10  # bytes of shared memory that a block of sm_90 may have

# What kernels call, in the order of the table of services: the number of int64 parameters behind the fiber. `barrier` gives one.
SERVICES = {
    "barrier": 3,
    "leave": 0,
    "pause": 1,
    "collective": 3,
    "copy_async": 5,
    "copy_commit": 0,
    "copy_wait": 2,
    "check": 5,
    "fault": 2,
}

# --- the record of a fiber -----------------------------------------------------------------------------------------------
# sp: stack pointer while it waits; stack: the lowest address that it may use; operation, mask, line: of the warp operation or
# barrier that it waits at; copies: how many it has queued; group: how many groups of copies it has committed
(F_SP, F_BLOCK, F_THREAD, F_WARP, F_LANE, F_STACK, F_OPERATION, F_MASK, F_LINE, F_COPIES, F_GROUP) = range(
    0, 11 * WORD, WORD
)
F_SERVICES = 16 * WORD  # addresses
F_SLOTS = 32 * WORD  # operands and results of warp operations, 4 bytes each
SLOTS = 512
F_QUEUE = F_SLOTS + 4 * SLOTS  # copies on their way: to, group and size, 16 bytes of data
QUEUE = 256
COPY = 4 * WORD
F_SIZE = 165 * 64  # an odd number of cache lines, so that records spread over the cache's sets
assert F_QUEUE + QUEUE * COPY <= F_SIZE

# --- the record of a worker ----------------------------------------------------------------------------------------------
# What a launch sets, in this order: see LAUNCH
# shared_bytes: static and dynamic; shadow, grain: the checker's cells of shared memory, log2 of the bytes of one; ranges:
# records of global memory; together: do all blocks of the grid run at once?
(
    B_ENTRY,
    B_ARGUMENT,
    B_THREADS,
    B_BLOCKS,
    B_DYNAMIC,
    B_SHARED_BYTES,
    B_STACK_BYTES,
    B_CHECK,
    B_GRAIN,
    B_SHADOW,
    B_RANGES,
    B_RANGE_COUNT,
    B_TOGETHER,
    B_FAULT,
) = range(0, 14 * WORD, WORD)
LAUNCH = 14  # words

# of a fault (faults.py)
(B_FAULT_THREAD, B_FAULT_LINE, B_FAULT_ADDRESS, B_FAULT_OTHER) = range(16 * WORD, 20 * WORD, WORD)

# memory of the worker, the same for all launches but for the stacks
(B_SHARED, B_FIBERS, B_STACKS, B_SCRATCH) = range(20 * WORD, 24 * WORD, WORD)

# the block that runs. main: stack pointer of the worker itself; live: threads that have not ended; arrived: threads at the
# barrier, epoch: barriers passed; runnable: a bit for each warp that has a lane to run; stamp: the checker's, of block and epoch
(B_MAIN, B_BLOCK, B_LIVE, B_ARRIVED, B_EPOCH, B_BARRIER_LINE, B_RUNNABLE, B_STAMP) = range(24 * WORD, 32 * WORD, WORD)

# a block-wide vote: what the barrier gathers, and the result of the last one
(B_COUNT, B_ALL, B_ANY, B_LAST_COUNT, B_LAST_ALL, B_LAST_ANY) = range(32 * WORD, 38 * WORD, WORD)

# of a block among others that run at once: what it did that others may wait for
B_EVENTS = 38 * WORD

# a word for each warp, a bit for each lane: can run, has not ended, waits at a warp operation, exists; and a count: the
# __syncwarps that it has passed
W_RUN, W_ALIVE, W_HERE, W_EXIST, W_EPOCH = (WORD * (64 + MOST_WARPS * i) for i in range(5))
B_SIZE = WORD * (64 + MOST_WARPS * 5)

# --- a range of global memory --------------------------------------------------------------------------------------------
R_FIRST, R_END, R_SHADOW, R_ITEM, R_WRITABLE = range(0, 5 * WORD, WORD)
R_SIZE = 5 * WORD

# --- a cell of shadow memory: stamps of the last write and of two readers since -----------------------------------------
C_WRITE, C_READ, C_READ_TOO = range(0, 3 * WORD, WORD)
C_SIZE = 3 * WORD

# --- stacks --------------------------------------------------------------------------------------------------------------
STACK = 16 << 10  # bytes of a fiber's stack, besides a kernel's local variables
GAP = (4 << 10) + 5 * 64  # between stacks; with it a stack is an odd number of cache lines
CANARY = 0x5AFE57AC

SCRATCH = 4 << 10  # bytes that warp operations rearrange their operands in
