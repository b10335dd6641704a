"""Inline PTX: instructions that neither LLVM nor Numba has a name for, one to a string."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from graphc.backends.cuda.codegen.device import device
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.llvm.emit import F32, I32

SHARED = 3  # address space
_LDMATRIX = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0, $1, $2, $3}, [$4];"
_LDMATRIX_TRANSPOSED = "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {$0, $1, $2, $3}, [$4];"
_MMA = {
    "float16": "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};",
    "bfloat16": "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};",
    "float32": "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};",
}
_COPY = {
    4: "cp.async.ca.shared.global [$0], [$1], 4, $2;",
    8: "cp.async.ca.shared.global [$0], [$1], 8, $2;",
    16: "cp.async.cg.shared.global [$0], [$1], 16, $2;",
}
_ROUND = "cvt.rna.tf32.f32 $0, $1;"


def assembly(
    b: ir.IRBuilder,
    results: Sequence[ir.Type],
    text: str,
    constraints: str,
    args: Sequence[ir.Value],
    effects: bool = True,
) -> list[ir.Value]:
    """effects: it must not be moved into branches, or left out."""
    returns = ir.VoidType() if not results else results[0] if len(results) == 1 else ir.LiteralStructType(results)
    code = ir.InlineAsm(ir.FunctionType(returns, [a.type for a in args]), text, constraints, side_effect=effects)
    value = b.call(code, args, attrs=("convergent",) if effects else ())
    if len(results) < 2:
        return [value] if results else []
    return [b.extract_value(value, i) for i in range(len(results))]


def ldmatrix(b: ir.IRBuilder, address: ir.Value, transposed: bool = False) -> list[ir.Value]:
    """Four matrices of 8 rows of 16 bytes; the address is that of row `lane % 8` of matrix `lane / 8`. Of each, 32 bits."""
    text = _LDMATRIX_TRANSPOSED if transposed else _LDMATRIX
    return assembly(b, [I32] * 4, text, "=r,=r,=r,=r,r,~{memory}", [address])


def mma(
    b: ir.IRBuilder, dtype: str, left: Sequence[ir.Value], right: Sequence[ir.Value], sums: Sequence[ir.Value]
) -> list[ir.Value]:
    """The warp's 16 x 8 sums plus a product with a depth of 32 bytes. dtype: of the operands; float32 with the digits of tf32."""
    constraints = "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f"
    return assembly(b, [F32] * 4, _MMA[dtype], constraints, [*left, *right, *sums])


def rounded(b: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """A float32 as bits of tf32, which has 11 digits of the 24."""
    return assembly(b, [I32], _ROUND, "=r,f", [x], effects=False)[0]


@cache
def copy_ahead(nbytes: int) -> Callable[[int, int, int], None]:
    """copy_ahead(to, source, given): `nbytes` bytes from global memory to an address in shared memory, while the thread goes on:
    `given` of them, and zeros."""

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        assembly(q.b, [], _COPY[nbytes], "r,l,r,~{memory}", a)

    return device(emit, types.void, types.int32, types.int64, types.int32)


def _statement(text: str) -> Callable[[], None]:
    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        assembly(q.b, [], text, "~{memory}", [])

    return device(emit, types.void)


# seen_by_groups(): wgmma sees what this thread's copies wrote
seen_by_groups = _statement("fence.proxy.async.shared::cta;")
# pause(): in each turn of a loop that waits for another block. No instruction; in the emulator the others run
pause = _statement("// waits for another block")
commit = _statement("cp.async.commit_group;")  # the copies since the last one are a group


@cache
def wait_until(pending: int) -> Callable[[], None]:
    """wait_until(pending)(): no more than so many groups of this thread's copies are on their way."""
    return _statement(f"cp.async.wait_group {pending};")


@intrinsic
def shared_address(typing: Any, array: Any) -> Any:
    """Where an array in shared memory begins, as an address in that memory, of 32 bits."""

    def code(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> ir.Value:
        data = context.make_array(signature.args[0])(context, b, value=args[0]).data
        return b.ptrtoint(b.addrspacecast(data, ir.PointerType(data.type.pointee, SHARED)), I32)

    return types.int32(array), code


def shared_word(b: ir.IRBuilder, address: ir.Value) -> ir.Value:
    """32 bits in shared memory."""
    return b.load(b.inttoptr(address, ir.PointerType(I32, SHARED)), align=4, typ=I32)
