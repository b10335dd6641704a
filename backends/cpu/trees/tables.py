"""LookUp, CoupledProbabilities and SquaredDistances."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc.backends.cpu.lower.registry import RULES
from graphc.backends.cpu.sizes import lines
from graphc.backends.cpu.trees.distances_block import DISTANCES, DistanceRow, Distances
from graphc.backends.cpu.trees.tables_block import COUPLE, LOOK_UP, Couple, LookUp
from graphc.lower.elementwise import row_major
from graphc.ops.ml.coupling import NEAR, ROUNDS, TINY

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering
    from graphc.backends.cpu.target import Target
    from graphc.graph import Node
    from graphc.lower.fuse import Group


def _numbers(node: Node, target: Target) -> str | None:
    x, keys, values = (v.dtype for v in node.operands)
    if x != keys:
        return f"{x} among keys of {keys} have no kernel"
    return "its values are no numbers" if values.kind == "O" else None


@RULES.lowers("LookUp", supported=_numbers)
def lower_look_up(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    x, keys, values = (row_major(lo, lo.read(v)) for v in node.inputs)
    y = lo.write(node.output).ref
    words = LOOK_UP(
        x=x.ref, y=y, n=x.type.elements, keys=keys.ref, size=keys.type.elements, values=values.ref,
        item=values.type.dtype.itemsize,
    )  # fmt: skip
    lo.emit(LookUp(x.type.dtype.name), words, lo.info(group, "look_up"), writes=[y])


@RULES.lowers("CoupledProbabilities")
def lower_couple(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    pairs, k = row_major(lo, lo.read(node.inputs[0])), node.attrs["classes"]
    y = lo.write(node.output).ref
    memory, stride = lo.scratch(f"{node.output.name}/matrices", lines(8 * k * (2 * k + 1)))
    words = COUPLE(pairs=pairs.ref, y=y, n=pairs.type.extents[0], classes=k, memory=memory, stride=stride)
    lo.emit(Couple(TINY, NEAR, ROUNDS), words, lo.info(group, "couple"), writes=[y])


def _float32(node: Node, target: Target) -> str | None:
    return None if node.operands[0].dtype == "float32" else f"SquaredDistances has no {node.operands[0].dtype} kernel"


@RULES.lowers("SquaredDistances", supported=_float32)
def lower_distances(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    x, vectors = (row_major(lo, lo.read(v)) for v in node.inputs)
    y = lo.write(node.output).ref
    (n, features), count = x.type.extents, vectors.type.extents[1]
    words = DISTANCES(
        x=x.ref, vectors=vectors.ref, y=y, n=n, features=features, count=count, micro=DistanceRow()
    )  # fmt: skip
    lo.emit(Distances(), words, lo.info(group, "distances"), writes=[y])
