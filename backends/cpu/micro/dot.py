"""Inner steps of register tiles: what one multiplies, and how its operands are packed.

A step adds to each lane of an accumulator the sum of `k` products: acc[lane] += sum(a[i] * b[lane][i] for i in range(k)). The k
elements of a row lie together, and so do the k of each lane of weights: rows are packed as [step][k], weights as
[step][lane][k], in whole bytes per step. Tiles, panels and the packing of operands count in steps and take the bytes of one
from here. A new inner step is a row of DOTS and a tile that emits it (see `Tile` and `ByteTile`).
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.backends.cpu.target import Target
from graphc.dtypes import FLOAT32, INT8, INT32, UINT8, Element


@dataclass(frozen=True)
class Dot:
    """name: in the specifications of kernels. a: elements of rows, b: of weights. k: products per lane and step."""

    name: str
    a: Element
    b: Element
    accumulator: Element
    k: int

    @property
    def item(self) -> int:
        """Bytes of a row that a step reads."""
        return self.a.packed_bytes(self.k)

    def lanes(self, target: Target) -> int:
        """Sums per vector of accumulators."""
        return target.lanes(self.accumulator)

    def weights(self, lanes: int) -> int:
        """Bytes of so many lanes of weights of a step."""
        return self.b.packed_bytes(self.k * lanes)

    def steps(self, depth: int) -> int:
        """Steps that sum `depth` products."""
        return -(-depth // self.k)


FMA = Dot("", FLOAT32, FLOAT32, FLOAT32, 1)
BYTES = Dot("bytes", UINT8, INT8, INT32, 4)  # AVX-512 VNNI, elsewhere some instructions: micro/byte_tile.py
DOTS = {dot.name: dot for dot in (FMA, BYTES)}
