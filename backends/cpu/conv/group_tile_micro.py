"""The register tile of a grouped convolution whose groups are narrower than a vector.

A vector of outputs holds whole groups. Step u multiplies it with input u of each lane's own group: the input's vector, permuted.
So nothing is multiplied by the zeros that other groups' weights would be.
"""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.tile_micro import Tile
from graphc.backends.llvm.emit import Emit

I32 = ir.IntType(32)
LANE = 4  # float32 of the 128 bits within which a permutation by an immediate stays


def is_group(channels: int, target: Target) -> bool:
    """Do groups of so many channels, in and out, fill vectors?"""
    return channels < target.vl and target.vl % channels == 0


def group_rows(target: Target, channels: int, pixels: int) -> int:
    """Rows of the tile for rows of `pixels`: as few tiles as there must be, alike. Of many an even number, so that long rows
    share few kernels."""
    most = min(pixels, target.registers - 2 - (channels if channels > LANE else 0))
    tiles = -(-pixels // most)
    rows = -(-pixels // tiles)
    return min(most, rows + rows % 2) if tiles > 2 else rows


class GroupTile(Tile):
    """MR rows x one vector of outputs; `channels` steps, whose weights are [channels][vl]."""

    def __init__(self, q: Emit, target: Target, mr: int, channels: int) -> None:
        super().__init__(q, target, mr, 1)
        self.channels = channels

    def _sources(self, u: int) -> list[int]:
        """For each lane of outputs the lane of its input u."""
        return [lane // self.channels * self.channels + u for lane in range(self.vl)]

    def spread(self, x: ir.Value, row: int, u: int, xu: int) -> ir.Value:
        v = self.q.load_raw(self.q.offset(x, row * self.item), self.element, self.vl)
        mask = ir.Constant(ir.VectorType(I32, self.vl), self._sources(u))
        return self.q.b.shuffle_vector(v, ir.Constant(self.kind, ir.Undefined), mask)

    def spread_assembly(self, x: str, row: int, u: int, xu: int, to: str, registers: list[str]) -> str:
        if registers:
            return f"vpermps {row * self.item}({x}), {registers[u]}, {to}"
        immediate = sum(source << 2 * lane for lane, source in enumerate(self._sources(u)[:LANE]))
        return f"vpermilps ${immediate}, {row * self.item}({x}), {to}".replace("$", "$$", 1)

    @property
    def constants(self) -> list[ir.Value]:
        if self.channels <= LANE:
            return []
        vector = ir.VectorType(I32, self.vl)
        steps = range(self.channels)
        return [self.q.b.bitcast(ir.Constant(vector, self._sources(u)), self.kind) for u in steps]
