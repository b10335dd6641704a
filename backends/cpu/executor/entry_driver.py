"""A program's entry from Python: a builtin function that looks at its arguments, points the program at them and runs it.

What Python would ask an array for (address, dtype, shape, flags) costs more there than a small model's kernels take. The
entry is called as METH_FASTCALL functions are: self, arguments, their number. `self` is an int64 array, the record of one
instance of a program: the words of executor/program_block.py, then for each input its dtype, rank and sizes, then for each word of
the program's table that takes an argument's address the number of the argument, the word's address and the offset, then the
addresses of words in which drivers report positions out of range.
"""

from __future__ import annotations

from llvmlite import ir
from numba import njit
from numba.extending import intrinsic

from graphc.backends.cpu.codegen.intrinsics import as_block, atomic_load, call3, i64, load_i32, load_i64, store_i64
from graphc.backends.cpu.executor.executor_driver import BLOCK, DRIVER, ROW
from graphc.backends.cpu.executor.program_block import ENTRY, Entry
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.runtime.entry import C_CONTIGUOUS, DATA, DESCR, DIMENSIONS, FLAGS, NDIM, TYPE

STEPS, COUNT, POOL, NTH, SPINS, SUBMIT, ARRAY = ENTRY["steps count pool nth spins submit array"]
SAVE_THREAD, RESTORE_THREAD, INCREF = ENTRY["save_thread restore_thread incref"]
CHECKED, ARGUMENTS, WORDS, REPORTS = ENTRY["checked arguments words reports"]
DONE, REFUSED, FAILED = ENTRY["done refused failed"]
FIXED = ENTRY.size


def _call(builder, args):
    """A function of int64 arguments by its address, args[0]; gives an int64."""
    word = ir.IntType(64)
    kind = ir.FunctionType(word, [word] * (len(args) - 1))
    return builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])


@intrinsic
def result0(typingctx, fn):
    return i64(i64), lambda context, builder, sig, args: _call(builder, args)


@intrinsic
def result1(typingctx, fn, a1):
    return i64(i64, i64), lambda context, builder, sig, args: _call(builder, args)


@intrinsic
def result2(typingctx, fn, a1, a2):
    return i64(i64, i64, i64), lambda context, builder, sig, args: _call(builder, args)


@intrinsic
def result5(typingctx, fn, a1, a2, a3, a4, a5):
    return i64(*[i64] * 6), lambda context, builder, sig, args: _call(builder, args)


@njit(error_model="numpy")
def _fits(a, array, at):
    """Is an argument an array of the dtype and the sizes that the record has at word `at`?"""
    if load_i64(array + TYPE) != a[ARRAY]:
        return False
    rank = a[at + 1]
    if load_i64(array + DESCR) != a[at] or load_i32(array + NDIM) != rank:
        return False
    sizes, same = as_block(load_i64(array + DIMENSIONS)), load_i32(array + FLAGS) & C_CONTIGUOUS != 0
    for d in range(rank):
        same = same and sizes[d] == a[at + 2 + d]
    return same


@driver(Entry)
def entry(target):
    """(record, arguments, count) -> an object. Arguments: inputs, then arrays for the results, which are what they should be.
    Nothing is done where an input is refused."""

    def entry(record, arguments, count):
        a, given = as_block(load_i64(record + DATA)), as_block(arguments)
        fits, at = count == a[ARGUMENTS], FIXED
        for i in range(a[CHECKED]):
            fits = fits and _fits(a, given[i], at)
            at += 2 + a[at + 1]
        result = a[REFUSED]
        if fits:
            for _ in range(a[WORDS]):
                store_i64(a[at + 1], load_i64(given[a[at]] + DATA) + a[at + 2])
                at += 3
            thread = result0(a[SAVE_THREAD])
            pool, busy = 0, 1
            if a[POOL] != 0:
                pool = atomic_load(a[POOL])
            if pool != 0:
                busy = result5(a[SUBMIT], pool, a[STEPS], a[COUNT], a[NTH], a[SPINS])
            if busy != 0:
                table = as_block(a[STEPS])
                for i in range(a[COUNT]):
                    call3(table[ROW * i + DRIVER], table[ROW * i + BLOCK], 0, 1)
            result1(a[RESTORE_THREAD], thread)
            result = a[DONE]
            for i in range(a[REPORTS]):
                if load_i64(a[at + i]) != 0:
                    result = a[FAILED]
        result1(a[INCREF], result)
        return result

    return entry, i64(i64, i64, i64)
