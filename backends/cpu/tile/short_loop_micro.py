"""Products of few rows whose weights are in the caches: a loop so short that the stride prefetcher follows all its loads."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from graphc.backends.cpu.sizes import CACHE_LINE
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.tile_micro import Tile
from graphc.backends.llvm.emit import F32, I64, Emit, i64

UNROLL = 2  # reduction steps of one turn of the loop: packed states and weights are padded with zeros to a multiple
# Every load of an unrolled loop is an instruction of its own to the stride prefetcher, which can follow some thirty:
# measured on Zen 5, one row, weights in the level-2 cache: 8 steps per turn 117 GB/s, 2 steps 207.


def short_loop(
    q: Emit,
    target: Target,
    mr: int,
    nv: int,
    x: ir.Value,
    w: ir.Value,
    blocks: ir.Value,
    state_block: ir.Value,
    ahead: int,
    kind: Callable[[Emit, Target, int, int, int], Tile] = Tile,
) -> list[ir.Value]:
    """mr rows of x times nv vectors of w, [blocks * UNROLL][nv], as [row][vector].

    x: [block of vl steps][row][step], such blocks state_block bytes apart. blocks: at least one. ahead: bytes that weights are
    fetched ahead of their use, 0: they are not. kind: of the tile, with its inner step; one whose weights are converted on their
    way into registers has one row.
    """
    if target.asm:
        return _assembly(q, target, kind(q, target, mr, nv, 0), [x, w], [blocks, state_block], ahead)
    b, tile, lanes = q.b, kind(q, target, mr, nv, 0), i64(target.vl)
    for acc in tile.flat:
        b.store(q.const(0.0, F32, target.vl), acc)
    with q.loop(b.mul(blocks, i64(UNROLL)), step=UNROLL) as k:
        xk = q.offset(x, b.add(b.mul(b.sdiv(k, lanes), state_block), b.mul(b.srem(k, lanes), i64(tile.item))))
        tile.fma_steps(xk, q.offset(w, b.mul(k, i64(nv * tile.weights))), UNROLL, target.vl, 1, xk)
    return [b.load(acc, typ=tile.kind) for acc in tile.flat]


def _assembly(
    q: Emit, target: Target, tile: Tile, pointers: list[ir.Value], counts: list[ir.Value], ahead: int
) -> list[ir.Value]:
    """The same as assembly with its loops, which LLVM would unroll."""
    mr, nv, row, width, item = tile.mr, tile.nv, target.vector, tile.weights, tile.item
    total, converts = mr * nv, width != target.vector
    assert mr == 1 or not converts, mr
    # weight vectors in registers; the others from memory
    held = min(nv, target.registers - total - 1) if mr > 1 or converts else 0
    vectors = total + held + 1
    spread, x, w, left, step, xk, turns = (f"${vectors - 1 + i}" for i in range(7))
    lines = [f"vxorps ${i}, ${i}, ${i}" for i in range(total)]
    lines += [f"add {left}, {left}"] if nv > 8 else []
    unroll = UNROLL if nv <= 8 else 1
    lines += ["2:", f"mov $${target.vl // unroll}, {turns}", f"cmp {left}, {turns}", f"cmovg {left}, {turns}"]
    lines += [f"sub {turns}, {left}", f"mov {x}, {xk}", ".p2align 5", "1:"]
    for u in range(unroll):
        at = [f"{(u * nv + j) * width}({w})" for j in range(nv)]
        if ahead:
            lines += [f"prefetcht0 {u * nv * width + line + ahead}({w})" for line in range(0, nv * width, CACHE_LINE)]
        lines += [line for j in range(held) if not converts for line in tile.load_assembly(at[j], f"${total + j}")]
        for m in range(mr):
            lines.append(f"vbroadcastss {m * row + u * item}({xk}), {spread}")
            weights = [f"${total + j}" if j < held else at[j] for j in range(nv)]
            for j in range(nv):
                if converts:
                    weights[j] = f"${total + j % held}"
                    lines += tile.load_assembly(at[j], weights[j])
                lines += tile.multiply_assembly(weights[j], spread, f"${m * nv + j}", [])
    lines += [f"add $${unroll * nv * width}, {w}", f"add $${unroll * item}, {xk}", f"dec {turns}", "jnz 1b"]
    lines += [f"add {step}, {x}", f"test {left}, {left}", "jnz 2b"]
    kinds = [ir.VectorType(F32, target.vl)] * vectors + [I64] * 6
    written = [f"=&{target.asm}"] * vectors + [
        "=&r"
    ] * 6  # early clobber: inputs are read after the first output is written
    constraints = ",".join([*written, *(str(vectors + i) for i in range(4)), "~{memory}", "~{cc}"])
    signature = ir.FunctionType(ir.LiteralStructType(kinds), [I64] * 4)
    inputs = [*(q.b.ptrtoint(p, I64) for p in pointers), *counts]
    after = q.b.asm(signature, "\n".join(lines), constraints, inputs, True)
    return [q.b.extract_value(after, i) for i in range(total)]
