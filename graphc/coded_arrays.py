"""Arrays of few different numbers as bytes: their shape, a codebook of these, and its indices in Huffman codes.

The bytes are: the dtype's name and its length, the number of dims and these (all numbers as LEB128), the number of entries, the
entries as they lie in memory (little endian), and what `graphc.huffman` makes of the indices. Elements are told apart by their bits, so
that zeros keep their signs and NaN what is in them.

Many arrays that lie one behind the other, as packed weights do, are coded piece by piece, each with a codebook of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from graphc.dtypes import BY_NAME
from graphc.errors import InputError
from graphc.huffman import decoded, encoded, leb128, read_leb128

ENTRIES = 256  # of a codebook, at most
SOME = 4096  # elements that tell whether there may be more
WORD = 4  # bytes of a number
MOST_OF_A_BYTE = 1 << 18  # bytes that one of coded data stands for
CHUNK = 1 << 14  # bytes of many arrays that are looked at together
PIECE = 1 << 22  # bytes that share a codebook, about, at most
BITS = {size: np.dtype(f"<u{size}") for size in (1, 2, 4, 8)}


def pack(array: np.ndarray) -> bytes | None:
    """The array as bytes, fewer than it has; None where there are none, or it has more than 256 different numbers. array: numbers of 1, 2, 4
    or 8 bytes, of any shape."""
    name, bits = array.dtype.name, BITS.get(array.dtype.itemsize)
    if name not in BY_NAME or BY_NAME[name].family == "complex" or bits is None:
        return None
    flat = np.ascontiguousarray(array).reshape(-1).view(bits)
    if len(np.unique(flat[: 2 * SOME : 2])) > ENTRIES or len(np.unique(flat[-SOME:])) > ENTRIES:
        return None
    book, indices = np.unique(flat, return_inverse=True)
    if len(book) > ENTRIES:
        return None
    head = [len(name.encode()), array.ndim, *array.shape, len(book)]
    text = leb128(head[0]) + name.encode() + b"".join(map(leb128, head[1:]))
    data = text + book.tobytes() + encoded(indices)
    return data if len(data) < array.nbytes else None


def unpack(data: bytes) -> np.ndarray:
    """The array that `pack` has made data of. Raises InputError where it has not."""
    length, at = read_leb128(data, 0)
    element = BY_NAME.get(data[at : at + length].decode("ascii", "replace"))
    if element is None or element.item not in BITS:
        raise _broken()
    rank, at = read_leb128(data, at + length)
    shape = []
    for _ in range(rank):
        dim, at = read_leb128(data, at)
        shape.append(dim)
    entries, at = read_leb128(data, at)
    end = at + entries * element.item
    if entries > ENTRIES or end > len(data):
        raise _broken()
    book = np.frombuffer(data[at:end], BITS[element.item])
    indices = decoded(data[end:], math.prod(shape))
    if indices.size and int(indices.max()) >= entries:
        raise _broken()
    return book[indices].view(element.numpy).reshape(shape)


def pack_bytes(data: bytes | memoryview) -> bytes | None:
    """Bytes of arrays of float32, or of other numbers of four bytes, as fewer bytes; None where there are none. Pieces of more than 256
    different numbers stay as they are."""
    parts = [leb128(len(data))]
    for start, end, few in _pieces(data):
        coded = pack(np.frombuffer(data[start:end], BITS[WORD])) if few else None
        parts += [leb128(end - start), leb128(len(coded or b"")), bytes(data[start:end]) if coded is None else coded]
    packed = b"".join(parts)
    return packed if len(packed) < len(data) else None


def _pieces(data: bytes | memoryview) -> Iterator[tuple[int, int, bool]]:
    """(start, end, has it few different numbers): as long as a codebook reaches, since each takes a table to decode."""
    start, seen = 0, np.empty(0, BITS[WORD])
    for at in range(0, len(data), CHUNK):
        chunk = data[at : at + CHUNK]
        new = None if len(chunk) % WORD else np.unique(np.frombuffer(chunk, BITS[WORD]))
        both = None if new is None or len(new) > ENTRIES else np.union1d(seen, new)
        if both is not None and len(both) <= ENTRIES and at - start < PIECE:
            seen = both
            continue
        if at > start:
            yield start, at, True
        start, seen = at, np.empty(0, BITS[WORD]) if new is None else new
        if both is None:
            start = at + len(chunk)
            seen = seen[:0]
            yield at, start, False
    if start < len(data):
        yield start, len(data), True


def unpack_bytes(data: bytes | memoryview) -> np.ndarray:
    """uint8: the bytes that `pack_bytes` has made data of. Raises InputError where it has not."""
    total, at = read_leb128(data, 0)
    if total > MOST_OF_A_BYTE * len(data):
        raise _broken()
    found, done = np.empty(total, np.uint8), 0
    while done < total:
        size, at = read_leb128(data, at)
        length, at = read_leb128(data, at)
        piece, end = found[done : done + size], at + (length or size)
        if not size or end > len(data):
            raise _broken()
        raw = unpack(bytes(data[at:end])).view(np.uint8) if length else np.frombuffer(data[at:end], np.uint8)
        if raw.shape != piece.shape:
            raise _broken()
        piece[:], at, done = raw, end, done + size
    if at != len(data):
        raise _broken()
    return found


def _broken() -> InputError:
    return InputError("the data are no coded array, or not all of it")
