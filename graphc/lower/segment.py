"""Files of packed constants, which every process that runs the model maps.

A file is written in large aligned pieces, so that the system can keep and map it in huge pages, and is only read through
its mapping once it is whole.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from graphc.lower.aligned import ALIGNMENT
from graphc.records import record

BLOCK = 8 << 20  # bytes of one write, a multiple of any huge page's size
PIECE = 4 << 20  # bytes that are brought into order at a time
PAGE_FROM = 1 << 16  # bytes from which a buffer begins on a page


class Segment:
    """A file of packed constants, mapped. The mapping outlives the file's name."""

    def __init__(self, name: str = "") -> None:
        self.name = name  # '' for a file that nobody can find again
        self.address = 0
        self._memory: np.ndarray | None = None

    def map(self, fd: int, offset: int = 0, nbytes: int = 0) -> None:
        """nbytes: from the offset on, a multiple of a page; 0: all of the file. Raises OSError."""
        memory = mmap.mmap(fd, nbytes, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, offset=offset)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel without huge pages
                memory.madvise(mmap.MADV_HUGEPAGE)
        self._hold(memory)

    def fill(self, data: np.ndarray) -> None:
        """data: uint8, what a file would hold, into memory of this process."""
        memory = mmap.mmap(-1, data.nbytes)  # begins on a page
        np.frombuffer(memory, np.uint8)[:] = data
        self._hold(memory)

    def _hold(self, memory: mmap.mmap) -> None:
        self._memory = np.frombuffer(memory, np.uint8)
        self.address = self._memory.ctypes.data


@record(frozen=True, eq=False)
class Stored:
    """A constant in a mapped file. Its address is known when the segment is mapped."""

    segment: Segment
    offset: int

    @property
    def address(self) -> int:
        return self.segment.address + self.offset


class SegmentWriteError(Exception):
    """A segment can't be written: its constants are to be packed anew."""


class SegmentWriter:
    """Appends constants to a file, which becomes a segment."""

    def __init__(self, fd: int, path: Path) -> None:
        self.fd, self.path, self.segment = fd, path, Segment()
        self.nbytes = 0
        self._block = np.empty(BLOCK + PIECE, np.uint8)
        self._used = 0
        self._digest = hashlib.sha256()

    def append(self, data: np.ndarray) -> Stored:
        """Raises SegmentWriteError."""
        self._fill(-self.nbytes % (mmap.PAGESIZE if data.nbytes >= PAGE_FROM else ALIGNMENT))
        at = self.nbytes
        for piece in _pieces(data):
            target = self._block[self._used : self._used + piece.nbytes]
            np.copyto(target.view(data.dtype).reshape(piece.shape), piece)
            self._advance(piece.nbytes)
        return Stored(self.segment, at)

    def _fill(self, nbytes: int) -> None:
        self._block[self._used : self._used + nbytes] = 0
        self._advance(nbytes)

    def _advance(self, nbytes: int) -> None:
        self.nbytes += nbytes
        self._used += nbytes
        if self._used >= BLOCK:
            self._write(BLOCK)
            rest = self._used - BLOCK
            self._block[:rest] = self._block[BLOCK : self._used].copy()
            self._used = rest

    def _write(self, nbytes: int) -> None:
        data = self._block[:nbytes].data
        self._digest.update(data)
        try:
            while data:
                data = data[os.write(self.fd, data) :]
        except OSError as error:
            raise SegmentWriteError(str(error)) from error

    def finish(self) -> str:
        """Write what is left and map the file. Its digest. Raises SegmentWriteError."""
        self._fill(-self._used % mmap.PAGESIZE if self.nbytes else mmap.PAGESIZE)
        self._write(self._used)
        try:
            self.segment.map(self.fd)
        except OSError as error:
            raise SegmentWriteError(str(error)) from error
        return self._digest.hexdigest()

    def close(self) -> None:
        os.close(self.fd)
        self._block = np.empty(0, np.uint8)

    def discard(self) -> None:
        """Delete the file; a mapping of it stays."""
        self.path.unlink(missing_ok=True)


def _pieces(data: np.ndarray) -> Iterator[np.ndarray]:
    """The array in order, in parts of at most PIECE bytes."""
    if data.nbytes <= PIECE:
        yield data
    elif data.ndim > 1 and data[0].nbytes > PIECE:
        for part in data:
            yield from _pieces(part)
    else:
        rows = PIECE // data[0].nbytes
        for i in range(0, len(data), rows):
            yield data[i : i + rows]
