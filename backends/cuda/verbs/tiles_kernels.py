"""Copies that turn: tiles of words go through shared memory, so that both sides are walked along their rows.

A tile is 32 words square; of narrow items a word holds several neighbours of x, and each thread turns square blocks of such
words in its registers. Words of a row lie side by side in shared memory, rows 33 words apart, those that a thread turns
together in planes of their own: so threads of a warp meet in no bank, neither along rows nor down columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import cuda
from numba.cuda import types
from numba.cuda.types import int32, int64, uint32, uint64

from graphc.backends.cuda.codegen.device import device, word
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.guarded import divide, truth
from graphc.backends.cuda.codegen.loops import indices, place
from graphc.backends.cuda.codegen.threads import block, thread
from graphc.backends.cuda.kernel import Code, makes
from graphc.backends.cuda.verbs.copy_block import COPY_TILES, CopyTiles, side_of, word_of
from graphc.backends.llvm.emit import I32, I64

WARPS = 8
LINE = 33  # words from a row of a tile to the next
PLANE = 32 * LINE
TILES_S, TILES_T, S, T, X, Y, X_LINE, Y_LINE = COPY_TILES["tiles_s tiles_t s t x y x_line y_line"]
DIMS, X_STRIDES, Y_STRIDES = COPY_TILES["dims x_strides y_strides"]


def _start(ref: int, strides: int, loops: int) -> Callable[[int, int], int]:
    """start(a, number): where tiles of that iteration of the loops around them begin."""

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        words = q.pointer(a[0])
        return place(q, q.slot(words, ref), indices(q, a[1], words, DIMS, loops), words, strides)

    return device(emit, types.int64, types.int64, types.int64)


def _kinds(nbytes: int) -> tuple[ir.Type, Any]:
    return ir.IntType(8 * nbytes), types.uint32 if nbytes == 4 else types.uint64


def _fetch(nbytes: int, item: int, piece: int) -> Callable[[bool, int, int], Any]:
    """fetch(inside, left, address): a word of items there, zeros from number `left` on, or where it is not inside."""
    kind, register = _kinds(nbytes)

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        b, inside, found = q.b, truth(q, a[0]), ir.Constant(kind, 0)
        for at in range(0, nbytes, piece):
            there = b.and_(inside, b.icmp_signed(">", a[1], ir.Constant(I32, at // item)))
            before, read, after = b.block, b.append_basic_block("read"), b.append_basic_block("after")
            b.cbranch(there, read, after)
            b.position_at_end(read)
            part = q.load_raw(q.pointer(b.add(a[2], ir.Constant(I64, at))), ir.IntType(8 * piece), 1)
            wide = b.or_(found, b.shl(b.zext(part, kind), ir.Constant(kind, 8 * at)))
            b.branch(after)
            b.position_at_end(after)
            result = b.phi(kind)
            result.add_incoming(found, before)
            result.add_incoming(wide, read)
            found = result
        return found

    return device(emit, register, types.boolean, types.int32, types.int64)


def _put(nbytes: int, item: int, piece: int) -> Callable[[bool, int, int, Any], None]:
    """put(inside, left, address, word): the inverse; nothing is written from item number `left` on."""
    kind, register = _kinds(nbytes)

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        b, inside = q.b, truth(q, a[0])
        for at in range(0, nbytes, piece):
            with b.if_then(b.and_(inside, b.icmp_signed(">", a[1], ir.Constant(I32, at // item)))):
                part = b.trunc(b.lshr(a[3], ir.Constant(kind, 8 * at)), ir.IntType(8 * piece))
                q.store_raw(part, q.pointer(b.add(a[2], ir.Constant(I64, at))))

    return device(emit, types.void, types.boolean, types.int32, types.int64, register)


def _join(nbytes: int, item: int) -> Callable[[Any, Any, int, int], Any]:
    """join(x, word, of, to): x with item `of` of the word as its item `to`, which was zeros."""
    kind, register = _kinds(nbytes)
    bits = ir.Constant(kind, 8 * item)

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        b, (of, to) = q.b, (q.b.mul(q.b.trunc(n, kind) if n.type.width > kind.width else n, bits) for n in a[2:])
        one = b.and_(b.lshr(a[1], of), ir.Constant(kind, (1 << 8 * item) - 1))
        return b.or_(a[0], b.shl(one, to))

    return device(emit, register, register, register, types.int64, types.int64)


@makes(CopyTiles)
def copy_tiles(item: int, reads: int, writes: int, loops: int) -> Code:
    WORD, SIDE = word_of(item), side_of(item)
    WIDE = WORD // item  # items of a word, and words that a thread turns together
    ROWS, COLUMNS = SIDE // WARPS, 32 // WARPS  # of a warp
    WORDS, SHIFT = WIDE * PLANE, WIDE.bit_length() - 1
    kind = uint32 if WORD == 4 else uint64
    x_start, y_start = _start(X, X_STRIDES, loops), _start(Y, Y_STRIDES, loops)
    fetch, put, join = _fetch(WORD, item, reads), _put(WORD, item, writes), _join(WORD, item)

    def copy_tiles(a):
        tile = cuda.shared.array(WORDS, kind)
        row_words = cuda.local.array(ROWS, kind)
        together = cuda.local.array(WIDE, kind)
        lane, warp = uint32(thread() & 31), uint32(thread() >> 5)
        number, tiles = int32(block()), int32(word(a, TILES_T))
        rest = divide(number, tiles)
        t0 = int64(int32(number - rest * tiles)) * SIDE
        tiles = int32(word(a, TILES_S))
        around = divide(rest, tiles)
        s0 = int64(int32(rest - around * tiles)) * SIDE
        s, t = int32(min(word(a, S) - s0, SIDE)), int32(min(word(a, T) - t0, SIDE))  # of this tile
        first = int32(lane * WIDE)

        line = word(a, X_LINE)
        x = x_start(a, around) + s0 * item + (t0 + warp) * line + lane * WORD
        for i in range(ROWS):
            row_words[i] = fetch(int32(warp + i * WARPS) < t, int32(s - first), x)
            x += WARPS * line
        for i in range(ROWS):
            row = uint32(warp + i * WARPS)
            tile[uint32((row & (WIDE - 1)) * PLANE + (row >> SHIFT) * LINE + lane)] = row_words[i]
        cuda.syncthreads()

        line = word(a, Y_LINE)
        y = y_start(a, around) + t0 * item + (s0 + warp * WIDE) * line + lane * WORD
        for i in range(COLUMNS):
            column = uint32(warp + i * WARPS)
            for j in range(WIDE):
                together[j] = tile[uint32(j * PLANE + lane * LINE + column)]
            for j in range(WIDE):
                turned = kind(0)
                for w in range(WIDE):
                    turned = join(turned, together[w], j, w)
                put(int32(column * WIDE + j) < s, int32(t - first), y + j * line, turned)
            y += WARPS * WIDE * line

    return Code(copy_tiles, 32 * WARPS)
