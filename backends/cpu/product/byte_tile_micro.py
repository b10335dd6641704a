"""The register tiles of products whose steps take four bytes of a row: four unsigned bytes times four signed ones of each column,
added to int32, or two bfloat16 times two, added to float32.

Rows and weights are laid out as float32 are, with four bytes of the reduction in the place of one float. The accumulators are
declared as float32 also where they are int32, since only their bits are moved outside of the inner step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llvmlite import ir

from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import BYTES, NARROW, NARROW_MOST, PAIRS, SHIFTED, Dot
from graphc.backends.cpu.tile.tile_micro import Tile
from graphc.backends.llvm.emit import I8, I32, I64, Emit, i64

if TYPE_CHECKING:
    from graphc.graph import Value

_INSTRUCTIONS = {BYTES: "vpdpbusd", PAIRS: "vdpbf16ps"}
_MASKS, _ONES = {BYTES: 0x7F7F7F7F, SHIFTED: 0x80808080}, 0x00010001
RESERVED = 4  # vector registers that the step takes where there is no instruction for it


def has_dot(target: Target) -> bool:
    """Is there an instruction (AVX-512 VNNI) for the inner step of bytes?"""
    return target.isa == "avx512" and "+avx512vnni" in target.features.split(",")


def dot_of_bytes(target: Target, weights: Value) -> Dot:
    """The inner step of unsigned bytes times those."""
    if has_dot(target) or not target.asm or not weights.is_const:
        return BYTES
    lowest, highest = int(weights.data.min(initial=0)), int(weights.data.max(initial=0))
    if max(-lowest, highest) <= NARROW_MOST:
        return NARROW
    if lowest == -128 or target.isa == "avx512":  # where `vpsignb` has no form
        return BYTES
    return SHIFTED


def free_registers(target: Target) -> int:
    """Vector registers that a tile may fill."""
    return target.registers if has_dot(target) or not target.asm else target.registers - RESERVED


class ByteTile(Tile):
    """Rows [4·vl steps][mr], weights [4·vl steps][nv vectors]; the sums of bytes are exact modulo 2^32. For PAIRS there is always an
    instruction (`Target.dots_bfloat16`), which takes numbers below float32's smallest normal one for 0.

    Without the instruction, pairs of products are added in 16 bits, which saturate. For NARROW two products fit. For SHIFTED, bytes
    of rows become signed ones by -128; of these, magnitudes are multiplied by weights that take their signs, two products of which
    fit: at most 128 * 127. For BYTES, where a weight may be -128, a byte is cut into its low seven bits and its highest, for
    either of which two fit.
    """

    def __init__(self, q: Emit, target: Target, mr: int, nv: int, lines: int = 0, dot: Dot = BYTES) -> None:
        super().__init__(q, target, mr, nv, lines, dot)
        self.native = dot is PAIRS or has_dot(target)
        self.temporaries = 0 if self.native else 1 if dot is NARROW else 2  # low bits or magnitudes, products

    @property
    def constants(self) -> list[ir.Value]:
        """The mask of the low seven bits of bytes, or that of the highest, where one is wanted, and 16-bit ones."""
        if self.native:
            return []
        words = [_MASKS[self.dot], _ONES] if self.dot in _MASKS else [_ONES]
        return [self.q.b.bitcast(self.q.const(w, I32, self.vl), self.kind) for w in words]

    def spread_assembly(self, x: str, row: int, u: int, xu: int, to: str, registers: list[str]) -> str:
        lines = [f"vpbroadcastd {self.address_assembly(x, row, u, xu)}, {to}"]
        if not self.native and self.dot in _MASKS:
            mask, _, low, _ = registers
            suffix = "d" if self.target.asm == "v" else ""
            if self.dot is SHIFTED:
                lines += [f"vpxor{suffix} {mask}, {to}, {to}", f"vpabsb {to}, {low}"]
            else:
                lines += [f"vpand{suffix} {mask}, {to}, {low}", f"vpxor{suffix} {low}, {to}, {to}"]
        return "\n".join(lines)

    def multiply_assembly(self, weight: str, spread: str, acc: str, registers: list[str]) -> list[str]:
        if self.native:
            return [f"{_INSTRUCTIONS[self.dot]} {weight}, {spread}, {acc}"]
        ones, products = registers[1 if self.dot in _MASKS else 0], registers[-1]
        add = [f"vpmaddwd {ones}, {products}, {products}", f"vpaddd {products}, {acc}, {acc}"]
        if self.dot is NARROW:
            return [f"vpmaddubsw {weight}, {spread}, {products}", *add]
        low = registers[2]
        if self.dot is SHIFTED:
            load, weight = ([f"vmovdqu {weight}, {products}"], products) if "(" in weight else ([], weight)
            signed = f"vpsignb {spread}, {weight}, {products}"
            return [*load, signed, f"vpmaddubsw {products}, {low}, {products}", *add]
        return [line for bits in (low, spread) for line in (f"vpmaddubsw {weight}, {bits}, {products}", *add)]

    def fma_steps(
        self, x: ir.Value, w: ir.Value, depth: int, xm: int, xu: int, ahead: ir.Value, coming: ir.Value | None = None
    ) -> None:
        if self.target.asm:
            super().fma_steps(x, w, depth, xm, xu, ahead, coming)
            return
        q, b, vl, each = self.q, self.q.b, self.vl, self.dot.k
        wide, undefined = q.vector(I32, vl), ir.Constant(q.vector(I8, each * vl), ir.Undefined)
        for u in range(depth):
            whole = [q.load_raw(q.offset(w, (u * self.nv + j) * self.weights), I8, each * vl) for j in range(self.nv)]
            for k in range(each):
                mask = ir.Constant(ir.VectorType(I32, vl), [each * lane + k for lane in range(vl)])
                weights = [b.sext(b.shuffle_vector(v, undefined, mask), wide) for v in whole]
                for m in range(self.mr):
                    at = q.offset(self.row(x, m, xm), u * xu * self.item + k)
                    value = q.splat(b.zext(q.load_raw(at, I8, 1), I32), vl)
                    for j in range(self.nv):
                        total = b.add(b.bitcast(self.get(m, j), wide), b.mul(value, weights[j]))
                        self.set(m, j, b.bitcast(total, self.kind))

    def row(self, x: ir.Value, m: int, xm: int) -> ir.Value:
        """Where row m begins."""
        return self.q.offset(x, m * xm * self.item)


BASES = 5  # rows from one pointer to the next


class ByteRows(ByteTile):
    """The same with rows that lie a number of bytes apart which is known at run time. `fma_steps` takes xm = 1 for it.

    Of x86, an address is a pointer and 1, 2, 4 or 8 times a distance: with the stride and three times the stride in registers, a
    pointer to a row reaches the four behind it.
    """

    def __init__(self, q: Emit, target: Target, mr: int, nv: int, stride: ir.Value, dot: Dot = BYTES) -> None:
        super().__init__(q, target, mr, nv, dot=dot)
        self.stride = stride

    def fma_steps(
        self, x: ir.Value, w: ir.Value, depth: int, xm: int, xu: int, ahead: ir.Value, coming: ir.Value | None = None
    ) -> None:
        b = self.q.b
        if self.target.asm:
            pointers = [b.ptrtoint(self.row(x, m, xm), I64) for m in range(BASES, self.mr, BASES)]
            self.addresses = [self.stride, b.mul(self.stride, i64(3)), *pointers]
        super().fma_steps(x, w, depth, xm, xu, ahead, coming)

    def row(self, x: ir.Value, m: int, xm: int) -> ir.Value:
        return self.q.offset(x, self.q.b.mul(self.stride, i64(m * xm)))

    def address_assembly(self, x: str, row: int, u: int, xu: int) -> str:
        one, three, *pointers = self.address_registers
        pointer, behind, at = (x, *pointers)[row // BASES], row % BASES, u * xu * self.item
        index = ("", f",{one},1", f",{one},2", f",{three},1", f",{one},4")[behind]
        return f"{at}({pointer}{index})"
