"""What does not fit the machine's memory is refused before anybody allocates it or makes tables of its size."""

from __future__ import annotations

import math
import os
from functools import cache
from typing import TYPE_CHECKING

from graphc.errors import OutOfMemoryError
from graphc.sizes import hint_of

if TYPE_CHECKING:
    from graphc.graph import Graph, Value

_ADDRESSABLE = 1 << 62  # bytes of an array whose dims are at least 1: strides must fit int64


def require_memory(graph: Graph) -> None:
    """Raises OutOfMemoryError where a value alone is larger than the memory, or has sizes that nothing can address."""
    for v in graph.inputs:
        if _is_too_large(v):
            raise _error(v)
    for node in graph.nodes:
        for v in node.outputs:
            if _is_too_large(v):
                raise _error(v).located(op=node.op.name, node=node.name, source=node.source)


def require(nbytes: int, what: str) -> None:
    """Raises OutOfMemoryError where so many bytes do not fit the memory. what: takes them."""
    if nbytes > memory():
        from graphc.report import format_bytes

        held = format_bytes(memory())
        message = f"{what}: {format_bytes(nbytes)} ({nbytes} bytes); this machine has {held}"
        raise OutOfMemoryError(message, hint="smaller inputs, or other sizes in the model")


def _is_too_large(v: Value) -> bool:
    if v.type is None or not v.type.is_static:
        return False
    item = v.type.dtype.itemsize
    return (
        hint_of(v.type.nbytes) > memory()
        or item * math.prod(max(hint_of(d), 1) for d in v.type.shape if isinstance(d, int)) > _ADDRESSABLE
    )


def _error(v: Value) -> OutOfMemoryError:
    from graphc.report import format_bytes

    n, hint = hint_of(v.type.nbytes), "smaller inputs, or other sizes in the model"
    if n <= memory():
        return OutOfMemoryError(f"'{v.name}' is {v.type}, which no array can be", hint=hint)
    size, held = format_bytes(n), format_bytes(memory())
    return OutOfMemoryError(f"'{v.name}' is {v.type}, {size} ({n} bytes); this machine has {held}", hint=hint)


@cache
def memory() -> int:
    """Bytes of memory and swap; a bound that nothing reaches where the system does not tell."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        with open("/proc/meminfo", encoding="ascii") as f:
            swap = next((int(line.split()[1]) << 10 for line in f if line.startswith("SwapTotal:")), 0)
    except (AttributeError, OSError, ValueError):
        return _ADDRESSABLE
    return total + swap
