"""OrtValue: an array, or a list or dict of such, in the host's memory."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.onnxruntime.nodes import dtype_of, element_number, tensor_text
from graphc.types import dtype_name

_NO_DEVICE = "Can't allocate memory on the device using this package of OnnxRuntime: graphc.onnxruntime has only the CPU's, not '{}'"


def require_cpu(device: Any) -> None:
    """Raises RuntimeError for another device."""
    if str(device).lower() not in ("cpu", "0"):
        raise RuntimeError(_NO_DEVICE.format(device))


def at_pointer(address: int, shape: Sequence[int], element_type: Any) -> np.ndarray:
    """The array in somebody's memory, who keeps it alive."""
    dtype = dtype_of(element_type)
    if dtype.kind == "O":
        raise RuntimeError("strings have no memory of their own to bind: use bind_cpu_input")
    count = int(np.prod(shape, dtype=np.int64))
    if count == 0:
        return np.empty(tuple(shape), dtype)
    memory = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(int(address))
    return np.ctypeslib.as_array(memory).view(dtype).reshape(tuple(shape))


@dataclass(frozen=True)
class OrtDevice:
    """The CPU."""

    name: str = "cpu"

    @staticmethod
    def make(ort_device_name: str, device_id: int, vendor_id: int = -1) -> OrtDevice:
        require_cpu(ort_device_name)
        return OrtDevice()

    def device_id(self) -> int:
        return 0

    def device_type(self) -> int:
        return 0


class OrtValue:
    """Made by its class methods, which share the memory of what they are given."""

    def __init__(self, value: Any) -> None:
        self._value = value

    @classmethod
    def ortvalue_from_numpy(
        cls, numpy_obj: np.ndarray, /, device_type: str = "cpu", device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """Raises RuntimeError for arrays of strings and other devices than 'cpu'."""
        require_cpu(device_type)
        array = np.asarray(numpy_obj)
        if array.dtype.kind in "OUS":
            raise RuntimeError("Creation of OrtValues is currently only supported from non-string numpy arrays")
        return cls(np.ascontiguousarray(array).reshape(array.shape))

    @classmethod
    def ortvalue_from_numpy_with_onnx_type(cls, data: np.ndarray, /, onnx_element_type: int) -> OrtValue:
        """The same bytes, as elements of another type of their size."""
        return cls.ortvalue_from_numpy(np.ascontiguousarray(data).view(dtype_of(onnx_element_type)))

    @classmethod
    def ortvalue_from_shape_and_type(
        cls, shape: Sequence[int], element_type: Any, device_type: str = "cpu", device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        require_cpu(device_type)
        return cls(np.empty(tuple(shape), dtype_of(element_type)))

    @classmethod
    def from_dlpack(cls, data: Any, /) -> OrtValue:
        return cls.ortvalue_from_numpy(np.from_dlpack(data))

    @property
    def value(self) -> Any:
        """What a model is given: an array, a list of arrays, a dict."""
        return self._value

    def _tensor(self) -> np.ndarray:
        if not isinstance(self._value, np.ndarray):
            raise RuntimeError("Only OrtValues that are Tensors are currently supported")
        return self._value

    def numpy(self) -> np.ndarray:
        """Of the same memory."""
        return self._tensor()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is None:
            return np.asarray(self._tensor(), dtype)
        return np.array(self._tensor(), dtype, copy=copy)

    def __dlpack__(self, *, stream: Any = None, **more: Any) -> Any:
        return self._tensor().__dlpack__(**more)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._tensor().__dlpack_device__()

    def shape(self) -> list[int]:
        return [*self._tensor().shape]

    def data_type(self) -> str:
        if isinstance(self._value, np.ndarray):
            return tensor_text(self._value.dtype)
        return f"seq({tensor_text(np.asarray(self._value[0]).dtype)})" if self._value else "seq(tensor(float))"

    def element_type(self) -> int:
        return element_number(self._tensor().dtype)

    def tensor_size_in_bytes(self) -> int:
        return self._tensor().nbytes

    def data_ptr(self) -> int:
        return self._tensor().ctypes.data

    def device_name(self) -> str:
        return "cpu"

    def has_value(self) -> bool:
        return self._value is not None

    def is_tensor(self) -> bool:
        return isinstance(self._value, np.ndarray)

    def is_tensor_sequence(self) -> bool:
        return isinstance(self._value, list)

    def is_sparse_tensor(self) -> bool:
        return False

    def update_inplace(self, data: Any) -> None:
        """Copy another array's elements into the memory of this one. Raises RuntimeError where their number or type differ."""
        source, mine = data._tensor() if isinstance(data, OrtValue) else data, self._tensor()
        if not isinstance(source, np.ndarray):
            raise TypeError("data must be a numpy.ndarray or an OrtValue.")
        if source.size != mine.size:
            raise RuntimeError("The input size of numpy arrays does not match the size of the OrtValue.")
        if source.dtype != mine.dtype:
            names = dtype_name(source.dtype), dtype_name(mine.dtype)
            raise RuntimeError("an array of {} can't update an OrtValue of {}".format(*names))
        mine[...] = source.reshape(mine.shape)
