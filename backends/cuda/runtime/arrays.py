"""Arrays in a device's memory: those that callers give (DLPack, __cuda_array_interface__), and results."""

from __future__ import annotations

from contextlib import suppress
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.backends.cuda.runtime.device import Device, Stream
from graphc.dlpack import BEYOND_NUMPY, set_dtype
from graphc.errors import InputError

if TYPE_CHECKING:
    from cuda.core.utils import StridedMemoryView

ON_A_GPU = (2, 13)  # DLPack's device types: CUDA memory, managed memory
NOBODY = -1  # DLPack: the consumer waits for nothing
LEGACY = 1  # DLPack's and CUDA's number of the default stream


class DeviceArray:
    """A C-contiguous array in a GPU's memory. `numpy()` copies it to the host; torch.from_dlpack, cupy.asarray and others share it.

    stream: of the work that makes it. Who reads it through DLPack waits for that on his own stream, the host in `numpy()`.
    """

    def __init__(self, device: Device, address: int, shape: tuple[int, ...], dtype: np.dtype, stream: Stream) -> None:
        self.device, self.address, self.shape, self.dtype, self.stream = device, address, shape, dtype, stream

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def numpy(self) -> np.ndarray:
        """A copy in the host's memory."""
        made = np.empty(self.shape, self.dtype)
        with self.device.current():
            self.device.copy(made.ctypes.data, self.address, self.nbytes, self.stream)
            self.stream.wait()
        return made

    def wait(self) -> None:
        """Until the work is done that makes it."""
        self.stream.wait()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("an array of a GPU can't be a NumPy array without a copy")
        made = self.numpy()
        return made if dtype is None else made.astype(dtype)

    def __repr__(self) -> str:
        return f"DeviceArray({self.dtype.name}{list(self.shape)} on {self.device.name})"


class Result(DeviceArray):
    """A result, whose memory goes back when the last reference is gone and all have read it that took it through DLPack."""

    def __init__(self, device: Device, shape: tuple[int, ...], dtype: np.dtype, stream: Stream) -> None:
        address = device.allocate_result(prod(shape) * dtype.itemsize, stream)
        super().__init__(device, address, shape, dtype, stream)
        self._readers: set[int] = set()  # streams

    def __del__(self) -> None:
        if hasattr(self, "_readers"):
            with suppress(Exception):  # the process ends, and its driver has gone already
                with self.device.current():
                    if self._readers - {LEGACY}:
                        self.device.wait()  # a stream of theirs may be gone, so nothing else can tell that it has read
                    elif self._readers and not getattr(self.stream, "gone", False):
                        self.stream.follow(self.device.stream_of(LEGACY))
                self.device.free_result(self.address, self.stream)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3. Who takes it this way need not say when he has read it: the work is done when he gets it, and its memory
        goes back after all that the default stream is doing then."""
        if self.dtype.kind not in "biufc":
            raise AttributeError(f"__cuda_array_interface__ has no {self.dtype.name}; DLPack has")
        self.stream.wait()
        self._readers.add(LEGACY)
        return {
            "shape": self.shape, "typestr": self.dtype.str, "data": (self.address, False), "strides": None, "version": 3,
            "stream": None,
        }  # fmt: skip

    def __dlpack_device__(self) -> tuple[int, int]:
        return ON_A_GPU[0], getattr(self.device, "ordinal", 0)

    def __dlpack__(self, *, stream: int | None = None, **asked: Any) -> Any:
        """stream: the consumer's, as DLPack numbers them."""
        from cuda.core import Buffer
        from cuda.core.utils import StridedMemoryView

        reader = LEGACY if stream is None else stream
        with self.device.current():
            if reader != NOBODY:
                self.device.stream_of(reader).follow(self.stream)
                self._readers.add(reader)
            held = Buffer.from_handle(self.address, self.nbytes, owner=self)
            code = BEYOND_NUMPY.get(self.dtype.name)
            dtype = self.dtype if code is None else np.dtype(f"u{self.dtype.itemsize}")
            made = StridedMemoryView.from_buffer(held, self.shape, dtype=dtype).__dlpack__(**asked)
            if code is not None:
                set_dtype(made, code)  # cuda.core makes only NumPy's own dtypes
            return made


class Given(DeviceArray):
    """A caller's array. source: keeps its memory."""

    source: Any = None
    writeable = True


def given(a: Any, device: Device, stream: Stream) -> DeviceArray | None:
    """An array that lies on the device as one that kernels take; None for what lies in the host's memory. What makes it has
    happened before the stream goes on.

    Raises InputError where it lies on another device, or is not contiguous.
    """
    if isinstance(a, DeviceArray):
        if a.device is not device:
            raise InputError(f"an array lies on {a.device.name}, the model on {device.name}", hint="give x.numpy()")
        return a
    if not _on_a_gpu(a):
        return None
    from cuda.core.utils import StridedMemoryView

    with device.current():
        try:
            view = StridedMemoryView.from_any_interface(a, stream_ptr=stream.handle)
        except (BufferError, NotImplementedError, ValueError, TypeError) as error:
            raise InputError(f"the array of a GPU can't be read: {error}") from error
    ordinal = getattr(device, "ordinal", 0)
    if view.device_id != ordinal:
        raise InputError(f"an array lies on GPU {view.device_id}, the model on GPU {ordinal}")
    if not _contiguous(view):
        raise InputError("an array of a GPU must be C-contiguous", hint="x.contiguous()")
    made = Given(device, int(view.ptr), tuple(view.shape), np.dtype(view.dtype), stream)
    made.source, made.writeable = (view, a), not view.readonly
    return made


def _on_a_gpu(a: Any) -> bool:
    if isinstance(a, (np.ndarray, list, tuple, int, float)):
        return False
    if hasattr(a, "__dlpack_device__"):
        return a.__dlpack_device__()[0] in ON_A_GPU
    return hasattr(a, "__cuda_array_interface__")


def _contiguous(view: StridedMemoryView) -> bool:
    if view.strides is None or 0 in view.shape:
        return True
    step = 1
    for dim, stride in zip(reversed(view.shape), reversed(view.strides)):
        if dim > 1 and stride != step:
            return False
        step *= dim
    return True
