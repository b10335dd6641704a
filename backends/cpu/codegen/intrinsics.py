"""What Numba Python lacks for drivers: raw memory, calls through addresses, atomics, futex."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

i64, f32 = types.int64, types.float32
POINTER = types.CPointer(types.int64)
STEP = types.void(POINTER, i64, i64)  # a driver: (argument block, thread id, number of threads)
_I64, _I32, _P64, _P32 = ir.IntType(64), ir.IntType(32), ir.IntType(64).as_pointer(), ir.IntType(32).as_pointer()


def _loader(numba_type, llvm_type, widen=None):
    @intrinsic
    def load(typingctx, address):
        def codegen(context, builder, sig, args):
            v = builder.load(builder.inttoptr(args[0], llvm_type.as_pointer()), align=1, typ=llvm_type)
            return widen(builder, v) if widen else v

        return numba_type(i64), codegen

    return load


def _storer(numba_type, llvm_type, narrow=None):
    @intrinsic
    def store(typingctx, address, value):
        def codegen(context, builder, sig, args):
            v = narrow(builder, args[1]) if narrow else args[1]
            builder.store(v, builder.inttoptr(args[0], llvm_type.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(i64, numba_type), codegen

    return store


load_i64, store_i64 = _loader(i64, _I64), _storer(i64, _I64)
load_f32, store_f32 = _loader(f32, ir.FloatType()), _storer(f32, ir.FloatType())
load_i32 = _loader(i64, _I32, lambda b, v: b.sext(v, _I64))
store_i32 = _storer(i64, _I32, lambda b, v: b.trunc(v, _I32))
load_u8 = _loader(i64, ir.IntType(8), lambda b, v: b.zext(v, _I64))
store_u8 = _storer(i64, ir.IntType(8), lambda b, v: b.trunc(v, ir.IntType(8)))
load_u16 = _loader(i64, ir.IntType(16), lambda b, v: b.zext(v, _I64))
store_u16 = _storer(i64, ir.IntType(16), lambda b, v: b.trunc(v, ir.IntType(16)))
load_u32 = _loader(i64, _I32, lambda b, v: b.zext(v, _I64))
store_u32 = store_i32


def typed_memory(kind):
    """(load, store) of one element of a Numba number type by address."""
    llvm_type = (
        {32: ir.FloatType(), 64: ir.DoubleType()}[kind.bitwidth]
        if isinstance(kind, types.Float)
        else ir.IntType(kind.bitwidth)
    )
    return _loader(kind, llvm_type), _storer(kind, llvm_type)


@intrinsic
def block_address(typingctx, block):
    """The int64 address of an argument block."""

    def codegen(context, builder, sig, args):
        return builder.ptrtoint(args[0], _I64)

    return i64(POINTER), codegen


@intrinsic
def as_block(typingctx, address):
    """An address as an int64 array to index."""

    def codegen(context, builder, sig, args):
        return builder.inttoptr(args[0], _P64)

    return POINTER(i64), codegen


def _caller(n: int):
    """call(fn, a1, …, an): a void function of n int64 arguments by its address."""
    names = ", ".join(f"a{i}" for i in range(n))

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(ir.VoidType(), [_I64] * n)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    scope: dict = {"codegen": codegen, "types": types, "i64": i64}
    exec(f"def call(typingctx, fn, {names}):\n    return types.void(*[i64] * {n + 1}), codegen", scope)  # noqa: S102
    return intrinsic(scope["call"])


call2, call3, call4, call5, call6, call7, call10 = (_caller(n) for n in (2, 3, 4, 5, 6, 7, 10))


@intrinsic
def copy_bytes(typingctx, to, source, nbytes):
    """memcpy of regions that do not overlap."""

    def codegen(context, builder, sig, args):
        p8 = ir.IntType(8).as_pointer()
        cgutils.raw_memcpy(builder, builder.inttoptr(args[0], p8), builder.inttoptr(args[1], p8), args[2], 1)
        return context.get_dummy_value()

    return types.void(i64, i64, i64), codegen


@intrinsic
def fill_bytes(typingctx, to, nbytes, value):
    """memset."""

    def codegen(context, builder, sig, args):
        p8 = ir.IntType(8).as_pointer()
        cgutils.memset(builder, builder.inttoptr(args[0], p8), args[1], builder.trunc(args[2], ir.IntType(8)))
        return context.get_dummy_value()

    return types.void(i64, i64, i64), codegen


@intrinsic
def float_bits(typingctx, value):
    """The bits of a float32, as an int64 argument."""

    def codegen(context, builder, sig, args):
        return builder.zext(builder.bitcast(args[0], _I32), _I64)

    return i64(f32), codegen


@intrinsic
def atomic_add(typingctx, address, value):
    """Add; returns the old value (sequentially consistent)."""

    def codegen(context, builder, sig, args):
        return builder.atomic_rmw("add", builder.inttoptr(args[0], _P64), args[1], "seq_cst")

    return i64(i64, i64), codegen


@intrinsic
def atomic_swap(typingctx, address, value):
    """Store; returns the old value (sequentially consistent)."""

    def codegen(context, builder, sig, args):
        return builder.atomic_rmw("xchg", builder.inttoptr(args[0], _P64), args[1], "seq_cst")

    return i64(i64, i64), codegen


@intrinsic
def atomic_load(typingctx, address):
    def codegen(context, builder, sig, args):
        return builder.load_atomic(builder.inttoptr(args[0], _P64), "acquire", 8, typ=_I64)

    return i64(i64), codegen


@intrinsic
def atomic_store(typingctx, address, value):
    def codegen(context, builder, sig, args):
        builder.store_atomic(args[1], builder.inttoptr(args[0], _P64), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(i64, i64), codegen


@intrinsic
def pause(typingctx):
    """Tell the core that this is a spin loop."""

    def codegen(context, builder, sig, args):
        import platform

        if platform.machine() in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), codegen


FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE = 128, 129


@intrinsic
def futex(typingctx, address, op, value):
    """syscall(SYS_futex): sleep while the low 32 bits of a word equal value, or wake sleepers. Linux only."""

    def codegen(context, builder, sig, args):
        import platform

        number = {"x86_64": 202, "aarch64": 98}[platform.machine()]
        kind = ir.FunctionType(_I64, [_I64], var_arg=True)
        syscall = cgutils.get_or_insert_function(builder.module, kind, "syscall")
        zero = ir.Constant(_I64, 0)
        words = [builder.trunc(a, _I32) for a in args[1:]]
        return builder.call(
            syscall, [ir.Constant(_I64, number), builder.inttoptr(args[0], _P32), *words, zero, zero, zero]
        )

    return i64(i64, i64, i64), codegen


@intrinsic
def current_cpu(typingctx):
    """Number of the CPU that runs this thread: libc's sched_getcpu, which needs no system call."""

    def codegen(context, builder, sig, args):
        fn = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I32, []), "sched_getcpu")
        return builder.sext(builder.call(fn, []), _I64)

    return i64(), codegen


@intrinsic
def set_affinity(typingctx, mask, nbytes):
    """sched_setaffinity of this thread: the CPUs that may run it, a bit each. Linux only."""

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(_I32, [_I32, _I64, _I64])
        fn = cgutils.get_or_insert_function(builder.module, kind, "sched_setaffinity")
        return builder.sext(builder.call(fn, [ir.Constant(_I32, 0), args[1], args[0]]), _I64)

    return i64(i64, i64), codegen


@intrinsic
def cycles(typingctx):
    """The time-stamp counter."""

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(_I64, [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.readcyclecounter"), [])

    return i64(), codegen
