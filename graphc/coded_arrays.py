"""Arrays of few different numbers as bytes: their shape, a codebook of these, and its indices in Huffman codes.

The bytes are: the dtype's name and its length, the number of dims and these (all numbers as LEB128), the number of entries, the
entries as they lie in memory (little endian), and what `graphc.huffman` makes of the indices. Elements are told apart by their bits, so
that zeros keep their signs and NaN what is in them.

Many arrays that lie one behind the other, as packed weights do, are coded piece by piece, each with a codebook of its own.
"""

from __future__ import annotations

import math

import numpy as np

from graphc.dtypes import BY_NAME
from graphc.errors import InputError
from graphc.huffman import decoded, encoded, leb128, read_leb128

ENTRIES = 256  # of a codebook, at most
SOME = 4096  # elements that tell whether there may be more
WORD = 4  # bytes of a number
MOST_OF_A_BYTE = 1 << 16  # bytes that one of coded data stands for
PIECE = 1 << 18  # bytes of many arrays that share a codebook
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
    for start in range(0, len(data), PIECE):
        piece = data[start : start + PIECE]
        coded = None if len(piece) % WORD else pack(np.frombuffer(piece, BITS[WORD]))
        parts += [leb128(0), bytes(piece)] if coded is None else [leb128(len(coded)), coded]
    packed = b"".join(parts)
    return packed if len(packed) < len(data) else None


def unpack_bytes(data: bytes | memoryview) -> np.ndarray:
    """uint8: the bytes that `pack_bytes` has made data of. Raises InputError where it has not."""
    total, at = read_leb128(data, 0)
    if total > MOST_OF_A_BYTE * len(data):
        raise _broken()
    found = np.empty(total, np.uint8)
    for start in range(0, total, PIECE):
        piece = found[start : start + PIECE]
        length, at = read_leb128(data, at)
        end = at + (length or piece.size)
        if end > len(data):
            raise _broken()
        raw = unpack(bytes(data[at:end])).view(np.uint8) if length else np.frombuffer(data[at:end], np.uint8)
        if raw.shape != piece.shape:
            raise _broken()
        piece[:], at = raw, end
    if at != len(data):
        raise _broken()
    return found


def _broken() -> InputError:
    return InputError("the data are no coded array, or not all of it")
