"""What values may look like in a checked run."""

from __future__ import annotations

import ctypes
import zlib

import numpy as np

from graphc.lower.storage import Storage
from graphc.report import StepInfo

# bytes of memory that nobody has written: signalling numbers where the dtype has some, otherwise 0x7F
PATTERNS = {
    "float16": np.uint16(0x7D1A),
    "bfloat16": np.uint16(0x7FA1),
    "float32": np.uint32(0x7FA1A1A1),
    "float64": np.uint64(0x7FF1A1A1A1A1A1A1),
    "complex64": np.uint32(0x7FA1A1A1),
    "complex128": np.uint64(0x7FF1A1A1A1A1A1A1),
}
QUIET = {
    "float16": 0x0200,
    "bfloat16": 0x0040,
    "float32": 0x00400000,
    "float64": 0x0008000000000000,
}  # what arithmetic adds
RARE = 4  # bytes of an integer from which on nobody computes the pattern


FLOAT = np.dtype(np.float32)


class CheckFailed(AssertionError):
    """A step did what it must not do."""

    def __init__(self, step: str, what: str) -> None:
        super().__init__(f"{step}: {what}")


def name_of(step: StepInfo) -> str:
    return f"step {step.index}, {step.label} ({step.kernel}) -> %{step.output}"


def pattern(dtype: np.dtype) -> np.ndarray:
    """Of one element (of half of a complex one), as unsigned integers."""
    found = PATTERNS.get(dtype.name)
    return np.array([0x7F], np.uint8) if found is None else np.array([found])


def fill(memory: np.ndarray, dtype: np.dtype) -> None:
    """Bytes that end with a whole element."""
    p = pattern(dtype)
    rest = memory.nbytes % p.itemsize
    memory[:rest] = 0x7F
    memory[rest:].view(p.dtype)[:] = p


def is_filled(memory: np.ndarray) -> bool:
    """Are bytes still as `fill` has left them for FLOAT?"""
    p = pattern(FLOAT)
    return bool((memory[memory.nbytes % p.itemsize :].view(p.dtype) == p).all())


def bytes_at(address: int, nbytes: int) -> np.ndarray:
    if not nbytes:
        return np.empty(0, np.uint8)
    return np.frombuffer(memoryview((ctypes.c_uint8 * nbytes).from_address(address)), np.uint8)


def bits(array: np.ndarray) -> np.ndarray:
    """Unsigned integers of the size of the dtype's pattern, along a last axis."""
    p = pattern(array.dtype)
    return np.ascontiguousarray(array).reshape(-1).view(p.dtype).reshape(*array.shape, array.itemsize // p.itemsize)


def unwritten(array: np.ndarray) -> str:
    """Which element is what memory was filled with, or follows from that; '' where none is, or nobody could tell."""
    dtype = array.dtype
    if array.size == 0 or dtype.kind in "OUS" or (dtype.name not in PATTERNS and dtype.itemsize < RARE):
        return ""
    p, found = pattern(dtype), bits(array)
    quiet = p | p.dtype.type(QUIET.get(dtype.name, 0))
    for text, wrong in (("was not written", p), ("follows from memory that nobody has written", quiet)):
        places = np.argwhere((found == wrong).all(-1))
        if len(places):
            return f"element {places[0].tolist()} of {list(array.shape)} {text}"
    return ""


class Held:
    """A value in memory, from the step that has made it on. at: of its first element, in `memory`."""

    def __init__(self, name: str, s: Storage, memory: np.ndarray, at: int) -> None:
        self.name, self.storage, self.memory, self.at = name, s, memory, at
        self.sum = 0

    def check(self, step: str) -> None:
        """Raises CheckFailed."""
        elements = self._elements()
        why = unwritten(elements) or self._halo() or self._lanes(elements)
        if why:
            raise CheckFailed(step, f"%{self.name}: {why}")
        self.sum = _sum(elements)

    def verify(self, step: str) -> None:
        """The value is as it was. Raises CheckFailed."""
        why = self._halo() or ("" if _sum(self._elements()) == self.sum else "it changed, and another step has made it")
        if why:
            raise CheckFailed(step, f"%{self.name}: {why}")

    def _elements(self) -> np.ndarray:
        """Dense: in its logical shape. Blocked: [n, channel block, *spatial, lane]."""
        t = self.storage.type
        return self._view(t.extents, self.storage.strides) if t.layout is None else self._pixels(0, t.extents[-1])

    def _view(self, shape: tuple[int, ...], strides: tuple[int, ...], shift: int = 0) -> np.ndarray:
        dtype = self.storage.type.dtype
        if 0 in shape:
            return np.empty(shape, dtype)
        strides = tuple(0 if d == 1 else s for d, s in zip(shape, strides))
        return np.ndarray(shape, dtype, self.memory, self.at + shift, strides)

    def _pixels(self, first: int, count: int) -> np.ndarray:
        """`count` pixels of every row."""
        t, strides = self.storage.type, self.storage.strides
        shape = (t.extents[0], -(-t.extents[1] // t.blocks.c), *t.extents[2:-1], count, t.blocks.c)
        return self._view(shape, (*strides, t.dtype.itemsize), first * strides[-1])

    def _halo(self) -> str:
        """What is wrong with it."""
        t = self.storage.type
        if t.layout is None or t.size == 0:
            return ""
        for side, count, first in (("left", t.layout.left, -t.layout.left), ("right", t.layout.right, t.extents[-1])):
            if not count:
                continue
            halo = self._pixels(first, count)
            places = np.argwhere(bits(halo).any(-1))
            if len(places):
                return f"its {side} halo is {halo[tuple(places[0])]} at {places[0].tolist()}, not 0"
        return ""

    def _lanes(self, elements: np.ndarray) -> str:
        """Zero weights must not meet infinity or NaN behind the last channel, unless that comes from the channels."""
        t = self.storage.type
        last = t.extents[1] % t.layout.c if t.layout is not None else 0
        if not last or not np.isfinite(elements[:, :-1]).all() or not np.isfinite(elements[:, -1, ..., :last]).all():
            return ""
        return (
            "" if np.isfinite(elements[:, -1, ..., last:]).all() else "what lies behind its last channel is not finite"
        )


def _sum(elements: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(elements).reshape(-1).view(np.uint8).data)
