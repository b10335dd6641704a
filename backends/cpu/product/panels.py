"""The register tile of a matrix product, and the panels that its right operand is packed in for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar

from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import FMA, Dot
from graphc.backends.cpu.tile.tile_micro import max_rows
from graphc.backends.cpu.tile.tile_model import PRODUCT, efficiency
from graphc.sizes import choose, for_speed, is_size, smallest


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

    sparse: ClassVar[bool] = False  # see product/block_sparse.py

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
    if dot.b.bits < FMA.b.bits and dot.k == 1:  # each vector of weights has a register
        nv = min(nv, (target.registers - 1) // 2)
        mr = smallest(mr, (target.registers - 1 - nv) // nv)
    tiles = -(-vectors // nv)
    return Panels(mr, nv, (vectors - 1) % nv + 1, tiles, (n - 1) % vl + 1, padded, vl, dot)


def product_tile(target: Target, m: int, vectors: int) -> tuple[int, int]:
    """(MR, NV) for m rows and so many vectors of columns. NV, and so how weights are packed, is the same for every m > 1.

    The share of a tile's work that is not done twice or on columns that do not exist, times the share of the peak that it
    reaches. The panel comes from level 2, a cache line in the time of 8 multiply-adds.
    """
    if m == 1:  # bound by the weights' way from memory: wide tiles, one row
        return 1, min(8, target.pairs, vectors)
    nv = _columns(target, vectors)
    if vectors < nv:
        raise AssertionError(f"{vectors} vectors of columns are fewer than a tile of {nv}")
    return rows_of_tile(target, m, nv), nv


def _worth(target: Target, mr: int, nv: int, fill: float = 1.0) -> float:
    return efficiency(target, mr, nv, PRODUCT, far=target.vl / 2) * fill + 1e-3 * mr * nv


@lru_cache(maxsize=256)
def _highest(target: Target, nv: int) -> tuple[float, int]:
    """The best tile of many rows: its worth, its rows."""
    return max((_worth(target, mr, nv), mr) for mr in range(1, max_rows(target, nv) + 1))


@for_speed
@lru_cache(maxsize=4096)
def _columns(target: Target, vectors: int) -> int:
    def worth(nv: int) -> float:  # a narrower tile takes what is left
        return round(_highest(target, nv)[0] * (vectors / (-(-vectors // nv) * nv)) ** 0.5, 2)

    return max((n for n in (3, 2, 4, 1) if n <= vectors), key=worth)


def rows_of_tile(target: Target, m: int, nv: int) -> int:
    """MR of tiles of nv vectors: among few heights where m is large; where it stands for many, among fewer still."""
    most = _highest(target, nv)[1]
    tallest = min(most + 2, max_rows(target, nv))
    lowest = -(-3 * most // 4)
    if not is_size(m):
        return _best_rows(target, m, nv, tuple(range(1 if m <= tallest else lowest, min(m, tallest) + 1)))
    if m > tallest:
        return choose(partial(_best_rows, target, nv=nv, heights=(lowest, most - 1, most)), m)
    heights = [h for h in (2, 3, 4, 6, 8) if h < tallest] + [tallest]
    return choose(lambda m: _best_rows(target, m, nv, tuple(h for h in heights if h <= m) or (1,)), m)


@lru_cache(maxsize=4096)
def _best_rows(target: Target, m: int, nv: int, heights: tuple[int, ...]) -> int:
    return max((_worth(target, mr, nv, m / (-(-m // mr) * mr)), mr) for mr in heights)[1]


def near_bytes(target: Target) -> range:
    """Of weights which are likely to be in the last-level cache at their next use, though others are used meanwhile; fewer are
    in the second."""
    return range(target.l2 // 4, target.l3 // 32 + 1)
