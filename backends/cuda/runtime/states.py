"""States of sessions in a device's memory (graphc/room.py)."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from graphc.backends.cuda.runtime.arrays import DeviceArray, Result
from graphc.backends.cuda.runtime.device import Device, Stream
from graphc.room import HOST


class StateArray(Result):
    """It belongs to a session alone, which hands it to runs: it is nobody's result."""


class Start:
    """The first `length` positions of an array along an axis."""

    def __init__(self, whole: DeviceArray, axis: int, length: int) -> None:
        self.whole, self.axis = whole, axis
        self.shape = (*whole.shape[:axis], length, *whole.shape[axis + 1 :])
        self.dtype, self.ndim = whole.dtype, whole.ndim

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    @property
    def rows(self) -> range:
        """Addresses of what lies in one piece: of a cache there are as many as it has heads."""
        step = self.row_bytes * self.whole.shape[self.axis] // max(self.shape[self.axis], 1)
        return range(self.whole.address, self.whole.address + step * prod(self.shape[: self.axis]), step or 1)

    @property
    def row_bytes(self) -> int:
        return prod(self.shape[self.axis :]) * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a state in a GPU's memory can't be a NumPy array without a copy")
        made = np.empty(self.shape, self.dtype)
        whole = self.whole
        with whole.device.current():
            for i, address in enumerate(self.rows):
                to = made.ctypes.data + i * self.row_bytes
                whole.device.copy(to, address, self.row_bytes, whole.stream)
            whole.stream.wait()
        return made if dtype is None else made.astype(dtype)


class StateMemory:
    """stream: for copies, which are done when a call returns."""

    def __init__(self, device: Device, stream: Stream) -> None:
        self._device, self._stream = device, stream

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> StateArray | np.ndarray:
        if dtype.kind == "O":  # strings stay on the host
            return np.empty(shape, dtype)
        with self._device.current():
            return StateArray(self._device, shape, dtype, self._stream)

    def start(self, a: Any, axis: int, length: int) -> Any:
        return Start(a, axis, length) if isinstance(a, StateArray) else HOST.start(a, axis, length)

    def write(self, a: Any, axis: int, value: Any) -> None:
        if not isinstance(a, StateArray):
            HOST.write(a, axis, value)
            return
        to = Start(a, axis, value.shape[axis])
        if not to.nbytes:
            return
        if isinstance(value, np.ndarray):
            value = np.ascontiguousarray(value)
        with self._device.current():
            self._stream.follow(a.stream)
            for at, source in zip(to.rows, self._rows_of(value, to)):
                self._device.copy(at, source, to.row_bytes, self._stream)
            self._stream.wait()

    def _rows_of(self, value: Any, to: Start) -> range:
        """Of an array that becomes `to`."""
        if isinstance(value, DeviceArray):
            value = Start(value, to.axis, value.shape[to.axis])
        if isinstance(value, Start):
            self._stream.follow(value.whole.stream)
            return value.rows
        return range(value.ctypes.data, value.ctypes.data + value.nbytes, to.row_bytes)
