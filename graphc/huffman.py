"""Canonical Huffman codes of bytes: the storage of indices into a codebook, of which some are more frequent than others.

The data are: the number of symbols and the number of known ones as LEB128, the length of each one's code in 4 bits (0: it
does not occur), the bytes of each run of RUN symbols but the last in 2 bytes, and the runs: codes one after the other, the highest bit
first, to a whole byte. Runs are decoded beside each other. Codes of one length follow each other in the order of their symbols,
shorter ones come first, so lengths say all (D. Hirschberg and D. Lelewer, "Efficient decoding of prefix codes", CACM 33, 1990). No code is
longer than 15 bits: lengths are the best of these, by package-merge (L. Larmore and D. Hirschberg, "A fast algorithm for optimal length-limited
Huffman codes", JACM 37, 1990).
"""

from __future__ import annotations

import numpy as np

from graphc.errors import InputError

LONGEST = 15  # bits of a code
RUN = 1024  # symbols that are decoded one after the other
AT_ONCE = 256  # runs that are encoded together

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
    head = leb128(flat.size) + leb128(len(counts)) + _nibbles(lengths)
    if np.count_nonzero(lengths) < 2:
        return head
    codes, parts = canonical(lengths).astype(np.uint16), []
    for start in range(0, flat.size, AT_ONCE * RUN):
        some = flat[start : start + AT_ONCE * RUN]
        parts.append(_written(_in_runs(codes[some]), _in_runs(lengths.astype(np.uint8)[some])))
    sizes = np.concatenate([nbytes for nbytes, _ in parts])
    return head + sizes[:-1].astype("<u2").tobytes() + b"".join(written for _, written in parts)


def _written(codes: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, bytes]:
    """The bytes of each run of codes [runs, RUN], and what they are."""
    within = np.cumsum(lengths, axis=1, dtype=np.int32)
    nbytes = (within[:, -1] + 7) // 8
    ends = 8 * (np.cumsum(nbytes) - nbytes)[:, None] + within
    bits = np.zeros(8 * int(nbytes.sum()), np.uint8)
    for i in range(int(lengths.max())):  # the i-th bit of each code, from its end
        longer = lengths > i
        bits[ends[longer] - 1 - i] = codes[longer] >> i & 1
    return nbytes, np.packbits(bits).tobytes()


def _in_runs(values: np.ndarray) -> np.ndarray:
    """[runs, RUN], zeros behind the last."""
    return np.pad(values, (0, -values.size % RUN)).reshape(-1, RUN)


def decoded(data: bytes, expected: int | None = None) -> np.ndarray:
    """uint8 [symbols] that `encoded` has made data of.

    Raises InputError where it has not, or of another number of symbols than is expected.
    """
    count, at = read_leb128(data, 0)
    if expected not in (None, count):
        raise _broken()
    known, at = read_leb128(data, at)
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
    sizes = data[end : end + 2 * ((count - 1) // RUN)]
    if not count or len(sizes) < 2 * ((count - 1) // RUN):
        raise _broken()
    return _followed(
        np.frombuffer(data[end + len(sizes) :], np.uint8), np.frombuffer(sizes, "<u2").astype(np.int64), lengths, count
    )


def _followed(data: np.ndarray, sizes: np.ndarray, lengths: np.ndarray, count: int) -> np.ndarray:
    """The symbols of runs of codes, of all but the last of which the bytes are known: one of each run at a time."""
    order = np.array(sorted(np.flatnonzero(lengths), key=lambda s: (lengths[s], s)))
    by_prefix = np.repeat(order, 1 << LONGEST - lengths[order]).astype(
        np.uint8
    )  # what the next LONGEST bits begin with
    starts = np.concatenate([[0], np.cumsum(sizes)])
    ends = 8 * np.append(starts[1:], data.size)
    if starts[-1] > data.size:
        raise _broken()
    padded = np.concatenate([data, np.zeros(3, np.uint8)]).astype(np.int32)
    words = padded[:-2] << 16 | padded[1:-1] << 8 | padded[2:]
    found = np.zeros((RUN, len(starts)), np.uint8)
    at, last = 8 * starts, count - RUN * (len(starts) - 1)
    steps = lengths.astype(np.int64)
    for i in range(RUN):
        if i == last:
            at, ends, finished = at[:-1], ends[:-1], (at[-1], ends[-1])
            _require_end(*finished)
        if not at.size:
            break
        ahead = words[np.minimum(at >> 3, data.size)] >> 24 - LONGEST - (at & 7) & (1 << LONGEST) - 1
        symbols = by_prefix[ahead]
        found[i, : at.size] = symbols
        at = at + steps[symbols]
    _require_end(at, ends)
    return np.ascontiguousarray(found.T).reshape(-1)[:count]


def _require_end(at: np.ndarray, ends: np.ndarray) -> None:
    """Runs end within their last bytes. Raises InputError."""
    left = ends - at
    if np.any((left < 0) | (left >= 8)):
        raise _broken()


def _broken() -> InputError:
    return InputError("the data are no Huffman codes, or not all of them")


def _nibbles(lengths: np.ndarray) -> bytes:
    even = np.pad(lengths, (0, len(lengths) % 2)).astype(np.uint8)
    return (even[::2] | even[1::2] << 4).tobytes()


def leb128(number: int) -> bytes:
    found = bytearray()
    while True:
        number, low = number >> 7, number & 127
        found.append(low | 128 * bool(number))
        if not number:
            return bytes(found)


def read_leb128(data: bytes | memoryview, at: int) -> tuple[int, int]:
    number = 0
    for i, byte in enumerate(data[at : at + 9]):
        number |= (byte & 127) << 7 * i
        if byte < 128:
            return number, at + i + 1
    raise _broken()
