"""What makes the code of kernels: functions that Numba compiles for the GPU, registered by the kernel that they make.

A maker takes the kernel's fields and gives a `Code`. Every kernel has one parameter, the address of its argument block: the
words that its step has, as `Block` declares them, the first of which is `grid`, the number of thread blocks. So a program is
a table of words in the GPU's memory, and a step is a kernel, a grid and an address.

    SCALE = Block("grid x y n factor")

    @dataclass(frozen=True, eq=False)
    class Scale(Kernel, name="cuda_scale"):
        block: ClassVar[Block] = SCALE
        dtype: str

    @makes(Scale)
    def scale(dtype: str) -> Code:
        X, Y, N, FACTOR = SCALE["x y n factor"]
        fetch, put = load(dtype), store(dtype)

        def scale(a):
            i = thread_number(THREADS)
            if i < word(a, N):
                ...

        return Code(scale, THREADS)
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

from graphc.lower.kernel import Kernel

THREADS = 128  # of a block, where nothing asks for another number
OTHERS = ("codegen", "emulator", "lower", "runtime")  # folders that are no family's
FAMILIES = tuple(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.ispkg and m.name not in OTHERS)


@dataclass(frozen=True, eq=False)
class Code:
    """A function as Numba compiles it for the GPU: of one int64, the address of its argument block. threads: of a block; shared:
    bytes of dynamic shared memory; blocks: that a multiprocessor is to have registers for, 0 where that is ptxas's choice;
    together: its blocks wait for each other, so that all of a grid must run at once."""

    function: Callable[..., None]
    threads: int = THREADS
    shared: int = 0
    blocks: int = 0
    together: bool = False


Maker = TypeVar("Maker", bound=Callable[..., Code])
_MAKERS: dict[str, Callable[..., Code]] = {}


def makes(kernel: type[Kernel]) -> Callable[[Maker], Maker]:
    """Register what makes the code of a kernel. Raises TypeError where it does not take the kernel's fields."""

    def register(make: Maker) -> Maker:
        assert kernel.name not in _MAKERS, kernel.name
        takes, has = [*signature(make).parameters], [f.name for f in fields(kernel)]
        if takes != has:
            raise TypeError(f"{make.__module__}.{make.__name__} takes {takes}, but {kernel.__name__} has {has}")
        _MAKERS[kernel.name] = make
        return make

    return register


def code_of(kernel: Kernel) -> Code:
    load("kernels")
    fields_of: dict[str, Any] = kernel.by_field
    return _MAKERS[kernel.name](**fields_of)


@lru_cache
def load(kind: str) -> None:
    """Import the modules of all families that end in `_kind`; '' for those that lower. `x.py` lowers, `x_block.py` declares
    argument blocks and kernels, `x_kernels.py` has the functions that Numba compiles."""
    for family in FAMILIES:
        name = f"{__package__}.{family}"
        for module in pkgutil.iter_modules(importlib.import_module(name).__path__):
            last = module.name.rpartition("_")[2]
            if (last if last in ("block", "kernels") else "") == kind:
                importlib.import_module(f"{name}.{module.name}")
