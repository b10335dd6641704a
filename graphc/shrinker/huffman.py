"""Canonical Huffman codes of bytes: the storage of indices into a codebook, of which some are more frequent than others.

The data are: the number of symbols and the number of known ones as LEB128, the length of each one's code in 4 bits (0: it
does not occur), and the codes one after the other, the highest bit first. Codes of one length follow each other in the order of their symbols,
shorter ones come first, so lengths say all (D. Hirschberg and D. Lelewer, "Efficient decoding of prefix codes", CACM 33, 1990). No code is
longer than 15 bits: lengths are the best of these, by package-merge (L. Larmore and D. Hirschberg, "A fast algorithm for optimal length-limited
Huffman codes", JACM 37, 1990).
"""

from __future__ import annotations

import numpy as np

from graphc.errors import InputError

LONGEST = 15  # bits of a code
CHUNK = 1 << 16  # bytes that are decoded at a time

Package = tuple[int, tuple[int, ...]]  # how often its symbols occur together, and these


def lengths_of(counts: np.ndarray, longest: int = LONGEST) -> np.ndarray:
    """int64 [symbols]: bits of each symbol's code, of which none is longer; 0 for symbols that do not occur. counts: how often each
    does. A single symbol has a code of no bits, and so 1 stands here."""
    used = np.flatnonzero(counts)
    lengths = np.zeros(len(counts), np.int64)
    if len(used) < 2:
        lengths[used] = 1
        return lengths
    single: list[Package] = sorted((int(counts[s]), (int(s),)) for s in used)
    merged = single
    for _ in range(longest - 1):
        pairs = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(merged[::2], merged[1::2])]
        merged = sorted(single + pairs, key=lambda item: item[0])
    for _, symbols in merged[: 2 * (len(used) - 1)]:
        lengths[list(symbols)] += 1  # a symbol is in a package once
    return lengths


def canonical(lengths: np.ndarray) -> np.ndarray:
    """int64 [symbols]: the code of each symbol that has a length."""
    codes = np.zeros(len(lengths), np.int64)
    code, before = 0, 0
    for symbol in sorted(np.flatnonzero(lengths), key=lambda s: (lengths[s], s)):
        code <<= int(lengths[symbol]) - before
        codes[symbol], before = code, int(lengths[symbol])
        code += 1
    return codes


def encoded(symbols: np.ndarray) -> bytes:
    """uint8 of any shape, in the order of its elements."""
    flat = np.asarray(symbols, np.uint8).reshape(-1)
    counts = np.bincount(flat) if flat.size else np.zeros(0, np.int64)
    lengths = lengths_of(counts)
    head = _leb128(flat.size) + _leb128(len(counts)) + _nibbles(lengths)
    if np.count_nonzero(lengths) < 2:
        return head
    codes, size = canonical(lengths)[flat], lengths[flat]
    ends = np.cumsum(size)
    bits = np.zeros(int(ends[-1]), np.uint8)
    for i in range(int(lengths.max())):  # the i-th bit of each code, from its end
        longer = size > i
        bits[ends[longer] - 1 - i] = codes[longer] >> i & 1
    return head + np.packbits(bits).tobytes()


def decoded(data: bytes) -> np.ndarray:
    """uint8 [symbols] that `encoded` has made data of.

    Raises InputError where it has not.
    """
    count, at = _read_leb128(data, 0)
    known, at = _read_leb128(data, at)
    end = at + (known + 1) // 2
    if known > 256 or end > len(data):
        raise _broken()
    pairs = np.frombuffer(data[at:end], np.uint8)
    lengths = np.stack([pairs & 15, pairs >> 4], 1).reshape(-1)[:known].astype(np.int64)
    used = np.flatnonzero(lengths)
    if len(used) < 2:
        if len(data) != end or count and not len(used):
            raise _broken()
        return np.full(count, used[0] if count else 0, np.uint8)
    if int((1 << LONGEST - lengths[used]).sum()) != 1 << LONGEST:
        raise _broken()
    return _followed(np.frombuffer(data[end:], np.uint8), lengths, count)


def _followed(data: np.ndarray, lengths: np.ndarray, count: int) -> np.ndarray:
    """The symbols of a stream of codes: what begins at each bit is looked up for many at once, and followed one by one."""
    order = sorted(np.flatnonzero(lengths), key=lambda s: (lengths[s], s))
    by_prefix = np.repeat(
        order, 1 << LONGEST - lengths[order]
    )  # of the next LONGEST bits, the symbol that they begin with
    found = np.empty(count, np.uint8)
    done, bit = 0, 0
    padded = np.concatenate([data, np.zeros(4, np.uint8)]).astype(np.int64)
    while done < count:
        first = bit // 8
        part = padded[first : first + CHUNK + 4]
        starts = len(part) - 4  # bytes in which a code may begin
        if starts <= 0:
            raise _broken()
        word = part[:-3] << 24 | part[1:-2] << 16 | part[2:-1] << 8 | part[3:]
        ahead = (word[:starts, None] >> 32 - LONGEST - np.arange(8)) & (1 << LONGEST) - 1
        symbol = by_prefix[ahead.reshape(-1)]
        step = lengths[symbol].tolist()
        at, stop, places = bit - 8 * first, 8 * starts, []
        for _ in range(count - done):
            if at >= stop:
                break
            places.append(at)
            at += step[at]
        found[done : done + len(places)] = symbol[places]
        done, bit = done + len(places), 8 * first + at
    if not 0 <= 8 * len(data) - bit < 8:
        raise _broken()
    return found


def _broken() -> InputError:
    return InputError("the data are no Huffman codes, or not all of them")


def _nibbles(lengths: np.ndarray) -> bytes:
    even = np.pad(lengths, (0, len(lengths) % 2)).astype(np.uint8)
    return (even[::2] | even[1::2] << 4).tobytes()


def _leb128(number: int) -> bytes:
    found = bytearray()
    while True:
        number, low = number >> 7, number & 127
        found.append(low | 128 * bool(number))
        if not number:
            return bytes(found)


def _read_leb128(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for i, byte in enumerate(data[at : at + 9]):
        number |= (byte & 127) << 7 * i
        if byte < 128:
            return number, at + i + 1
    raise _broken()
