"""Memory whose pieces end where pages begin that nobody may touch, and the handler that notes who touches them.

A page that is touched is opened then, so that the kernel goes on and the process lives: the run asks for the faults when
the step is done.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from graphc.errors import UnsupportedError
from graphc.lower.storage import Piece

PAGE = mmap.PAGESIZE
HOLE = 16 * PAGE  # bytes behind each piece: strides of rows do not leap over them
NONE, READ, READ_WRITE = 0, 1, 3  # protections of pages


def spread(sizes: Sequence[int], copies: int) -> tuple[list[int], int, tuple[Piece, ...]]:
    """Several pieces for each of `copies` threads, with holes behind each: offsets of one thread's pieces, bytes from thread
    to thread, all pieces."""
    ends: list[int] = []
    at = 0
    for size in sizes:
        at += -(-size // PAGE) * PAGE if ends else size
        ends.append(at)
        at += HOLE
    first = -(-sizes[0] // PAGE) * PAGE
    stride = first + ends[-1] - sizes[0] + HOLE
    offsets = [end - size for end, size in zip(ends, sizes)]
    pieces = [Piece(t * stride + o, n) for t in range(copies) for o, n in zip(offsets, sizes)]
    return offsets, stride, tuple(pieces)


class Memory:
    """One mapping of several blocks, each of pieces at fixed distances from each other.

    at: each block's offset in the mapping; `bytes`: all of it, of which the pieces are to be touched alone.
    """

    def __init__(self, blocks: Sequence[Sequence[Piece]]) -> None:
        self.at: list[int] = []
        self.pieces: list[list[tuple[int, int]]] = []  # [first, end) of the pieces of each block, in the mapping
        cursor = HOLE
        for pieces in blocks:
            start = _start(cursor, pieces)
            self.at.append(start)
            self.pieces.append([(start + p.offset, start + p.end) for p in pieces])
            cursor = start + pieces[-1].end + HOLE
        self._mapping = mmap.mmap(-1, cursor, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.bytes = np.frombuffer(self._mapping, np.uint8)
        self.address = self.bytes.ctypes.data
        previous = 0
        for first, end in (piece for pieces in self.pieces for piece in pieces):
            protect(self.address + previous, first // PAGE * PAGE - previous, NONE)
            previous = end
        protect(self.address + previous, cursor - previous, NONE)

    def freeze(self, block: int) -> None:
        """Nobody may write to a block's pieces any more."""
        self._protect(block, READ)

    def open(self, block: int) -> None:
        """They may again."""
        self._protect(block, READ_WRITE)

    def _protect(self, block: int, protection: int) -> None:
        for first, end in self.pieces[block]:
            page = first // PAGE * PAGE
            protect(self.address + page, end - page, protection)

    def margins(self, block: int) -> Iterator[np.ndarray]:
        """Bytes before each piece that are in its first page."""
        for first, _ in self.pieces[block]:
            yield self.bytes[first // PAGE * PAGE : first]


def _start(cursor: int, pieces: Sequence[Piece]) -> int:
    """Where a block begins whose first piece begins at `cursor` or little later, so that pieces end with pages."""
    return cursor - pieces[0].offset + -(cursor + pieces[0].nbytes) % PAGE


_LIBC = ctypes.CDLL(None, use_errno=True)


def protect(address: int, nbytes: int, protection: int) -> None:
    """Raises OSError."""
    if nbytes and _LIBC.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(nbytes), protection):
        raise OSError(ctypes.get_errno(), "mprotect")


# --- faults -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Fault:
    """An address that was not to be touched. writes: None where the system does not tell."""

    address: int
    writes: bool | None


SIGSEGV, SA_SIGINFO, SA_NODEFER = 11, 4, 0x40000000
SI_ADDR = 16  # of siginfo_t
ERROR_CODE, WRITE = 192, 2  # of ucontext_t on x86-64: the processor's word on a page fault, and its bit for writes
MOST = 1000  # faults of one run, after which something else must be wrong


class _Action(ctypes.Structure):
    """struct sigaction of libc."""

    _fields_ = [
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]


_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def _writes(context: int) -> bool | None:
    if platform.machine() != "x86_64":
        return None
    return bool(ctypes.c_int64.from_address(context + ERROR_CODE).value & WRITE)


class Watch:
    """Notes faults within some memory while it is entered; other faults, of which standard error says what step they are
    in, are left to who handled them before.

    One at a time in a process. Threads that run native code without the interpreter's lock may fault, too. Raises
    UnsupportedError where signals are other than those of Linux on 64 bits.
    """

    _one = threading.RLock()

    def __init__(self, memory: Memory) -> None:
        if not sys.platform.startswith("linux") or ctypes.sizeof(ctypes.c_void_p) != 8:
            raise UnsupportedError("GRAPHC_CHECK=memory needs Linux on 64 bits")
        self.faults: list[Fault] = []
        self.step = ""  # that runs
        self._first, self._end = memory.address, memory.address + memory.bytes.nbytes
        self._handler = _Handler(self._handle)
        self._before = _Action()

    def _handle(self, number: int, info: int, context: int) -> None:
        address = ctypes.c_size_t.from_address(info + SI_ADDR).value
        if not self._first <= address < self._end or len(self.faults) == MOST:
            os.write(2, f"graphc: {self.step} touches address {address:#x}, which is nobody's\n".encode())
            _LIBC.sigaction(SIGSEGV, ctypes.byref(self._before), None)  # the same instruction faults again
            return
        self.faults.append(Fault(address, _writes(context)))
        protect(address // PAGE * PAGE, PAGE, READ_WRITE)

    def __enter__(self) -> Watch:
        self._one.acquire()
        action = _Action(ctypes.cast(self._handler, ctypes.c_void_p).value, flags=SA_SIGINFO | SA_NODEFER)
        _LIBC.sigaction(SIGSEGV, ctypes.byref(action), ctypes.byref(self._before))
        return self

    def __exit__(self, *_: object) -> None:
        _LIBC.sigaction(SIGSEGV, ctypes.byref(self._before), None)
        self._one.release()
