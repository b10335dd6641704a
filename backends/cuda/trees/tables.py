"""LookUp, SquaredDistances and CoupledProbabilities."""

from __future__ import annotations

from typing import Any

from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.backends.cuda.trees.tables_block import COUPLE, DISTANCES, LOOK_UP, Couple, Distances, LookUp
from graphc.graph import Node
from graphc.lower.elementwise import row_major
from graphc.lower.fuse import Group
from graphc.ops.ml.coupling import NEAR, ROUNDS, TINY

MOST_COUPLES = 1 << 15  # samples that have memory at once


def _numbers(node: Node, target: Any = None) -> str | None:
    x, keys, values = (v.dtype for v in node.operands)
    if x != keys:
        return f"{x} among keys of {keys} have no kernel"
    return None if values.kind != "O" and values.itemsize <= 8 else f"values of {values} have no kernel"


@lowers("LookUp", supported=_numbers)
def lower_look_up(lo: CudaLowering, group: Group) -> None:
    node = group.nodes[0]
    x, keys, values = (row_major(lo, lo.read(v)) for v in node.inputs)
    y, n = lo.write(node.output).ref, x.type.elements
    if n == 0:
        return
    words = LOOK_UP(
        grid=-(-n // THREADS), n=n, x=x.ref, y=y, keys=keys.ref, size=keys.type.elements, values=values.ref
    )  # fmt: skip
    kernel = LookUp(x.type.dtype.name, values.type.dtype.itemsize)
    lo.emit(kernel, words, lo.info(group, str(kernel)), writes=[y])


@lowers("SquaredDistances")
def lower_distances(lo: CudaLowering, group: Group) -> None:
    node = group.nodes[0]
    x, vectors = (row_major(lo, lo.read(v)) for v in node.inputs)
    y, total = lo.write(node.output).ref, node.output.type.elements
    if total == 0:
        return
    features, count = vectors.type.extents
    words = DISTANCES(
        grid=-(-total // THREADS), total=total, x=x.ref, vectors=vectors.ref, y=y, features=features, count=count
    )  # fmt: skip
    kernel = Distances(x.type.dtype.name)
    lo.emit(kernel, words, lo.info(group, str(kernel)), writes=[y])


@lowers("CoupledProbabilities")
def lower_couple(lo: CudaLowering, group: Group) -> None:
    node = group.nodes[0]
    pairs, k = row_major(lo, lo.read(node.inputs[0])), node.attrs["classes"]
    y, n, stride = lo.write(node.output).ref, pairs.type.extents[0], 8 * k * (2 * k + 1)
    if n == 0:
        return
    grid = min(-(-n // THREADS), MOST_COUPLES // THREADS)
    threads = grid * THREADS
    memory = lo.scratch(f"{node.output.name}/matrices", threads * stride)
    words = COUPLE(grid=grid, n=n, pairs=pairs.ref, y=y, classes=k, memory=memory, stride=stride, threads=threads)
    kernel = Couple(TINY, NEAR, ROUNDS)
    lo.emit(kernel, words, lo.info(group, str(kernel)), writes=[y])
