"""A seed that is another one in each run, step and process: the time and the cycles of the multiprocessor, mixed."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir
from numba.cuda import types

from graphc.backends.cuda.codegen.device import device, word
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.ptx import assembly
from graphc.backends.cuda.codegen.threads import thread
from graphc.backends.cuda.kernel import Code, makes
from graphc.backends.cuda.random.seed_block import SEED, Seed
from graphc.backends.llvm.emit import I64

CLOCKS = ("globaltimer", "clock64")
ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def _mixed(q: CudaEmit, x: ir.Value) -> ir.Value:
    """Every bit of x changes half of the result's (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014)."""
    for shift, factor in ROUNDS:
        x = q.b.mul(q.b.xor(x, q.b.lshr(x, ir.Constant(I64, shift))), ir.Constant(I64, factor))
    return q.b.xor(x, q.b.lshr(x, ir.Constant(I64, 31)))


def _put(q: CudaEmit, a: Sequence[ir.Value]) -> None:
    """put(y, salt)"""
    seed = _mixed(q, q.b.add(a[0], a[1]))
    for clock in CLOCKS:
        (now,) = assembly(q.b, [I64], f"mov.u64 $0, %{clock};", "=l", [])
        seed = _mixed(q, q.b.add(seed, now))
    q.store_raw(seed, q.pointer(a[0]))


put = device(_put, types.void, types.int64, types.int64)


@makes(Seed)
def seed() -> Code:
    Y, SALT = SEED["y salt"]

    def seed(a):
        if thread() == 0:
            put(word(a, Y), word(a, SALT))

    return Code(seed, threads=32)
