"""The emulator as a device: its memory is the host's, and each launch has happened when it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from ctypes import memmove
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from graphc.backends.cuda.codegen.arch import EMULATED, Arch
from graphc.backends.cuda.codegen.build import emulated
from graphc.errors import UnsupportedError
from graphc.lower.aligned import aligned_empty

if TYPE_CHECKING:
    from graphc.backends.cuda.emulator import EmulatedKernel
    from graphc.backends.cuda.runtime.device import Launch, Stream
    from graphc.lower.kernel import Kernel


class EmulatedStream:
    """Of nothing that is still to happen."""

    def __init__(self, handle: int = 0) -> None:
        self.handle = handle

    def wait(self) -> None:
        pass

    def follow(self, other: Stream) -> None:
        pass

    def mark(self) -> EmulatedMark:
        return EmulatedMark()


class EmulatedMark:
    def reached(self) -> bool:
        return True

    def wait(self) -> None:
        pass


class EmulatedGraph:
    def __init__(self, launches: Sequence[Launch]) -> None:
        self.change(launches)

    def change(self, launches: Sequence[Launch]) -> None:
        self._launches = tuple(launches)

    def run(self, stream: Stream) -> None:
        for function, grid, argument in self._launches:
            function.launch(grid, argument)


class EmulatedDevice:
    """See `Device`. arch: what kernels are compiled for."""

    name = "the emulator"

    def __init__(self, arch: Arch) -> None:
        self.arch = arch
        self._memory: dict[int, np.ndarray] = {}

    @property
    def nbytes(self) -> int:
        """That it has given out."""
        return sum(a.nbytes for a in list(self._memory.values()))

    def current(self) -> AbstractContextManager[None]:
        return nullcontext()

    def wait(self) -> None:
        pass

    def allocate(self, nbytes: int) -> int:
        memory = aligned_empty(nbytes)
        self._memory[memory.ctypes.data] = memory
        return int(memory.ctypes.data)

    def free(self, address: int) -> None:
        del self._memory[address]

    def allocate_result(self, nbytes: int, stream: Stream) -> int:
        return self.allocate(nbytes)

    def free_result(self, address: int, stream: Stream) -> None:
        self.free(address)

    def host_array(self, nbytes: int) -> np.ndarray:
        return aligned_empty(nbytes)

    def copy(self, to: int, source: int, nbytes: int, stream: Stream) -> None:
        memmove(to, source, nbytes)

    def stream(self) -> EmulatedStream:
        return EmulatedStream()

    def stream_of(self, handle: int) -> EmulatedStream:
        return EmulatedStream(handle)

    def function(self, kernel: Kernel, cache: bool) -> EmulatedKernel:
        return emulated(kernel, self.arch, cache=cache)

    def launch(self, launch: Launch, stream: Stream) -> None:
        launch.function.launch(launch.grid, launch.argument)

    def graph(self, launches: Sequence[Launch]) -> EmulatedGraph:
        return EmulatedGraph(launches)

    def seconds(
        self, launches: Sequence[Launch], stream: Stream, rounds: int, before: Callable[[], None] | None = None
    ) -> float:
        raise UnsupportedError("times of emulated kernels say nothing about a GPU: there is no profile of them")


def emulator(arch: Arch | None = None) -> EmulatedDevice:
    """The one of this process."""
    return _emulator(arch or EMULATED)


_emulator = lru_cache(EmulatedDevice)
