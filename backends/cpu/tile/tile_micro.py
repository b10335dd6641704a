"""The register tile: MR rows x NV vectors of accumulators, the inner step of every convolution and matrix product.

acc[m][j] += broadcast(x[m * xm + u * xu]) * w[u][j] over a run of `depth` reduction steps u. On x86 the step is one block of
inline assembly: LLVM's scheduler stretches live ranges across the unrolled steps and spills accumulators, the block is
deterministic (and compiles faster). Elsewhere LLVM schedules the same loads and multiply-adds.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from graphc.backends.cpu.sizes import CACHE_LINE
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import FMA, Dot
from graphc.backends.llvm.emit import F32, Emit

# Bytes that weights are fetched ahead of their use. They come from the last-level cache or memory at their first use;
# measured on Zen 5, 7x7 images, 512 -> 2048 channels: 144 GFLOP/s without, 205 at 1 KB, 210 at 4 KB, 225 at 8 KB.
WEIGHTS_AHEAD = 8192
NO_FETCH = -1


def max_rows(target: Target, nv: int, registers: int | None = None) -> int:
    """The most rows of a tile with nv vectors: accumulators, nv weight vectors (at least one) and a broadcast must fit.

    registers: that it may fill, by default all.
    """
    free = (registers or target.registers) - 1
    return max(1, (free - min(nv, 2)) // nv)


class Tile:
    """Accumulators of one tile, and an inner step (see tile/dot.py) for them.

    lines: cache lines of `coming` that each run fetches. 0: weights are fetched WEIGHTS_AHEAD of their use. NO_FETCH: nothing
    is fetched.
    """

    element: ir.Type = F32  # that LLVM holds accumulators as; of those that are integers it only moves the bits

    def __init__(self, q: Emit, target: Target, mr: int, nv: int, lines: int = 0, dot: Dot = FMA) -> None:
        self.q, self.target, self.mr, self.nv, self.lines, self.dot = q, target, mr, nv, lines, dot
        self.vl = dot.lanes(target)
        self.item, self.weights = dot.item, dot.weights(self.vl)  # bytes per step: of a row, of a vector of weights
        self.vector = target.vector  # bytes of a vector of accumulators
        self.kind = ir.VectorType(self.element, self.vl)
        self.acc = [[q.variable(self.kind) for _ in range(nv)] for _ in range(mr)]
        self.flat = [a for row in self.acc for a in row]

    def get(self, m: int, j: int) -> ir.Value:
        return self.q.b.load(self.acc[m][j], typ=self.kind)

    def set(self, m: int, j: int, value: ir.Value) -> None:
        self.q.b.store(value, self.acc[m][j])

    def fma_steps(
        self, x: ir.Value, w: ir.Value, depth: int, xm: int, xu: int, ahead: ir.Value, coming: ir.Value | None = None
    ) -> None:
        """`depth` steps from pointers x and w (weights: depth x nv vectors, contiguous). xm, xu: how many times `item` bytes lie
        from one row to the next and from one step to the next.

        ahead: where x will be read next. Rows of the next block lie in other pages, which the hardware does not foresee.
        coming: weights that will be read after those of this tile.
        """
        if self.target.asm:
            self._assembly(x, w, depth, xm, xu, ahead, coming or w)
            return
        q = self.q
        for u in range(depth):
            ws = [self.load(q.offset(w, (u * self.nv + j) * self.weights)) for j in range(self.nv)]
            for m in range(self.mr):
                s = self.spread(x, m * xm, u, xu)
                for j in range(self.nv):
                    self.set(m, j, q.fma(s, ws[j], self.get(m, j)))

    def fma_step(self, x: ir.Value, w: ir.Value, xm: int) -> None:
        """A single step, in a loop whose count the kernel does not know. Nothing is fetched ahead: it is short."""
        lines, self.lines = self.lines, NO_FETCH
        self.fma_steps(x, w, 1, xm, 0, x)
        self.lines = lines

    def load(self, pointer: ir.Value) -> ir.Value:
        """A vector of weights."""
        return self.q.load_raw(pointer, self.element, self.vl)

    def load_assembly(self, source: str, to: str) -> list[str]:
        """The same as instructions, from memory."""
        return [f"vmovups {source}, {to}"]

    def spread(self, x: ir.Value, row: int, u: int, xu: int) -> ir.Value:
        """What step u multiplies the weights with: of the row that begins `row` steps behind x."""
        return self.q.splat(self.q.load_raw(self.q.offset(x, (row + u * xu) * self.item), self.element, 1), self.vl)

    def spread_assembly(self, x: str, row: int, u: int, xu: int, to: str, registers: list[str]) -> str:
        """The same as instructions. registers: those of `self.constants`, then the temporaries."""
        return f"vbroadcastss {self.address_assembly(x, row, u, xu)}, {to}"

    def address_assembly(self, x: str, row: int, u: int, xu: int) -> str:
        """Where step u reads of the row that begins `row` steps behind x."""
        return f"{(row + u * xu) * self.item}({x})"

    def multiply_assembly(self, weight: str, spread: str, acc: str, registers: list[str]) -> list[str]:
        """acc += spread * weight, a register or memory."""
        return [f"vfmadd231ps {weight}, {spread}, {acc}"]

    @property
    def constants(self) -> list[ir.Value]:
        """Vectors that the assembly needs in registers."""
        return []

    temporaries = 0  # vector registers that the assembly needs beside
    addresses: Sequence[ir.Value] = ()  # integers that `address_assembly` needs in registers,
    address_registers: Sequence[str] = ()  # and these, while assembly is written

    def _assembly(
        self, x: ir.Value, w: ir.Value, depth: int, xm: int, xu: int, ahead: ir.Value, coming: ir.Value
    ) -> None:
        q, total = self.q, self.mr * self.nv
        vectors, own = self.constants, 1 + self.temporaries
        # weight vectors in registers; the others from memory
        held = min(self.nv, self.target.registers - total - own - len(vectors))
        assert held >= 1, (self.mr, self.nv)

        def acc(m: int, j: int) -> str:
            return f"${m * self.nv + j}"

        def weight(j: int) -> str:
            return f"${total + j}"

        spread = f"${total + held}"
        registers = total + held + own
        xs, ws, next_x, next_w = (f"${registers + i}" for i in range(4))
        constants = [f"${registers + 4 + total + i}" for i in range(len(vectors))]
        temporaries = [f"${total + held + 1 + i}" for i in range(self.temporaries)]
        self.address_registers = [f"${registers + 4 + total + len(vectors) + i}" for i in range(len(self.addresses))]
        lines = []
        for u in range(depth):
            lines += self._prefetches(u, depth, xm, xs, ws, next_x)
            if self.lines > 0:
                some = range(u * self.lines // depth, (u + 1) * self.lines // depth)
                lines += [f"prefetcht1 {line * CACHE_LINE}({next_w})" for line in some]
            at = [f"{(u * self.nv + j) * self.weights}({ws})" for j in range(self.nv)]
            lines += [line for j in range(held) for line in self.load_assembly(at[j], weight(j))]
            for m in range(self.mr):
                lines.append(self.spread_assembly(xs, m * xm, u, xu, spread, constants + temporaries))
                for j in range(self.nv):
                    source = weight(j) if j < held else at[j]
                    lines += self.multiply_assembly(source, spread, acc(m, j), constants + temporaries)
        kind = self.kind
        written = f"=&{self.target.asm}"  # early clobber: inputs are read after the first output is written
        constraints = ",".join([written] * registers + ["r"] * 4 + [*map(str, range(total))])
        constraints += f",{self.target.asm}" * len(constants) + ",r" * len(self.addresses) + ",~{memory}"
        inputs = [x, w, ahead, coming, *(q.b.load(a, typ=kind) for a in self.flat), *vectors, *self.addresses]
        signature = ir.FunctionType(ir.LiteralStructType([kind] * registers), [v.type for v in inputs])
        after = q.b.asm(signature, "\n".join(lines), constraints, inputs, True)
        for i, a in enumerate(self.flat):
            q.b.store(q.b.extract_value(after, i), a)

    def _prefetches(self, u: int, depth: int, xm: int, x: str, w: str, ahead: str) -> list[str]:
        """What step u of a run fetches: rows from `ahead` on, weights some way behind those in use."""
        lines: list[str] = []
        if self.lines == NO_FETCH:
            return lines
        if xm * self.item >= CACHE_LINE:  # a row is a cache line of its own
            rows_at_once = -(-self.mr // depth)
            coming = range(u * rows_at_once, min(self.mr, (u + 1) * rows_at_once))
            lines += [f"prefetcht0 {m * xm * self.item}({ahead})" for m in coming]
        if self.lines:
            return lines
        width = self.nv * self.weights
        return lines + [f"prefetcht0 {u * width + line + WEIGHTS_AHEAD}({w})" for line in range(0, width, CACHE_LINE)]
