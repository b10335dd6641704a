"""Arrays of another library that works on the GPU, on a stream of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from cuda.core import Buffer
from cuda.core.utils import StridedMemoryView

from graphc.backends.cuda.runtime.device import DeviceMemory, Stream
from graphc.backends.cuda.runtime.gpu import Gpu
from graphc.dlpack import set_dtype

LEGACY = 1


class Foreign:
    """values: written by work of `stream`, which nobody has waited for. at: bytes behind where memory begins."""

    def __init__(
        self,
        gpu: Gpu,
        values: np.ndarray,
        stream: Stream | None = None,
        at: int = 0,
        strides: Sequence[int] | None = None,
        readonly: bool = False,
    ) -> None:
        self.gpu, self.shape, self.dtype, self.strides, self.readonly = (
            gpu,
            values.shape,
            values.dtype,
            strides,
            readonly,
        )
        self.stream = stream or gpu.stream_of(LEGACY)
        self._sources: list[np.ndarray] = []  # read when copies happen
        with gpu.current():
            self.memory = DeviceMemory(gpu, values.nbytes + at)
        self.address, self.nbytes = self.memory.address + at, values.nbytes
        self.write(values)

    def write(self, values: np.ndarray) -> None:
        with self.gpu.current():
            source = self.gpu.host_array(self.nbytes)
            source[...] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            self.gpu.copy(self.address, source.ctypes.data, self.nbytes, self.stream)
        self._sources.append(source)

    def numpy(self) -> np.ndarray:
        found = np.empty(self.shape, self.dtype)
        with self.gpu.current():
            self.gpu.copy(found.ctypes.data, self.address, self.nbytes, self.stream)
            self.stream.wait()
        return found

    def __del__(self) -> None:
        self.stream.wait()


class Dlpack(Foreign):
    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.gpu.ordinal

    def __dlpack__(self, *, stream: int | None = None, **asked: Any) -> Any:
        assert stream != 0, "DLPack has no stream 0 for CUDA"
        with self.gpu.current():
            if stream != -1:
                self.gpu.stream_of(LEGACY if stream is None else stream).follow(self.stream)
            held = Buffer.from_handle(self.address, self.nbytes, owner=self)
            other = self.dtype.name == "bfloat16"
            view = StridedMemoryView.from_buffer(
                held,
                self.shape,
                strides=self.strides,
                dtype=np.dtype("u2") if other else self.dtype,
                is_readonly=self.readonly,
            )
            made = view.__dlpack__(**asked)
            if other:
                set_dtype(made, 4)
            return made


class Interface(Foreign):
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        strides = None if self.strides is None else tuple(s * self.dtype.itemsize for s in self.strides)
        return {
            "shape": self.shape, "typestr": self.dtype.str, "data": (self.address, self.readonly), "strides": strides,
            "version": 3, "stream": self.stream.handle,
        }  # fmt: skip


def read(gpu: Gpu, array: Any, stream: Stream) -> np.ndarray:
    """The array's content, when `stream` has done what it was given; nothing keeps the array until then."""
    with gpu.current():
        view = StridedMemoryView.from_any_interface(array, stream_ptr=stream.handle)
        found = gpu.host_array(int(np.prod(view.shape)) * view.dtype.itemsize)
        gpu.copy(found.ctypes.data, view.ptr, found.nbytes, stream)
    return found.view(view.dtype).reshape(view.shape)
