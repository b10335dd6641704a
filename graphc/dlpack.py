"""Arrays of other packages, by the protocols that they have: no package is imported."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from graphc.types import dtype_from_name

ON_THE_HOST = 1  # DLPack's device types
VERSION = (1, 0)
BEYOND_NUMPY = {
    "bfloat16": 4,
    "float8_e4m3fn": 10,
    "float8_e4m3fnuz": 11,
    "float8_e5m2": 12,
    "float8_e5m2fnuz": 13,
}  # DLPack's numbers of dtypes
_UNSIGNED = 1
_DTYPE = 20  # bytes before DLDataType in DLTensor: data, device and ndim
_VERSION = 32  # bytes before DLTensor in a versioned one


def array_of(a: Any) -> np.ndarray:
    """What NumPy makes of an object: its own memory where the object shares it. Raises what NumPy and the object raise."""
    if isinstance(a, np.ndarray):
        return a
    if hasattr(a, "__array__") and not _on_the_host(a):  # some copy themselves, others say how
        return np.asarray(a)
    shared = shared_memory(a)
    return np.asarray(a) if shared is None else shared


def shared_memory(a: Any) -> np.ndarray | None:
    """The memory of an object that shares it, by `__array_interface__` or DLPack, as an array; None of others.

    Raises what NumPy and the object raise: of a tensor that needs its gradient, or lies on a device.
    """
    if hasattr(a, "__array_interface__"):
        return np.asarray(a)
    if isinstance(a, np.generic) or not hasattr(a, "__dlpack__") or not hasattr(a, "__dlpack_device__"):
        return None
    if not _on_the_host(a):
        raise BufferError("it lies in the memory of a device")
    try:
        capsule = a.__dlpack__(max_version=VERSION)  # which tells whether it may be written to
    except TypeError:  # a producer from before that
        capsule = a.__dlpack__()
    code, bits = _dtype(capsule)
    beyond = next((name for name, number in BEYOND_NUMPY.items() if number == code.value), None)
    if beyond is None:
        return np.from_dlpack(_Capsule(capsule, a))
    dtype = dtype_from_name(beyond)
    if bits != 8 * dtype.itemsize:
        raise BufferError(f"a {beyond} of {bits} bits")
    code.value = _UNSIGNED
    return np.from_dlpack(_Capsule(capsule, a)).view(dtype)


def _on_the_host(a: Any) -> bool:
    return not hasattr(a, "__dlpack_device__") or a.__dlpack_device__()[0] == ON_THE_HOST


class _Capsule:
    """A capsule that has been made already, as `numpy.from_dlpack` takes it."""

    def __init__(self, capsule: Any, of: Any) -> None:
        self._capsule, self._of = capsule, of

    def __dlpack__(self, **asked: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._of.__dlpack_device__()


def set_dtype(capsule: Any, code: int) -> None:
    """Change the number of the dtype of the tensor in a capsule."""
    _dtype(capsule)[0].value = code


def _dtype(capsule: Any) -> tuple[ctypes.c_uint8, int]:
    """(the number of its dtype, in place, and the bits of an element)."""
    api = ctypes.pythonapi
    name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", api))(capsule)
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", api))
    at = pointer(capsule, name) + _DTYPE + _VERSION * (name == b"dltensor_versioned")
    return ctypes.c_uint8.from_address(at), ctypes.c_uint8.from_address(at + 1).value
