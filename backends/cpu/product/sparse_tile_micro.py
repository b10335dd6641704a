"""One tile of a product with a panel of which the rows that are zeros are left out."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.product.gemm_block import NUMBER, RECORD, SparseTile
from graphc.backends.cpu.product.product_micro import memory_of, write
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import FMA
from graphc.backends.cpu.tile.tile_micro import WEIGHTS_AHEAD, Tile
from graphc.backends.llvm.emit import F32, I32, I64, PTR, Emit, define, i64
from graphc.expr import Expr

ROWS, NUMBERS, COUNT = RECORD["rows numbers count"]
AT_ONCE = 4  # rows of a turn of the loop, at least
CHAINS = 8  # sums that are under way at once, so that none waits for itself


@micro(SparseTile)
def sparse_tile(
    module: ir.Module,
    symbol: str,
    target: Target,
    mr: int,
    nv: int,
    epilogue: Expr | None,
    masked: bool,
    fetches: bool,
) -> None:
    """void(block, a, panel, y, bias, ahead): as `product_tile`, of rows that are packed alike, and a panel that begins with a
    RECORD. fetches: weights ahead of their use."""
    fn, q = define(module, symbol, [PTR, I64, I64, I64, I64, I64])
    block, *addresses = fn.args
    a, panel, y, bias, _ = (q.pointer(p) for p in addresses)
    b, vl, vector = q.b, target.vl, target.vector
    chains = max(1, CHAINS // (mr * nv))
    sums = [Tile(q, target, mr, nv) for _ in range(chains)]
    tile, *others = sums
    memory = memory_of(q, tile, block, masked)
    for m in range(mr):
        for j in range(nv):
            tile.set(m, j, q.load_raw(q.offset(bias, j * vector), F32, vl))
    for acc in (acc for other in others for acc in other.flat):
        b.store(q.const(0.0, F32, vl), acc)
    weights, numbers = (q.offset(panel, q.slot(panel, slot)) for slot in (ROWS, NUMBERS))
    count = q.slot(panel, COUNT)

    def step(i: ir.Value, to: Tile) -> None:
        k = b.sext(q.load_raw(q.offset(numbers, b.mul(i, i64(NUMBER))), I32, 1), I64)
        w = q.offset(weights, b.mul(i, i64(nv * vector)))
        if fetches:
            q.call(
                "llvm.prefetch.p0", ir.VoidType(), q.offset(w, WEIGHTS_AHEAD), *(ir.Constant(I32, n) for n in (0, 3, 1))
            )
        to.fma_step(q.offset(a, b.mul(_place(q, k, mr, vl), i64(FMA.item))), w, vl)

    together = max(AT_ONCE, chains)
    whole = b.and_(count, i64(-together))
    with q.loop(whole, step=together) as first:
        for i in range(together):
            step(b.add(first, i64(i)), sums[i % chains])
    with q.loop(count, start=whole) as i:
        step(i, tile)
    for m in range(mr):
        for j in range(nv):
            for other in others:
                tile.set(m, j, b.fadd(tile.get(m, j), other.get(m, j)))
    write(q, tile, memory, block, y, epilogue)
    b.ret_void()


def _place(q: Emit, k: ir.Value, mr: int, vl: int) -> ir.Value:
    """How many numbers lie before the step k of the first row: rows are packed as [step / vl][row][vl]."""
    b = q.b
    inner = b.and_(k, i64(vl - 1))
    return b.add(b.mul(b.sub(k, inner), i64(mr)), inner)
