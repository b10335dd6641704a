"""Inner steps of register tiles: what one multiplies, and how its operands are packed.

A step adds to each lane of an accumulator the sum of `k` products: acc[lane] += sum(a[i] * b[lane][i] for i in range(k)). The k
elements of a row lie together, and so do the k of each lane of weights: rows are packed as [step][k], weights as
[step][lane][k], in whole bytes per step. Tiles, panels and the packing of operands count in steps and take the bytes of one
from here. A new inner step is a row of DOTS and a tile that emits it (see `Tile` and `ByteTile`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from graphc.backends.cpu.target import Target
from graphc.dtypes import BY_NAME, FLOAT32, INT8, INT32, SUB_BYTE, UINT8, Element, pack_bits

if TYPE_CHECKING:
    from graphc.graph import Value
    from graphc.report import StepInfo


BIT = Element("bit", 1, "uint", "int32")  # of a sign; no type of a tensor


@dataclass(frozen=True)
class Dot:
    """name: in the specifications of kernels. a: elements of rows, b: of weights. k: products per lane and step."""

    name: str
    a: Element
    b: Element
    accumulator: Element
    k: int

    @property
    def types(self) -> str:
        """What it multiplies, for a person: 'float32', or 'uint8 x int8', rows first."""
        return self.a.name if self.a is self.b else f"{self.a} x {self.b}"

    def told(self, info: StepInfo, weights: Value) -> StepInfo:
        """What a person is told of a step with this inner step, whose weights lie in memory as it has them."""
        moved = self.b.packed_bytes(weights.type.elements) - weights.type.nbytes
        return replace(info, type=self.types, nbytes=info.nbytes + moved)

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

    def pack(self, weights: np.ndarray) -> np.ndarray:
        """[..., depth, lanes] as [..., step, lanes, k], zeros where the last step has no more. In bytes [..., step, `weights`]
        where elements are less than that."""
        steps, (*outer, depth, lanes) = self.steps(weights.shape[-2]), weights.shape
        if steps * self.k > depth:
            weights = np.concatenate([weights, np.zeros((*outer, steps * self.k - depth, lanes), weights.dtype)], -2)
        weights = self.in_type(weights)
        grouped = weights.reshape(*outer, steps, self.k, lanes).swapaxes(-1, -2) if self.k > 1 else weights
        if self.b.bits not in SUB_BYTE:
            return grouped
        return pack_bits(grouped.reshape(*outer, steps, lanes * self.k), self.b)

    def in_type(self, weights: np.ndarray) -> np.ndarray:
        """Weights in the type of `b`, rounded to nearest even."""
        with np.errstate(invalid="ignore"):  # of a NaN
            return weights.astype(self.b.numpy, copy=False)

    @property
    def recipe(self) -> tuple[str, ...]:
        """What tells weights that are packed for it from those for FMA."""
        return (self.name,) if self.name else ()

    def steps(self, depth: int) -> int:
        """Steps that sum `depth` products."""
        return -(-depth // self.k)


FMA = Dot("", FLOAT32, FLOAT32, FLOAT32, 1)
BYTES = Dot("bytes", UINT8, INT8, INT32, 4)  # AVX-512 VNNI, elsewhere some instructions: product/byte_tile_micro.py
# the same in fewer instructions for weights above -128: rows less 128, so sums must begin with 128 times those of the weights
SHIFTED = replace(BYTES, name="shifted bytes")
SHIFT = 128
# the same in fewer still for weights of at most 64, either sign: no sum of two products by them exceeds 16 bits
NARROW, NARROW_MOST = replace(BYTES, name="narrow bytes"), 64
# float32 by narrow weights, for one row: product/half_tile_micro.py
FLOAT16, BFLOAT16 = (Dot(name, FLOAT32, BY_NAME[name], FLOAT32, 1) for name in ("float16", "bfloat16"))
PAIRS = Dot("pairs", BY_NAME["bfloat16"], BY_NAME["bfloat16"], FLOAT32, 2)  # AVX512_BF16: product/byte_tile_micro.py
# signs, of which 32 products are a word: product/bit_tile_micro.py
BITS = Dot("bits", BIT, BIT, INT32, 32)
DOTS = {dot.name: dot for dot in (FMA, BYTES, FLOAT16, BFLOAT16, PAIRS, BITS, SHIFTED, NARROW)}
