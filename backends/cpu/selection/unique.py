"""Unique."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from graphc.backends.cpu.lower.registry import RULES
from graphc.backends.cpu.selection.sort_block import DIGITS_BYTES
from graphc.backends.cpu.selection.unique_block import UNIQUE, UNIQUE_ROWS, Unique, UniqueRows
from graphc.backends.cpu.verbs.ordered_block import SortKeys
from graphc.dtypes import is_float
from graphc.lower.bounded import results
from graphc.lower.registry import native_dtypes
from graphc.lower.storage import Buffer, Ref
from graphc.lower.verbs import around

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering
    from graphc.lower.fuse import Group

PASSES = 16  # over the elements, of a sort


@RULES.lowers("Unique", supported=native_dtypes)
def lower_unique(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    if node.attrs["axis"] is not None and node.inputs[0].type.rank > 1:
        _lower_rows(lo, group)
        return
    x = lo.read(node.inputs[0])
    *given, total = results(lo, node)
    name, n, dtype = node.output.name, x.type.elements, x.type.dtype

    def memory(what: str, nbytes: int) -> Ref:
        return Ref(Buffer(f"{name}/{what}", nbytes))

    unread = [memory(what, 8 * n) for what in ("first", "inverse", "counts")[len(given) - 1 :]]
    values, first, inverse, counts = (*given, *unread)
    of_sort = [memory(what, 8 * n) for what in ("keys", "places", "spare_keys", "spare_places")]
    keys, places, spare_keys, spare_places = of_sort
    digits = memory("digits", DIGITS_BYTES)
    args = UNIQUE(
        x=x.ref, item=dtype.itemsize, n=n, values=values, first=first, inverse=inverse, counts=counts, total=total,
        micro=SortKeys(True, dtype.name), ordered=node.attrs["sorted"], keys=keys, places=places, spare_keys=spare_keys,
        spare_places=spare_places, digits=digits,
    )  # fmt: skip
    info = replace(lo.info(group, "unique"), nbytes=PASSES * 8 * n)
    lo.emit(Unique(), args, info, writes=[values, first, inverse, counts, total, *of_sort, digits])


def _lower_rows(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    x = lo.read(node.inputs[0])
    *given, total = results(lo, node)
    name, dtype = node.output.name, x.type.dtype
    outer, n, inner = around(x.type.extents, node.attrs["axis"] % x.type.rank)

    def memory(what: str, count: int) -> Ref:
        return Ref(Buffer(f"{name}/{what}", 8 * count))

    unread = [memory(what, n) for what in ("first", "inverse", "counts")[len(given) - 1 :]]
    values, first, inverse, counts = (*given, *unread)
    keys = memory("keys", outer * n * inner)
    of_sort = {what: memory(what, n) for what in ("places", "spare_places", "at", "number", "held")}
    args = UNIQUE_ROWS(
        x=x.ref, item=dtype.itemsize, floats=is_float(dtype), outer=outer, n=n, inner=inner, values=values, first=first, inverse=inverse,
        counts=counts, total=total, micro=SortKeys(True, dtype.name), ordered=node.attrs["sorted"], keys=keys, **of_sort,
    )  # fmt: skip
    info = replace(lo.info(group, "unique_rows"), nbytes=PASSES * 8 * n)
    lo.emit(UniqueRows(), args, info, writes=[values, first, inverse, counts, total, keys, *of_sort.values()])
