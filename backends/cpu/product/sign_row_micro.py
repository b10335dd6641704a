"""A row of floats as bits."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.product.sign_product_block import SIGN_ROWS, SignRow
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import BITS, FMA
from graphc.backends.llvm.emit import F32, I32, I64, PTR, define, i64

K, PLANE = SIGN_ROWS["k plane"]
COMPARES = ("<", "<=")  # with 0, of the planes


@micro(SignRow)
def sign_row(module: ir.Module, symbol: str, target: Target, zeros: bool, copies: int) -> None:
    """void(block, x, to): planes [K / 32 rounded up] of words, PLANE bytes apart. Bits behind the last are 0."""
    fn, q = define(module, symbol, [PTR, I64, I64])
    block, x, to = fn.args[0], q.pointer(fn.args[1]), q.pointer(fn.args[2])
    b, word = q.b, BITS.k
    k, plane = q.slot(block, K), q.slot(block, PLANE)
    nothing = q.const(0.0, F32, word)

    def write(values: ir.Value, number: ir.Value, mask: ir.Value | None) -> None:
        at = q.offset(to, b.mul(number, i64(BITS.item)))
        for i, compare in enumerate(COMPARES if zeros else COMPARES[:1]):
            bits = b.fcmp_ordered(compare, values, nothing)
            packed = b.bitcast(bits if mask is None else b.and_(bits, mask), I32)
            for copy in range(copies):
                q.store_raw(packed, q.offset(at, b.mul(plane, i64(i * copies + copy))))

    words = b.sdiv(k, i64(word))
    with q.loop(words) as number:
        write(q.load_raw(q.offset(x, b.mul(number, i64(word * FMA.item))), F32, word), number, None)
    rest = b.sub(k, b.mul(words, i64(word)))
    with q.nonzero(rest):
        mask = q.lane_mask(rest, word)
        write(q.masked_load(q.offset(x, b.mul(words, i64(word * FMA.item))), F32, mask), words, mask)
    b.ret_void()
