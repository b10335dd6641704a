"""Tensor cores: ldmatrix, mma.sync, wgmma, for all lanes of a warp at once, with PTX's layouts of fragments."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import load_i64 as load
from graphc.backends.cpu.codegen.intrinsics import load_u16, load_u32, store_u16, store_u32
from graphc.backends.cpu.codegen.intrinsics import store_i64 as store
from graphc.backends.cuda.emulator.checker_njit import check
from graphc.backends.cuda.emulator.faults import DESCRIPTOR
from graphc.backends.cuda.emulator.fibers_njit import fail
from graphc.backends.cuda.emulator.machine_njit import product_bf16, product_f16, product_tf32
from graphc.backends.cuda.emulator.operations import KINDS, READ
from graphc.backends.cuda.emulator.records import B_CHECK, B_SCRATCH, B_SHARED, F_SIZE, F_WARP, WARP

F16, BF16, TF32 = KINDS["f16"], KINDS["bf16"], KINDS["tf32"]
B_AT, D_AT = 1024, 2048  # the product's operands in the scratch memory, behind A
SWIZZLE_128 = 1  # in a descriptor


@njit(error_model="numpy")
def slot(slots, lane, number):
    """Address of a lane's slot."""
    return slots + F_SIZE * lane + 4 * number


@njit(error_model="numpy")
def product(kind, scratch):
    a, b, d = scratch, scratch + B_AT, scratch + D_AT
    if kind == F16:
        product_f16(a, b, d)
    elif kind == BF16:
        product_bf16(a, b, d)
    else:
        product_tf32(a, b, d)


@njit(error_model="numpy")
def place_of_sum(lane, register):
    """Where in D[16, 8] a lane's accumulator lies, in bytes."""
    row, column = (lane >> 2) + (register >> 1) * 8, 2 * (lane & 3) + (register & 1)
    return D_AT + 4 * (8 * row + column)


@njit(error_model="numpy")
def ldmatrix(block, first, slots, matrices, transposed, line):
    """Lane 8 i + r gives the address of row r of matrix i; lane l gets elements (l / 4, 2 (l % 4)) and the next one, or those of
    the transpose."""
    rows = load(block + B_SCRATCH)
    for lane in range(8 * matrices):
        address = load_u32(slot(slots, lane, 0))
        if load(block + B_CHECK) != 0:
            check(first + lane * F_SIZE, address, 16, 16, READ, line)
        store(rows + 16 * lane, load(address))
        store(rows + 16 * lane + 8, load(address + 8))
    for lane in range(WARP):
        for i in range(matrices):
            if transposed:
                at = rows + 128 * i + (lane & 3) * 32 + (lane >> 2) * 2
                store_u32(slot(slots, lane, i), load_u16(at) | load_u16(at + 16) << 16)
            else:
                store_u32(slot(slots, lane, i), load_u32(rows + 128 * i + 4 * lane))


@njit(error_model="numpy")
def mma(block, slots, kind):
    """m16n8k16, or m16n8k8 of tf32. Slots: a0 … a3, b0, b1, c0 … c3; results d0 … d3."""
    scratch = load(block + B_SCRATCH)
    for lane in range(WARP):
        g, t = lane >> 2, lane & 3
        mine = slot(slots, lane, 0)
        for r in range(4):
            row = g + (r & 1) * 8
            if kind == TF32:
                store_u32(scratch + 4 * (8 * row + (r >> 1) * 4 + t), load_u32(mine + 4 * r))
            else:
                store_u32(scratch + 2 * (16 * row + (r >> 1) * 8 + 2 * t), load_u32(mine + 4 * r))
        for r in range(2):
            pair = load_u32(mine + 4 * (4 + r))
            if kind == TF32:
                store_u32(scratch + B_AT + 4 * (8 * (r * 4 + t) + g), pair)
            else:
                at = scratch + B_AT + 2 * (8 * (r * 8 + 2 * t) + g)
                store_u16(at, pair & 0xFFFF)
                store_u16(at + 16, pair >> 16)
        for r in range(4):
            store_u32(scratch + place_of_sum(lane, r), load_u32(mine + 4 * (6 + r)))
    product(kind, scratch)
    for lane in range(WARP):
        for r in range(4):
            store_u32(slot(slots, lane, r), load_u32(scratch + place_of_sum(lane, r)))


@njit(error_model="numpy")
def swizzled(address):
    """Where the 128-byte swizzle puts a chunk of 16 bytes: bits 4 to 6 of the address are xored with bits 7 to 9."""
    return address ^ (address >> 7 & 7) << 4


@njit(error_model="numpy")
def wgmma(fiber, block, first, slots, kind, columns, across, line):
    """One warp's 16 rows of wgmma m64nNk(32 bytes), with both operands in shared memory; across: rows of B are its lines. Slots: N / 2 accumulators, the
    descriptors of A and B, whether to add to the accumulators. It is done at once: that it is asynchronous does not show."""
    sums = columns >> 1
    of_a, of_b = load(slot(slots, 0, sums)), load(slot(slots, 0, sums + 2))
    adds = load_u32(slot(slots, 0, sums + 4))
    if of_a >> 62 & 3 != SWIZZLE_128 or of_b >> 62 & 3 != SWIZZLE_128:
        fail(fiber, DESCRIPTOR, line, 0, 0)
    scratch, shared = load(block + B_SCRATCH), load(block + B_SHARED)
    a_step, b_step = (of_a >> 32 & 0x3FFF) << 4, (of_b >> 32 & 0x3FFF) << 4  # between groups of 8 rows
    a = shared + ((of_a & 0x3FFF) << 4) + 2 * (load(fiber + F_WARP) & 3) * a_step
    b = shared + ((of_b & 0x3FFF) << 4)
    beside = (of_b >> 16 & 0x3FFF) << 4  # across: between groups of 64 columns
    for row in range(16):
        for half in range(2):
            at = swizzled(a + (row >> 3) * a_step + (row & 7) * 128 + half * 16)
            if load(block + B_CHECK) != 0:
                check(first + row * F_SIZE, at, 16, 16, READ, line)
            store(scratch + row * 32 + half * 16, load(at))
            store(scratch + row * 32 + half * 16 + 8, load(at + 8))
    for j in range(columns >> 3):
        if across:
            for k in range(16):
                at = swizzled(b + (j >> 3) * beside + (k >> 3) * b_step + (k & 7) * 128 + (j & 7) * 16)
                if load(block + B_CHECK) != 0:
                    check(first + k * F_SIZE, at, 16, 16, READ, line)
                store(scratch + B_AT + 16 * k, load(at))
                store(scratch + B_AT + 16 * k + 8, load(at + 8))
        else:
            for n in range(8):
                for half in range(2):
                    at = swizzled(b + j * b_step + n * 128 + half * 16)
                    if load(block + B_CHECK) != 0:
                        check(first + n * F_SIZE, at, 16, 16, READ, line)
                    if kind == TF32:
                        for e in range(4):
                            store_u32(scratch + B_AT + 4 * (8 * (half * 4 + e) + n), load_u32(at + 4 * e))
                    else:
                        for e in range(8):
                            store_u16(scratch + B_AT + 2 * (8 * (half * 8 + e) + n), load_u16(at + 2 * e))
        for lane in range(WARP):
            for r in range(4):
                before = load_u32(slot(slots, lane, j * 4 + r)) if adds != 0 else 0
                store_u32(scratch + place_of_sum(lane, r), before)
        product(kind, scratch)
        for lane in range(WARP):
            for r in range(4):
                store_u32(slot(slots, lane, j * 4 + r), load_u32(scratch + place_of_sum(lane, r)))
