"""One stage of a recurrent cell: rows of the batch x a panel of hidden units with all their gates, in one register tile.

The tile multiplies the state by the recurrence weights; the equations of the gates and of the new state follow while it is
hot. States lie as [block of hidden units][row of the batch][unit of the block], a vector each: what one step stores, the next
multiplies.
"""

from __future__ import annotations

from llvmlite import ir

from backends.cpu import scalar
from backends.cpu.ir import F32, I32, I64, PTR, Emit, define, i64
from backends.cpu.micro.tile import Tile
from backends.cpu.target import Target
from backends.cpu.toolchain import micro
from graphc.expr import Expr

UNROLL = 2  # reduction steps of one turn of the loop: packed states and weights are padded with zeros to a multiple
# Every load of an unrolled loop is an instruction of its own to the stride prefetcher, which can follow some thirty:
# measured on Zen 5, one row, weights in the level-2 cache: 8 steps a turn 117 GB/s, 2 steps 207.
AHEAD = 4096  # bytes that weights are fetched ahead of their use, but for one row and weights in the level-2 cache
# argument block: depth / UNROLL, rows, bytes from one block of hidden units of the state to the next, room for a tile's
# accumulators, then (address, bytes from row to row, bytes from vector to vector) of each stream: what is added to the gates'
# products, the operands, the results
BLOCKS, ROWS, STATE_BLOCK, ROOM, STREAMS = range(5)


@micro("cell_stage")
def cell_stage(
    module: ir.Module,
    symbol: str,
    target: Target,
    mr: int,
    gates: int,
    vectors: int,
    operands: int,
    results: tuple[Expr, ...],
    far: bool,
) -> None:
    """void(int64* block, x, w): rows of the batch, in tiles of mr, by `vectors` vectors of hidden units.

    x: the state of the first row; the last tile ends with the last row. w: the panel's weights, [depth][gates][units].
    results: expressions of float32; arg g is gate g's sum, then the operands, then the results before it. far: the weights
    are more than the level-2 cache holds.
    """
    fn, q = define(module, symbol, [PTR, I64, I64])
    block, x, w = fn.args
    b, width, nv = q.b, target.vl * 4, gates * vectors
    x, w, room = q.pointer(x), q.pointer(w), q.pointer(q.slot(block, ROOM))
    rows, state_block, blocks = (q.slot(block, s) for s in (ROWS, STATE_BLOCK, BLOCKS))
    places = range(STREAMS, STREAMS + 3 * (gates + operands + len(results)), 3)
    streams = [(q.pointer(q.slot(block, i)), q.slot(block, i + 1), q.slot(block, i + 2)) for i in places]

    ahead = AHEAD if far or mr > 1 else 0
    with q.loop(rows, step=mr) as t:
        start = _smaller(q, t, b.sub(rows, i64(mr)))
        with q.loop(i64(mr)) as m:
            for address, row, vector in streams[:gates]:
                for u in range(vectors):
                    _prefetch(q, q.offset(address, b.add(b.mul(row, b.add(start, m)), b.mul(vector, i64(u)))))
        xt = q.offset(x, b.mul(start, i64(width)))
        for i, acc in enumerate(_product(q, target, mr, nv, xt, w, blocks, state_block, ahead)):
            q.store_raw(acc, q.offset(room, i * width))
        with q.loop(i64(mr)) as m, q.loop(i64(vectors)) as u:
            at = q.offset(room, b.add(b.mul(m, i64(nv * width)), b.mul(u, i64(width))))
            number = b.add(start, m)
            places = [q.offset(a, b.add(b.mul(number, row), b.mul(u, vector))) for a, row, vector in streams]
            values = [q.load_raw(place, F32, target.vl) for place in places[: gates + operands]]
            for g in range(gates):
                values[g] = b.fadd(values[g], q.load_raw(q.offset(at, g * vectors * width), F32, target.vl))
            for e, place in zip(results, places[gates + operands :]):
                values.append(scalar.emit(q, e, values, target.vl))
                q.store_raw(values[-1], place)
    b.ret_void()


def _product(
    q: Emit,
    target: Target,
    mr: int,
    nv: int,
    x: ir.Value,
    w: ir.Value,
    blocks: ir.Value,
    state_block: ir.Value,
    ahead: int,
) -> list[ir.Value]:
    """mr rows of the state x times nv vectors of w, [depth][nv], as [row][vector]. There is at least one block."""
    if target.asm:
        return _assembly(q, target, mr, nv, [x, w], [blocks, state_block], ahead)
    b, tile, lanes = q.b, Tile(q, target, mr, nv), i64(target.vl)
    for acc in tile.flat:
        b.store(q.const(0.0, F32, target.vl), acc)
    with q.loop(b.mul(blocks, i64(UNROLL)), step=UNROLL) as k:
        xk = q.offset(x, b.add(b.mul(b.sdiv(k, lanes), state_block), b.mul(b.srem(k, lanes), i64(4))))
        tile.fma_steps(xk, q.offset(w, b.mul(k, i64(nv * target.vl * 4))), UNROLL, target.vl, 1, xk)
    return [b.load(acc, typ=tile.kind) for acc in tile.flat]


def _assembly(
    q: Emit, target: Target, mr: int, nv: int, pointers: list[ir.Value], counts: list[ir.Value], ahead: int
) -> list[ir.Value]:
    """The same as assembly with its loops, which LLVM would unroll."""
    total, width = mr * nv, target.vl * 4
    held = (
        0 if mr == 1 else min(nv, target.registers - total - 1)
    )  # weight vectors in registers; the others from memory
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
            lines += [f"prefetcht0 {u * nv * width + line + ahead}({w})" for line in range(0, nv * width, 64)]
        lines += [f"vmovups {at[j]}, ${total + j}" for j in range(held)]
        for m in range(mr):
            lines.append(f"vbroadcastss {m * width + u * 4}({xk}), {spread}")
            weights = [f"${total + j}" if j < held else at[j] for j in range(nv)]
            lines += [f"vfmadd231ps {weights[j]}, {spread}, ${m * nv + j}" for j in range(nv)]
    lines += [f"add $${unroll * nv * width}, {w}", f"add $${unroll * 4}, {xk}", f"dec {turns}", "jnz 1b"]
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


def _smaller(q: Emit, a: ir.Value, b: ir.Value) -> ir.Value:
    return q.b.select(q.b.icmp_signed("<", a, b), a, b)


def _prefetch(q: Emit, pointer: ir.Value) -> None:
    """Ask for memory that is read after the product: it comes from far away, and nothing foresees it."""
    q.call("llvm.prefetch.p0", ir.VoidType(), pointer, *(ir.Constant(I32, n) for n in (0, 3, 1)))  # read, keep, data
