"""Kernels of arrays and numbers in the emulator: their parameters are words at one address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.cuda import types

from graphc.backends.cuda.codegen.compiler import nvvm_ir
from graphc.backends.cuda.emulator import EmulatedKernel, Range


def array_of(dtype: Any, rank: int = 1) -> Any:
    return types.Array(dtype, rank, "C")


class ArrayKernel:
    """`kernel(blocks, *args)`: arrays and numbers as the signature has them."""

    def __init__(
        self,
        function: Callable,
        params: tuple,
        threads: int,
        shared: int = 0,
        check: bool = False,
        arch: tuple = (9, 0),
        together: bool = False,
    ) -> None:
        code = nvvm_ir(function, types.void(*params), arch, lines=check)
        self.emulated = EmulatedKernel(code.modules, code.entry, threads, shared, function.__name__, check, together)
        self._params = params
        self._more: list[Range] = []

    def memory(self, array: np.ndarray) -> None:
        """It may touch this array, whose address is a number among its arguments."""
        first = array.ctypes.data
        self._more.append(Range(first, first + array.nbytes, array.itemsize, "memory"))

    def __call__(self, blocks: int, *args: Any) -> None:
        words: list[int] = []
        memory = list(self._more)
        for kind, arg in zip(self._params, args):
            if isinstance(arg, np.ndarray):  # Numba's array: two objects that own it, size, item, data, shape, strides
                words += [0, 0, arg.size, arg.itemsize, arg.ctypes.data, *arg.shape, *arg.strides]
                first = arg.ctypes.data
                memory.append(Range(first, first + arg.nbytes, arg.itemsize, f"argument {len(memory)}"))
            elif isinstance(kind, types.Float):
                words.append(int(np.array(arg, f"f{kind.bitwidth // 8}").view(f"i{kind.bitwidth // 8}")))
            else:
                words.append(int(arg))
        block = np.array(words, np.int64)
        self.emulated.launch(blocks, block.ctypes.data, memory)
