"""The register tile of products whose weights lie in memory as float16 or bfloat16: they become float32 on their way into registers.

For one row, which waits for weights: half as many bytes take half the time. Of more rows the multiply-adds are what takes time.
"""

from __future__ import annotations

from functools import partial

from llvmlite import ir

from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import BFLOAT16, FLOAT16, Dot
from graphc.backends.cpu.tile.tile_micro import Tile
from graphc.backends.llvm.emit import Emit


class HalfTile(Tile):
    """Each vector of weights has a register of its own."""

    def __init__(self, q: Emit, target: Target, mr: int, nv: int, lines: int = 0, *, dot: Dot) -> None:
        super().__init__(q, target, mr, nv, lines, dot)

    def load(self, pointer: ir.Value) -> ir.Value:
        return self.q.load(pointer, self.dot.b.numpy, self.vl)

    def load_assembly(self, source: str, to: str) -> list[str]:
        if self.dot is FLOAT16:
            return [f"vcvtph2ps {source}, {to}"]
        return [f"vpmovzxwd {source}, {to}", f"vpslld $$16, {to}, {to}"]


HALF_TILES = {dot: partial(HalfTile, dot=dot) for dot in (FLOAT16, BFLOAT16)}
