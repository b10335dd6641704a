"""The register tile of a matrix product, and the panels that its right operand is packed in for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import FMA, Dot
from graphc.backends.cpu.tile.tile_micro import max_rows
from graphc.backends.cpu.tile.tile_model import PRODUCT, efficiency


@dataclass(frozen=True)
class Panels:
    """A product's register tile, mr rows x nv vectors, and how its right operand is packed for it: `tiles` panels of nv
    vectors of columns (the last one of last_nv, of whose last vector `lanes` columns exist), `padded` reduction steps."""

    mr: int
    nv: int
    last_nv: int
    tiles: int
    lanes: int
    padded: int
    vl: int
    dot: Dot = FMA

    @property
    def panel(self) -> int:
        """Bytes of a whole panel."""
        return self.padded * self.dot.weights(self.nv * self.vl)

    @property
    def nbytes(self) -> int:
        """Bytes of a packed matrix."""
        return (self.tiles - 1) * self.panel + self.padded * self.dot.weights(self.last_nv * self.vl)


def panels_of(target: Target, m: int, n: int, k: int, dot: Dot = FMA) -> Panels:
    """k: reduction steps of `dot`."""
    vl = dot.lanes(target)
    vectors = -(-n // vl)
    padded = -(-k // vl) * vl
    mr, nv = product_tile(target, m, vectors)
    tiles = -(-vectors // nv)
    return Panels(mr, nv, vectors - (tiles - 1) * nv, tiles, n - (vectors - 1) * vl, padded, vl, dot)


@lru_cache(maxsize=4096)
def product_tile(target: Target, m: int, vectors: int) -> tuple[int, int]:
    """(MR, NV) for m rows and so many vectors of columns. NV, and so how weights are packed, is the same for every m > 1.

    The share of a tile's work that is not done twice or on columns that do not exist, times the share of the peak that it
    reaches. The panel comes from level 2, a cache line in the time of 8 multiply-adds.
    """
    if m == 1:  # bound by the weights' way from memory: wide tiles, one row
        return 1, min(8, target.pairs, vectors)

    def worth(mr: int, nv: int, fill: float) -> float:
        return efficiency(target, mr, nv, PRODUCT, far=target.vl / 2) * fill + 1e-3 * mr * nv

    def best(nv: int, fill: Callable[[int], float], rows: Iterable[int]) -> tuple[float, int]:
        return max((worth(mr, nv, fill(mr)), mr) for mr in rows)

    def highest(nv: int) -> tuple[float, int]:
        return best(nv, lambda mr: 1.0, range(1, max_rows(target, nv) + 1))

    def columns(nv: int) -> float:  # a narrower tile takes what is left
        return round(highest(nv)[0] * (vectors / (-(-vectors // nv) * nv)) ** 0.5, 2)

    nv = max((n for n in (3, 2, 4, 1) if n <= vectors), key=columns)
    most = highest(nv)[1]
    tallest = min(most + 2, max_rows(target, nv))
    lowest = 1 if m <= tallest else -(-3 * most // 4)  # few kernels for all numbers of rows
    rows = range(lowest, min(m, tallest) + 1)
    return best(nv, lambda mr: m / (-(-m // mr) * mr), rows)[1], nv


def near_bytes(target: Target) -> range:
    """Of weights which are likely to be in the last-level cache at their next use, though others are used meanwhile; fewer are
    in the second."""
    return range(target.l2 // 4, target.l3 // 32 + 1)
