"""What a device is to a program: memory, streams, launches. The emulator is one (emulated.py), each GPU another (gpu.py).

Addresses are numbers, of the device's memory or of the host's: `copy` takes both. What is given to a stream happens in its order;
in the emulator everything has happened when a call returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, NamedTuple, Protocol

import numpy as np

from graphc.backends.cuda.codegen.arch import Arch
from graphc.lower.kernel import Kernel


class Launch(NamedTuple):
    """function: of the device. grid: blocks, 0 for none. argument: the address of the step's argument block."""

    function: Any
    grid: int
    argument: int


class Stream(Protocol):
    """A queue of work. handle: CUDA's, a number."""

    @property
    def handle(self) -> int: ...

    def wait(self) -> None:
        """Until all that it was given has happened. Raises DeviceError where a kernel failed."""
        ...

    def follow(self, other: Stream) -> None:
        """What it is given from now on happens after what `other` was given until now."""
        ...

    def mark(self) -> Mark:
        """A point behind all that it was given until now."""
        ...


class Mark(Protocol):
    def reached(self) -> bool: ...

    def wait(self) -> None: ...


class LaunchGraph(Protocol):
    """Launches in order, given to a stream as one."""

    def change(self, launches: Sequence[Launch]) -> None:
        """As many others, for the next `run`."""
        ...

    def run(self, stream: Stream) -> None: ...


class Device(Protocol):
    """name: for people. arch: what kernels are compiled for. Between `with device.current():` and its end, the thread works with it; nothing else does, but `free`."""

    name: str

    @property
    def arch(self) -> Arch: ...

    def current(self) -> AbstractContextManager[None]: ...

    def wait(self) -> None:
        """Until all that it was given, by whomever, has happened."""
        ...

    def allocate(self, nbytes: int) -> int:
        """Raises OutOfMemoryError."""
        ...

    def free(self, address: int) -> None:
        """When all work is done that it was given."""
        ...

    def allocate_result(self, nbytes: int, stream: Stream) -> int:
        """Memory that work of this stream may use from now on. Raises OutOfMemoryError."""
        ...

    def free_result(self, address: int, stream: Stream) -> None:
        """After the work that this stream was given."""
        ...

    def host_array(self, nbytes: int) -> np.ndarray:
        """Bytes in the host's memory that copies need no detour for."""
        ...

    def copy(self, to: int, source: int, nbytes: int, stream: Stream) -> None: ...

    def stream(self) -> Stream:
        """A new one."""
        ...

    def stream_of(self, handle: int) -> Stream:
        """The caller's."""
        ...

    def function(self, kernel: Kernel, cache: bool) -> Any:
        """What `Launch` takes, with its code on the device. cache: may it come from disk, and be kept there?"""
        ...

    def launch(self, launch: Launch, stream: Stream) -> None: ...

    def graph(self, launches: Sequence[Launch]) -> LaunchGraph: ...

    def seconds(
        self, launches: Sequence[Launch], stream: Stream, rounds: int, before: Callable[[], None] | None = None
    ) -> float:
        """Of launches in order, the median. before: gives the stream what happens each time, and is not counted. Raises
        UnsupportedError where times mean nothing."""
        ...


class DeviceMemory:
    """Bytes on a device, until the last reference is gone."""

    def __init__(self, device: Device, nbytes: int) -> None:
        self.device, self.nbytes = device, nbytes
        self.address = device.allocate(max(nbytes, 1))

    def __del__(self) -> None:
        if hasattr(self, "address"):
            with suppress(Exception):  # the process ends, and its driver has gone already
                self.device.free(self.address)
