"""What the machine can do at most: multiply-adds in registers, and reading memory. Used by backends/cpu/roofline.py."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.executor.program_block import PeakFma, PeakRead
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.llvm.emit import F32, I64, Emit, define, i64

LINES = 8  # vectors read at once


def accumulators(target: Target) -> int:
    """Independent chains, enough to hide the latency of a multiply-add."""
    return target.registers * 3 // 4


@micro(PeakFma)
def peak_fma(module: ir.Module, symbol: str, target: Target) -> None:
    """A step (block, thread, threads): every thread runs block[0] rounds of `accumulators` multiply-adds of vectors.

    Two float32 are read from block[1] and block[2], and the sum goes to vector `thread` of the memory at block[3].
    """
    fn, q = define(module, symbol, [I64] * 3)
    block = q.pointer(fn.args[0])
    kind = ir.VectorType(F32, target.vl)
    a, c = (q.splat(q.slot_f32(block, i), target.vl) for i in (1, 2))
    sums = [q.variable(kind) for _ in range(accumulators(target))]
    for k, s in enumerate(sums):
        q.b.store(q.const(k, F32, target.vl), s)
    with q.loop(q.slot(block, 0)):
        for s in sums:
            q.b.store(q.fma(a, q.b.load(s, typ=kind), c), s)
    _store_sum(q, [q.b.load(s, typ=kind) for s in sums], q.slot(block, 3), fn.args[1], target)


@micro(PeakRead)
def peak_read(module: ir.Module, symbol: str, target: Target) -> None:
    """A step (block, thread, threads): every thread reads block[0] groups of LINES vectors, block[2] times.

    Those of all threads lie one after the other from block[1] on. The sum goes to vector `thread` of the memory at block[3].
    """
    fn, q = define(module, symbol, [I64] * 3)
    b, block, thread = q.b, q.pointer(fn.args[0]), fn.args[1]
    kind, nbytes = ir.VectorType(F32, target.vl), target.vector
    groups = q.slot(block, 0)
    memory = q.offset(q.pointer(q.slot(block, 1)), b.mul(b.mul(thread, groups), i64(LINES * nbytes)))
    sums = [q.variable(kind) for _ in range(LINES)]
    for s in sums:
        b.store(q.const(0, F32, target.vl), s)
    with q.loop(q.slot(block, 2)), q.loop(groups) as i:
        group = q.offset(memory, b.mul(i, i64(LINES * nbytes)))
        for k, s in enumerate(sums):
            b.store(b.fadd(b.load(s, typ=kind), q.load_raw(q.offset(group, k * nbytes), F32, target.vl)), s)
    _store_sum(q, [b.load(s, typ=kind) for s in sums], q.slot(block, 3), thread, target)


def _store_sum(q: Emit, values: list[ir.Value], address: ir.Value, thread: ir.Value, target: Target) -> None:
    """So that nothing of what was computed is left out."""
    total = values[0]
    for v in values[1:]:
        total = q.b.fadd(total, v)
    q.store_raw(total, q.offset(q.pointer(address), q.b.mul(thread, i64(target.vector))))
    q.b.ret_void()
