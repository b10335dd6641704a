"""What Numba Python lacks for the runtime: the switch between stacks, products of tensor cores, the lowest bit of a mask."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from graphc.backends.cuda.emulator.operations import KINDS
from graphc.backends.cuda.emulator.switch import START, SWITCH
from graphc.backends.cuda.emulator.tensor_core import symbol_of

i64 = types.int64
_I64 = ir.IntType(64)


def _external(symbol, parameters):
    """A void function of the object that the runtime becomes part of."""

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(ir.VoidType(), [_I64] * parameters)
        builder.call(cgutils.get_or_insert_function(builder.module, kind, symbol), args)
        return context.get_dummy_value()

    return codegen


@intrinsic
def switch(typingctx, save, to):
    """Go on where the stack pointer `to` was left; returns when somebody goes on with what is now written at `save`."""
    return types.void(i64, i64), _external(SWITCH, 2)


@intrinsic
def start_address(typingctx):
    """Where a new fiber begins."""

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(ir.VoidType(), [])
        return builder.ptrtoint(cgutils.get_or_insert_function(builder.module, kind, START), _I64)

    return i64(), codegen


@intrinsic
def product_f16(typingctx, a, b, d):
    """D[16, 8] += A[16, 16] B[16, 8] of addresses; D is float32."""
    return types.void(i64, i64, i64), _external(symbol_of("f16"), 3)


@intrinsic
def product_bf16(typingctx, a, b, d):
    return types.void(i64, i64, i64), _external(symbol_of("bf16"), 3)


@intrinsic
def product_tf32(typingctx, a, b, d):
    """D[16, 8] += A[16, 8] B[8, 8]."""
    return types.void(i64, i64, i64), _external(symbol_of("tf32"), 3)


@intrinsic
def lowest(typingctx, mask):
    """The number of the lowest bit that is set, of one that is."""

    def codegen(context, builder, sig, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return i64(i64), codegen


assert [*KINDS] == ["f16", "bf16", "tf32"]  # as product() in matrix_njit.py tells them apart
