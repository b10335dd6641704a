"""Unique: sort, number the groups of equal neighbours, and number them anew where they are to be in the order of x."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.backends.cuda.selection.ranks import chunks
from graphc.backends.cuda.selection.unique_block import (
    COUNT_DISTINCT,
    COUNT_FIRSTS,
    DESCRIBE,
    NUMBER_DISTINCT,
    NUMBER_FIRSTS,
    CountDistinct,
    CountFirsts,
    Describe,
    NumberDistinct,
    NumberFirsts,
)
from graphc.lower.bounded import distinct, results
from graphc.lower.fuse import Group
from graphc.lower.storage import Buffer, Ref

WORD = 8


@lowers("Unique", supported=distinct)
def lower_unique(lo: CudaLowering, group: Group) -> None:
    node = group.nodes[0]
    node.attrs.ignore("axis")  # the only one, else there is no kernel
    x = lo.read(node.inputs[0])
    *given, total = results(lo, node)
    name, n, dtype = node.output.name, x.type.elements, x.type.dtype
    info = replace(lo.info(group, "describe_groups"), nbytes=4 * WORD * n)
    small = replace(info, flops=0)

    def memory(what: str, item: int = WORD) -> Ref:
        return Ref(Buffer(f"{name}/{what}", item * n))

    values, *given = given
    first, inverse, repeats = *given, *(memory(what) for what in ("first", "inverse", "repeats")[len(given) :])
    elements, places, starts = memory("sorted", dtype.itemsize), memory("places"), memory("starts")
    lo.top_k(False, dtype, x.ref, (1, n, 1), n, elements, places, name, replace(small, kernel="top_k"))

    # in sorted order
    by_value = node.attrs["sorted"]
    groups, firsts = (inverse, first) if by_value else (memory("groups"), memory("firsts"))
    head = chunks(n, name)
    args = COUNT_DISTINCT(**head, sorted=elements)
    lo.emit(CountDistinct(dtype.name), args, replace(small, kernel="count_distinct"), writes=[head["counts"]])
    made = {"groups": groups, "firsts": firsts, "starts": starts}
    args = NUMBER_DISTINCT(**head, total=total, sorted=elements, places=places, **made)
    lo.emit(NumberDistinct(dtype.name), args, replace(small, kernel="number_distinct"), writes=[total, *made.values()])

    # in the order of x
    renumbered: dict[str, Any] = {"numbers": 0, "old": 0}
    if not by_value:
        head = chunks(n, f"{name}/first")
        args = COUNT_FIRSTS(**head, groups=groups, firsts=firsts)
        lo.emit(CountFirsts(), args, replace(small, kernel="count_firsts"), writes=[head["counts"]])
        renumbered = {"numbers": memory("numbers"), "old": memory("old")}
        args = NUMBER_FIRSTS(**head, total=total, groups=groups, firsts=firsts, **renumbered, new_firsts=first)
        lo.emit(
            NumberFirsts(), args, replace(small, kernel="number_firsts"), writes=[total, first, *renumbered.values()]
        )

    args = DESCRIBE(
        grid=-(-n // THREADS), n=n, total=total, x=x.ref, firsts=first, starts=starts, values=values, repeats=repeats,
        **renumbered, groups=0 if by_value else groups, inverse=0 if by_value else inverse,
    )  # fmt: skip
    writes = [values, repeats] if by_value else [values, repeats, inverse]
    lo.emit(Describe(dtype.itemsize), args, info, writes=writes)
