"""The register tile of products of signs: a step takes 32 bits of a row and of each column, and counts those that differ."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import BITS
from graphc.backends.cpu.tile.tile_micro import Tile
from graphc.backends.llvm.emit import I32, Emit

RESERVED = (
    7  # vector registers that counting takes where there is no instruction for it: tables, masks, what is between
)


def has_count(target: Target) -> bool:
    """Is there an instruction (AVX512_VPOPCNTDQ) that counts the bits of each lane?"""
    return target.isa == "avx512" and "+avx512vpopcntdq" in target.features.split(",")


def free_registers(target: Target) -> int:
    """Vector registers that a tile may fill."""
    return target.registers - (BitTile.temporaries if has_count(target) else RESERVED)


class BitTile(Tile):
    """Rows [steps][mr] and weights [steps][nv vectors] of words; sums in int32, of which LLVM only moves the bits where they are
    counted in assembly. Elsewhere it finds instructions for the count."""

    temporaries = 1  # bits that differ

    def __init__(self, q: Emit, target: Target, mr: int, nv: int, lines: int = 0) -> None:
        super().__init__(q, target, mr, nv, lines, BITS)

    def spread_assembly(self, x: str, row: int, u: int, xu: int, to: str, registers: list[str]) -> str:
        return f"vpbroadcastd {self.address_assembly(x, row, u, xu)}, {to}"

    def multiply_assembly(self, weight: str, spread: str, acc: str, registers: list[str]) -> list[str]:
        differ = registers[0]
        return [
            f"vpxord {weight}, {spread}, {differ}",
            f"vpopcntd {differ}, {differ}",
            f"vpaddd {differ}, {acc}, {acc}",
        ]

    def fma_steps(
        self, x: ir.Value, w: ir.Value, depth: int, xm: int, xu: int, ahead: ir.Value, coming: ir.Value | None = None
    ) -> None:
        if has_count(self.target):
            super().fma_steps(x, w, depth, xm, xu, ahead, coming)
            return
        q, b, vl = self.q, self.q.b, self.vl
        wide = q.vector(I32, vl)
        for u in range(depth):
            weights = [q.load_raw(q.offset(w, (u * self.nv + j) * self.weights), I32, vl) for j in range(self.nv)]
            for m in range(self.mr):
                spread = q.splat(q.load_raw(q.offset(x, (m * xm + u * xu) * self.item), I32, 1), vl)
                for j in range(self.nv):
                    count = q.intrinsic("ctpop", b.xor(weights[j], spread))
                    self.set(m, j, b.bitcast(b.add(b.bitcast(self.get(m, j), wide), count), self.kind))
