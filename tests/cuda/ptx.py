"""Inline PTX for kernels of tests: what Numba has no functions for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.cuda import cgutils, types
from numba.cuda.extending import intrinsic

I32, I64, F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
SHARED = 3  # address space


def assembly(
    builder: ir.IRBuilder,
    results: Sequence[ir.Type],
    text: str,
    constraints: str,
    args: Sequence[ir.Value],
    convergent: bool = True,
) -> list[ir.Value]:
    """convergent: must not be moved into branches; it has effects too."""
    returns = ir.VoidType() if not results else results[0] if len(results) == 1 else ir.LiteralStructType(results)
    kind = ir.FunctionType(returns, [a.type for a in args])
    value = builder.call(
        ir.InlineAsm(kind, text, constraints, side_effect=convergent), args, attrs=("convergent",) if convergent else ()
    )
    if len(results) < 2:
        return [value] if results else []
    return [builder.extract_value(value, i) for i in range(len(results))]


def statement(text: str) -> Callable:
    """A function without operands."""

    @intrinsic
    def run(typing):
        def code(context, builder, signature, args):
            assembly(builder, [], text, "~{memory}", [])
            return context.get_dummy_value()

        return types.void(), code

    return run


def function(text: str, constraints: str, result: Any, *params: Any) -> Callable:
    """A function with one result, of Numba's types."""
    lowered = {types.int32: I32, types.uint32: I32, types.float32: F32, types.uint16: ir.IntType(16)}

    def make(params):
        def code(context, builder, signature, args):
            return assembly(builder, [lowered[result]], text, constraints, args, convergent=False)[0]

        return result(*params), code

    if len(params) == 1:

        @intrinsic
        def call(typing, a):
            return make(params)
    else:

        @intrinsic
        def call(typing, a, b):
            return make(params)

    return call


def data_of(context: Any, builder: ir.IRBuilder, kind: Any, array: ir.Value) -> ir.Value:
    return context.make_array(kind)(context, builder, value=array).data


def element(context: Any, builder: ir.IRBuilder, kind: Any, array: ir.Value, at_type: Any, at: ir.Value) -> ir.Value:
    """Address of an element in global memory, as an integer."""
    if at.type.width < 64:
        at = (builder.sext if at_type.signed else builder.zext)(at, I64)
    pointer = builder.gep(data_of(context, builder, kind, array), [at])
    return builder.ptrtoint(builder.addrspacecast(pointer, ir.PointerType(pointer.type.pointee, 1)), I64)


def shared_element(context: Any, builder: ir.IRBuilder, kind: Any, array: ir.Value, at: ir.Value) -> ir.Value:
    """Address of an element in shared memory, of 32 bits."""
    data = data_of(context, builder, kind, array)
    base = builder.ptrtoint(builder.addrspacecast(data, ir.PointerType(data.type.pointee, SHARED)), I32)
    if at.type.width > 32:
        at = builder.trunc(at, I32)
    item = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    return builder.add(base, builder.mul(at, I32(item)))


def make_ldmatrix(matrices: int, transposed: bool) -> Callable:
    """ldmatrix(array, element) -> a tuple of uint32."""
    text = f"ldmatrix.sync.aligned.m8n8.x{matrices}{'.trans' if transposed else ''}.shared.b16"
    names = ", ".join(f"${i}" for i in range(matrices))

    @intrinsic
    def ldmatrix(typing, shared, at):
        signature = types.UniTuple(types.uint32, matrices)(shared, at)

        def code(context, builder, signature, args):
            address = shared_element(context, builder, signature.args[0], args[0], args[1])
            constraints = ",".join(["=r"] * matrices + ["r", "~{memory}"])
            found = assembly(builder, [I32] * matrices, f"{text} {{{names}}}, [${matrices}];", constraints, [address])
            return context.make_tuple(builder, signature.return_type, found)

        return signature, code

    return ldmatrix


def make_mma(shape: str, kind: str) -> Callable:
    """mma(a, b, c): tuples of 4 and 2 uint32 and of 4 float32."""
    text = f"mma.sync.aligned.{shape}.row.col.f32.{kind}.{kind}.f32 "
    text += "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};"

    @intrinsic
    def mma(typing, a, b, c):
        signature = types.UniTuple(types.float32, 4)(a, b, c)

        def code(context, builder, signature, args):
            given = [v for arg, n in zip(args, (4, 2, 4)) for v in cgutils.unpack_tuple(builder, arg, n)]
            found = assembly(builder, [F32] * 4, text, "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f", given)
            return context.make_tuple(builder, signature.return_type, found)

        return signature, code

    return mma


@intrinsic
def copy_16(typing, shared, at, array, source, there):
    """16 bytes from global to shared memory, asynchronously; zeros where it is not there."""

    def code(context, builder, signature, args):
        to = shared_element(context, builder, signature.args[0], args[0], args[1])
        of = element(context, builder, signature.args[2], args[2], signature.args[3], args[3])
        there = args[4] if args[4].type.width == 1 else builder.trunc(args[4], ir.IntType(1))
        given = builder.select(there, I32(16), I32(0))
        assembly(builder, [], "cp.async.cg.shared.global [$0], [$1], 16, $2;", "r,l,r,~{memory}", [to, of, given])
        return context.get_dummy_value()

    return types.void(shared, at, array, source, there), code


commit = statement("cp.async.commit_group;")
fence_proxy_async = statement("fence.proxy.async.shared::cta;")


def make_wait(pending: int) -> Callable:
    return statement(f"cp.async.wait_group {pending};")


pack_f16 = function("cvt.rn.f16x2.f32 $0, $1, $2;", "=r,f,f", types.uint32, types.float32, types.float32)  # high, low
pack_bf16 = function("cvt.rn.bf16x2.f32 $0, $1, $2;", "=r,f,f", types.uint32, types.float32, types.float32)


@intrinsic
def store_32(typing, array, at, bits):
    def code(context, builder, signature, args):
        to = element(context, builder, signature.args[0], args[0], signature.args[1], args[1])
        assembly(builder, [], "st.global.b32 [$0], $1;", "l,r,~{memory}", [to, args[2]])
        return context.get_dummy_value()

    return types.void(array, at, bits), code


@intrinsic
def store_two(typing, array, at, x, y):
    def code(context, builder, signature, args):
        to = element(context, builder, signature.args[0], args[0], signature.args[1], args[1])
        assembly(builder, [], "st.global.v2.f32 [$0], {$1, $2};", "l,f,f,~{memory}", [to, *args[2:]])
        return context.get_dummy_value()

    return types.void(array, at, x, y), code


@intrinsic
def load_four(typing, array, at):
    def code(context, builder, signature, args):
        of = element(context, builder, signature.args[0], args[0], signature.args[1], args[1])
        text = "ld.global.nc.v4.f32 {$0, $1, $2, $3}, [$4];"
        found = assembly(builder, [F32] * 4, text, "=f,=f,=f,=f,l", [of], convergent=False)
        return context.make_tuple(builder, signature.return_type, found)

    return types.UniTuple(types.float32, 4)(array, at), code
