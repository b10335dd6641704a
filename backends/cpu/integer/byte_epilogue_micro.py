"""How a convolution of bytes ends, or one of bfloat16: sums in int32 or float32, and what an expression makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from llvmlite import ir

from graphc.backends.cpu.integer.byte_conv_block import BYTE_TILE
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import PAIRS, Dot
from graphc.backends.cpu.verbs.tail_micro import load, store
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import I16, Emit, i64
from graphc.dtypes import BY_NAME
from graphc.expr import Expr

OPERANDS, OPERAND_SIZE = BYTE_TILE.size, BYTE_TILE.record_size
REF, PIXEL, VECTOR = BYTE_TILE.in_record("ref pixel vector")


class Place(NamedTuple):
    """Of an operand: its address, and bytes from one pixel and from one vector to the next."""

    ref: ir.Value
    pixel: ir.Value
    vector: ir.Value


def places_in(q: Emit, block: ir.Value, count: int) -> list[Place]:
    """Of the operands that a block of BYTE_TILE lists."""
    return [
        Place(*(q.slot(block, OPERANDS + OPERAND_SIZE * e + word) for word in (REF, PIXEL, VECTOR)))
        for e in range(count)
    ]


class Ending:
    """The expression of arg 0 = the sums and the epilogue's operands, and what it is stored as.

    operands: dtype and kind of each, 's' one number for all, 'p' one of each pixel, 't' a table of bytes, else a vector ('c' the same for each pixel);
    places: where they are. mask: the lanes of the last of nv vectors that exist, None for all. contracts: a number that is multiplied
    and added to is rounded once.
    """

    def __init__(
        self,
        q: Emit,
        target: Target,
        places: Sequence[Place],
        dot: Dot,
        epilogue: Expr | None,
        operands: Sequence[tuple[str, str]],
        nv: int,
        mask: ir.Value | None,
        contracts: bool = True,
    ) -> None:
        self.q, self.vl, self.dot, self.epilogue, self.nv, self.mask = q, target.vl, dot, epilogue, nv, mask
        self.registers = target.registers
        q.contracts = contracts
        self.sums = dot.accumulator.numpy
        self.dtype = self.sums if epilogue is None else epilogue.dtype
        self.operands = [(BY_NAME[dtype].numpy, kind) for dtype, kind in operands]
        self.places = places
        self.held = self._held()

    def _held(self) -> dict[tuple[int, int], ir.Value]:
        """What is the same for all pixels, in registers while there are some: operands, by number and vector."""
        found: dict[tuple[int, int], ir.Value] = {}
        for kind in ("s", "c"):
            for e in (e for e, (_, k) in enumerate(self.operands) if k == kind):
                vectors = range(self.nv if kind == "c" else 1)
                if len(found) + len(vectors) <= self.registers // 2:
                    found |= {(e, j): self._load(e, i64(0), j) for j in vectors}
        return found

    def write(self, sums: ir.Value, to: ir.Value, pixel: ir.Value, j: int) -> None:
        """to: where the vector j of a pixel goes."""
        q = self.q
        mask = self.mask if j == self.nv - 1 else None
        value = sums
        if self.epilogue is not None:

            def operand(i: int) -> ir.Value:
                return sums if i == 0 else self._operand(i - 1, pixel, j)

            value = expr_code.emit_to_store(q, self.epilogue, operand, self.vl)
        value = self._narrowed(value)
        if mask is None:
            q.store_raw(value, to)
        else:
            store(q, value, to, self.dtype, self.vl, mask)

    def _narrowed(self, value: ir.Value) -> ir.Value:
        """As it is stored. The instruction takes what is below float32's smallest normal number for 0, as that of the products does."""
        q = self.q
        if self.dot is not PAIRS or self.dtype != PAIRS.a.numpy:
            return q.narrow(value, self.dtype, self.vl)
        return q.call("llvm.x86.avx512bf16.cvtneps2bf16.512", q.vector(I16, self.vl), value)

    def _operand(self, e: int, pixel: ir.Value, j: int) -> ir.Value:
        kind = self.operands[e][1]
        held = self.held.get((e, 0 if kind == "s" else j))
        return self._load(e, pixel, j) if held is None else held

    def _load(self, e: int, pixel: ir.Value, j: int) -> ir.Value:
        q, b = self.q, self.q.b
        (dtype, kind), (ref, step, vector) = self.operands[e], self.places[e]
        mask = self.mask if j == self.nv - 1 else None
        if kind == "t":
            return q.pointer(ref)
        if kind in ("s", "p"):
            ref = b.add(ref, b.mul(pixel, step)) if kind == "p" else ref
            return q.splat(q.load(q.pointer(ref), dtype, 1), self.vl)
        at = b.add(ref, b.mul(vector, i64(j)))
        if kind == "v":
            at = b.add(at, b.mul(pixel, step))
        if mask is None:
            return q.load(q.pointer(at), dtype, self.vl)
        return q.widen(load(q, q.pointer(at), dtype, self.vl, mask), dtype, self.vl)
