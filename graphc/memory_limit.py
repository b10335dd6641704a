"""What does not fit the memory that the process may take is refused before anybody allocates it or makes tables of its size."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from graphc.errors import OutOfMemoryError
from graphc.sizes import hint_of

if TYPE_CHECKING:
    from graphc.graph import Graph, Node, Value

_ADDRESSABLE = 1 << 62  # bytes of an array whose dims are at least 1: strides must fit int64

_GROUP, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")  # the process's control group, and all of them


def require_memory(graph: Graph) -> None:
    """Raises OutOfMemoryError where a value alone is larger than the memory, or has sizes that nothing can address."""
    for v in graph.inputs:
        if _is_too_large(v):
            raise _error(v)
    for node in graph.nodes:
        require_results(node)


def require_results(node: Node) -> None:
    """The same for the results of a node: before anybody makes others of it, and tables of their sizes."""
    for v in node.outputs:
        if _is_too_large(v):
            raise _error(v).located(op=node.op.name, node=node.name, source=node.source)


def require(nbytes: int, what: str) -> None:
    """Raises OutOfMemoryError where so many bytes do not fit the memory. what: takes them."""
    if nbytes > memory():
        from graphc.report import format_bytes

        message = f"{what}: {format_bytes(nbytes)} ({nbytes} bytes); {_held()}"
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
    return OutOfMemoryError(f"'{v.name}' is {v.type}, {format_bytes(n)} ({n} bytes); {_held()}", hint=hint)


@cache
def memory() -> int:
    """Bytes that this process may take; a bound that nothing reaches where the system does not tell."""
    return _bounds()[0]


def _held() -> str:
    """'this machine has 16 GiB', or what else bounds the process."""
    from graphc.report import format_bytes

    nbytes, what = _bounds()
    return f"{what} {format_bytes(nbytes)}"


@cache
def _bounds() -> tuple[int, str]:
    """The smallest of: memory and swap of the machine, the limit of its control group, that of the process (`ulimit -v`)."""
    return min([(_of_machine(), "this machine has"), *((n, "this process may take") for n in _limits())])


def _of_machine() -> int:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        with open("/proc/meminfo", encoding="ascii") as f:
            swap = next((int(line.split()[1]) << 10 for line in f if line.startswith("SwapTotal:")), 0)
    except (AttributeError, OSError, ValueError):
        return _ADDRESSABLE
    return total + swap


def _limits() -> Iterator[int]:
    with suppress(ImportError):
        import resource

        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        if soft != resource.RLIM_INFINITY:
            yield soft
    with suppress(OSError, ValueError, IndexError):  # no Linux, no control groups of version 2
        group = _GROUP.read_text().partition("0::")[2].splitlines()[0]
        folder = _GROUPS / group.lstrip("/")
        for level in (folder, *folder.parents):
            text = (level / "memory.max").read_text().strip() if (level / "memory.max").exists() else "max"
            if text != "max":
                yield int(text)
