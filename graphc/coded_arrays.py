"""Arrays of few different numbers as bytes: their shape, a codebook of these, and its indices in Huffman codes.

The bytes are: the dtype's name and its length, the number of dims and these (all numbers as LEB128), the number of entries, the
entries as they lie in memory (little endian), and what `graphc.huffman` makes of the indices. Elements are told apart by their bits, so
that zeros keep their signs and NaN what is in them.
"""

from __future__ import annotations

import math

import numpy as np

from graphc.dtypes import BY_NAME
from graphc.errors import InputError
from graphc.huffman import decoded, encoded, leb128, read_leb128

ENTRIES = 256  # of a codebook, at most
SOME = 4096  # elements that tell whether there may be more
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


def _broken() -> InputError:
    return InputError("the data are no coded array, or not all of it")
