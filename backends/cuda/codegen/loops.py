"""An element's place in loops, from its number."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from graphc.backends.cuda.codegen.emit import CudaEmit


def indices(q: CudaEmit, number: ir.Value, block: ir.Value, dims: int, loops: int) -> list[ir.Value]:
    """The index in each loop, innermost first. dims: the word of the innermost one's extent; those of the others follow."""
    b, rest, found = q.b, number, []
    for i in range(loops - 1):
        extent = q.slot(block, dims + i)
        up = b.udiv(rest, extent)
        found.append(b.sub(rest, b.mul(up, extent)))
        rest = up
    return [*found, rest] if loops else []


def place(q: CudaEmit, start: ir.Value, at: Sequence[ir.Value], block: ir.Value, strides: int) -> ir.Value:
    """start + the indices times their byte strides. strides: the word of the innermost one's."""
    for i, index in enumerate(at):
        start = q.b.add(start, q.b.mul(index, q.slot(block, strides + i)))
    return start
