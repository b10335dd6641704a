"""Shared weights: each is one of the 2^bits numbers of its layer's codebook, found by k-means (S. Han, H. Mao and W. J. Dally, "Deep
compression", ICLR 2016). An ONNX file has the indices, which a Gather of the codebook decodes; graphc does so when it compiles.

Zeros stay zeros: where a layer has some, as behind `sparse`, one number of its codebook is 0.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from graphc.dtypes import BY_NAME
from graphc.errors import InputError
from graphc.graph import Graph, Value
from graphc.huffman import encoded
from graphc.shrinker.layers import Rebuilt
from graphc.shrinker.report import LayerReport
from graphc.shrinker.storage import Stored, stored

MOST_BITS = 8
TURNS = 300  # of Lloyd's iteration, which ends by itself before


@dataclass(frozen=True)
class Codebook:
    """Stores the weights of every layer as indices of so many bits.

    Raises InputError for what is no whole number from 1 to 8.
    """

    bits: int

    def __post_init__(self) -> None:
        if type(self.bits) is not int or not 1 <= self.bits <= MOST_BITS:
            raise InputError(f"codebook must be bits from 1 to {MOST_BITS}, not {self.bits!r}", hint="codebook=4")

    def __str__(self) -> str:
        return f"codebooks of {2**self.bits} weights"

    def __call__(self, graph: Graph, keep: Collection[str]) -> tuple[Graph, tuple[LayerReport, ...]]:
        return stored(graph, keep, self._form)

    def _form(self, w: np.ndarray, axis: int) -> Stored:
        book, indices = shared(w, 2**self.bits)
        element = next(e for e in (BY_NAME["uint2"], BY_NAME["uint4"], BY_NAME["uint8"]) if len(book) <= 1 << e.bits)
        size = element.packed_bytes(w.size) + book.nbytes

        def build(sweep: Rebuilt, stem: str) -> Value:
            codes = sweep.weights(indices.astype(element.numpy), f"{stem}_indices")
            wide = sweep.made("Cast", codes, stem=f"{stem}_index", to=np.dtype(np.int32))
            return sweep.made("Gather", sweep.weights(book, f"{stem}_codebook"), wide, stem=f"{stem}_shared")

        return Stored(book[indices], f"{len(book)} numbers", size, len(encoded(indices)) + book.nbytes, build)


def shared(w: np.ndarray, entries: int) -> tuple[np.ndarray, np.ndarray]:
    """A codebook, float32 and ascending, of so many entries or fewer, and the index of each weight, uint8. The same weights always have
    the same. w: finite."""
    values = np.sort(w, axis=None).astype(np.float64)
    distinct = np.unique(values)
    if len(distinct) <= entries:
        book = distinct
    elif (values == 0).any() and entries > 1:
        book = np.sort(np.append(_means(values[values != 0], entries - 1), 0.0))
    else:
        book = _means(values, entries)
    found = np.unique(book.astype(np.float32))
    return found, np.searchsorted(_borders(found), w).astype(np.uint8)


def _borders(book: np.ndarray) -> np.ndarray:
    """In the middle between neighbours."""
    wide = book.astype(np.float64)
    return (wide[1:] + wide[:-1]) / 2


def _means(values: np.ndarray, entries: int) -> np.ndarray:
    """k-means of sorted values by Lloyd's iteration, from entries as far apart as each other, and from as many values each: the better
    of the two."""
    sums, squares = (np.append(0.0, np.cumsum(values**power)) for power in (1, 2))
    even = np.linspace(values[0], values[-1], entries)
    often = values[((np.arange(entries) + 0.5) / entries * len(values)).astype(int)]
    found = [_lloyd(values, sums, start) for start in (even, often)]
    return min(found, key=lambda book: _squares(values, sums, squares, book))


def _lloyd(values: np.ndarray, sums: np.ndarray, book: np.ndarray) -> np.ndarray:
    for _ in range(TURNS):
        ends = _ends(values, book)
        count = np.diff(ends)
        mean = np.diff(sums[ends]) / np.maximum(count, 1)
        new = np.sort(np.where(count > 0, mean, book))
        if np.array_equal(new, book):
            break
        book = new
    return book


def _ends(values: np.ndarray, book: np.ndarray) -> np.ndarray:
    """[entries + 1]: where the values of each entry begin, and all end."""
    return np.concatenate([[0], np.searchsorted(values, _borders(book)), [len(values)]])


def _squares(values: np.ndarray, sums: np.ndarray, squares: np.ndarray, book: np.ndarray) -> float:
    """The sum of squares of errors."""
    ends = _ends(values, book)
    first, second = np.diff(sums[ends]), np.diff(squares[ends])
    return float((second - 2 * book * first + book**2 * np.diff(ends)).sum())
