"""Huffman codes: what is encoded comes back, in as few bits as a code can have."""

from __future__ import annotations

import heapq
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphc.errors import InputError
from graphc.huffman import LONGEST, RUN, canonical, decoded, encoded, lengths_of


def huffman_bits(counts: list[int]) -> int:
    """Of all symbols, by Huffman's own algorithm: each merge of the two rarest adds a bit to all that they hold."""
    heap, total = [n for n in counts if n], 0
    heapq.heapify(heap)
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        total += both
        heapq.heappush(heap, both)
    return total


@given(st.lists(st.integers(0, 255), max_size=40))
def test_what_is_encoded_comes_back(symbols: list[int]):
    array = np.array(symbols, np.uint8)
    np.testing.assert_array_equal(decoded(encoded(array)), array)


@pytest.mark.parametrize("count", [RUN - 1, RUN, RUN + 1, 2 * RUN, 3 * RUN + 5])
def test_runs(count: int):
    symbols = np.random.default_rng(count).integers(0, 200, count).astype(np.uint8)
    np.testing.assert_array_equal(decoded(encoded(symbols)), symbols)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=40))
def test_no_code_is_better(counts: list[int]):
    lengths = lengths_of(np.array(counts))
    used = lengths > 0
    np.testing.assert_array_equal(used, np.array(counts) > 0)
    if used.sum() > 1:
        assert (lengths * counts).sum() == huffman_bits(counts), "the counts need no code of more than 15 bits"
        assert (2.0 ** -lengths[used]).sum() == 1


def test_no_code_is_longer_than_15_bits():
    """Fibonacci's numbers make Huffman's tree as deep as there are symbols."""
    counts = [1, 1]
    while len(counts) < 24:
        counts.append(counts[-1] + counts[-2])
    lengths = lengths_of(np.array(counts))
    assert lengths.max() == LONGEST and (2.0**-lengths).sum() == 1
    assert huffman_bits(counts) < (lengths * counts).sum() < 1.01 * huffman_bits(counts)
    few = lengths_of(np.array(counts[:6]), longest=3)
    every = (c for c in itertools.product((1, 2, 3), repeat=6) if sum(2.0**-n for n in c) <= 1)
    assert (few * counts[:6]).sum() == min(sum(a * b for a, b in zip(c, counts)) for c in every)


def test_codes_are_in_order():
    """Those of RFC 1951, section 3.2.2."""
    codes = canonical(np.array([3, 3, 3, 3, 3, 2, 4, 4]))
    assert [f"{c:b}".zfill(n) for c, n in zip(codes, (3, 3, 3, 3, 3, 2, 4, 4))] == [
        *("010", "011", "100", "101", "110", "00", "1110", "1111")
    ]


def test_many_symbols():
    """Many runs; a little above the entropy, and a frequent symbol takes a bit."""
    rng = np.random.default_rng(0)
    symbols = np.minimum(rng.geometric(0.3, 300 * RUN + 7), 256) - 1
    data = encoded(symbols)
    np.testing.assert_array_equal(decoded(data), symbols)
    part = np.bincount(symbols) / len(symbols)
    entropy = -(part[part > 0] * np.log2(part[part > 0])).sum() * len(symbols) / 8
    assert entropy <= len(data) < 1.04 * entropy
    assert len(encoded(np.zeros(1000, np.uint8))) < 8 and len(decoded(encoded(np.zeros(1000, np.uint8)))) == 1000


def test_broken_data():
    data = encoded(np.random.default_rng(0).integers(0, 16, 1000))
    for wrong in (b"", data[:3], data[:-1], data + b"\0", b"\xff" * 20, data[:2] + b"\x11" + data[3:]):
        with pytest.raises(InputError, match="no Huffman codes"):
            decoded(wrong)
