"""What a tensor core does, as vector code: D[16, 8] += A[16, K] B[K, 8], with sums in float32, one after another.

Operands are as they are stored: two bytes each and K = 16, or the bits of float32 and K = 8, of which tf32 has the upper 19.
"""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.llvm.emit import F32, I32, I64, define
from graphc.types import dtype_from_name

ROWS, COLUMNS = 16, 8
DTYPES = {"f16": "float16", "bf16": "bfloat16", "tf32": "float32"}
TF32 = 0xFFFFE000  # the bits that it keeps


def symbol_of(kind: str) -> str:
    return f"graphc_emulator_product_{kind}"


def module(converts_half: bool) -> ir.Module:
    """The products of all kinds. converts_half: has the processor instructions for it?"""
    made = ir.Module("tensor_core")
    made.converts_half = converts_half
    for kind in DTYPES:
        _product(made, kind)
    return made


def _product(module: ir.Module, kind: str) -> None:
    dtype = dtype_from_name(DTYPES[kind])
    item = dtype.itemsize
    depth = 32 // item
    fn, q = define(module, symbol_of(kind), [I64] * 3)
    a, b, d = map(q.pointer, fn.args)

    def operand(base: ir.Value, number: int, lanes: int) -> ir.Value:
        value = q.load(q.offset(base, number * item), dtype, lanes)
        if kind != "tf32":
            return value
        bits = q.b.bitcast(value, q.vector(I32, lanes))
        return q.b.bitcast(q.b.and_(bits, q.const(TF32, I32, lanes)), value.type)

    columns = [operand(b, k * COLUMNS, COLUMNS) for k in range(depth)]
    for row in range(ROWS):
        numbers = operand(a, row * depth, depth)
        at = q.offset(d, 4 * COLUMNS * row)
        total = q.load_raw(at, F32, COLUMNS)
        for k in range(depth):
            factor = q.splat(q.b.extract_element(numbers, ir.Constant(I32, k)), COLUMNS)
            total = q.fma(factor, columns[k], total)
        q.store_raw(total, at)
    q.b.ret_void()
