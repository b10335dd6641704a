"""Tensors of ONNX files as arrays and back: initializers, attributes, external data.

A file is untrusted: sizes are checked against the bytes that are there before anything is allocated, and external data
is read only from inside the model's own folder.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PureWindowsPath

import numpy as np
from onnx import SparseTensorProto, TensorProto

from graphc import source_files
from graphc.dtypes import ELEMENTS, SUB_BYTE, Element, pack_bits, unpack_bits
from graphc.errors import LoadError, UnsupportedError
from graphc.source_files import Folder

STRING = np.dtype(object)
_MAX_DENSE = 1 << 28  # elements that a sparse tensor may become
_T = TensorProto
_NAMES = {  # their names, where they are not the elements' in capitals
    "float32": "FLOAT", "float64": "DOUBLE", "float8_e8m0fnu": "FLOAT8E8M0", "float4_e2m1fn": "FLOAT4E2M1",
    "float6_e2m3fn": "FLOAT6E2M3", "float6_e3m2fn": "FLOAT6E3M2",
}  # fmt: skip
DTYPES: dict[int, np.dtype] = {}
_PACKED: dict[np.dtype, Element] = {}  # those that are packed tighter than a byte
for _element in ELEMENTS:
    with suppress(AttributeError):  # older onnx and ml_dtypes packages know fewer
        _enum = getattr(_T, _NAMES.get(_element.name, _element.name.upper().replace("_", "")))
        DTYPES[_enum] = _element.numpy
        if _element.bits in SUB_BYTE:
            _PACKED[_element.numpy] = _element
_IN_BYTES = {dtype for dtype, element in _PACKED.items() if 8 % element.bits == 0}  # also in int32_data
ENUMS = {dtype: enum for enum, dtype in DTYPES.items()}


def dtype_of(enum: int) -> np.dtype:
    """numpy (or ml_dtypes) dtype of a TensorProto.DataType; strings are object. Raises UnsupportedError."""
    if enum in DTYPES:
        return DTYPES[enum]
    known = {v: k for k, v in _T.DataType.items()}
    if enum in known and enum != _T.UNDEFINED:
        raise UnsupportedError(f"dtype {known[enum]}", hint="install newer ml_dtypes and onnx packages")
    raise LoadError(f"unknown dtype number {enum}", hint="the file is damaged or written by a newer ONNX")


def enum_of(dtype: np.dtype) -> int:
    """TensorProto.DataType of a dtype. Raises UnsupportedError."""
    dtype = np.dtype(dtype)
    if dtype.kind in "OUS":
        return _T.STRING
    if dtype not in ENUMS:
        raise UnsupportedError(f"dtype {dtype} has no ONNX counterpart")
    return ENUMS[dtype]


def to_array(tensor: TensorProto, folder: Folder | None = None, raw: np.ndarray | None = None) -> np.ndarray:
    """The tensor as a read-only array that shares the bytes' memory wherever the file has them raw.

    folder: where external data may lie; None when the model did not come from a file.
    raw: the tensor's raw bytes (uint8), when they were taken out of the message before it was parsed.
    Raises LoadError when dims and data disagree or external data is out of reach, UnsupportedError for its dtype.
    """
    what = f"tensor '{tensor.name}'" if tensor.name else "tensor"
    dtype, shape = dtype_of(tensor.data_type), tuple(tensor.dims)
    if any(d < 0 for d in shape):
        raise LoadError(f"{what} has a negative dim: {shape}", hint="the file is damaged: export it again")
    count = math.prod(shape)
    if tensor.HasField("segment"):
        raise UnsupportedError(f"{what} is stored in segments", hint="save the model again with the onnx package")
    if tensor.data_location == _T.EXTERNAL:
        entries = {e.key: e.value for e in tensor.external_data}
        raw = _external(entries, folder, _nbytes(count, dtype), what)
    elif raw is None and tensor.HasField("raw_data"):
        raw = np.frombuffer(tensor.raw_data, np.uint8)
    array = _from_fields(tensor, dtype, count, what) if raw is None else _from_raw(raw, dtype, count, what)
    array = array.reshape(shape)
    array.flags.writeable = False
    return array


def to_dense(tensor: SparseTensorProto, folder: Folder | None = None) -> np.ndarray:
    """A sparse tensor (values [n], indices [n] of the flattened array or [n, rank]) as a dense array."""
    values, indices = to_array(tensor.values, folder), to_array(tensor.indices, folder).astype(np.int64)
    shape, what = tuple(tensor.dims), f"sparse tensor '{tensor.values.name}'"
    if (
        any(d < 0 for d in shape)
        or values.ndim != 1
        or indices.shape not in {values.shape, (*values.shape, len(shape))}
    ):
        raise LoadError(f"{what}: values {values.shape}, indices {indices.shape} and dims {shape} disagree")
    if math.prod(shape) > _MAX_DENSE:
        raise UnsupportedError(f"{what} has {math.prod(shape)} elements when dense")
    if indices.ndim == 2:
        if np.any(indices < 0) or np.any(indices >= shape):
            raise LoadError(f"{what} has indices outside its dims {shape}")
        indices = np.ravel_multi_index(tuple(indices.T), shape)
    if np.any(indices < 0) or np.any(indices >= math.prod(shape)):
        raise LoadError(f"{what} has indices outside its dims {shape}")
    dense = np.zeros(math.prod(shape), values.dtype)
    dense[indices] = values
    return dense.reshape(shape)


def from_array(array: np.ndarray, name: str = "") -> TensorProto:
    """The inverse of `to_array`. Raises UnsupportedError for a dtype that ONNX does not have."""
    array = np.asarray(array)
    tensor = TensorProto(name=name, dims=array.shape, data_type=enum_of(array.dtype))
    if tensor.data_type == _T.STRING:
        tensor.string_data.extend(s if isinstance(s, bytes) else str(s).encode() for s in array.reshape(-1))
    elif array.dtype in _PACKED:
        tensor.raw_data = pack_bits(array.reshape(-1), _PACKED[array.dtype]).tobytes()
    else:
        tensor.raw_data = array.tobytes()
    return tensor


def _nbytes(count: int, dtype: np.dtype) -> int:
    return _PACKED[dtype].packed_bytes(count) if dtype in _PACKED else count * dtype.itemsize


def _from_raw(raw: np.ndarray, dtype: np.dtype, count: int, what: str) -> np.ndarray:
    if dtype == STRING:
        raise LoadError(f"{what} is of strings and has raw data", hint="strings belong in string_data")
    if raw.size != _nbytes(count, dtype):
        raise LoadError(
            f"{what} of {count} {dtype} elements needs {_nbytes(count, dtype)} bytes but has {raw.size}",
            hint="the file is damaged: export it again",
        )
    if dtype not in _PACKED:
        return raw.view(dtype)
    return unpack_bits(raw, _PACKED[dtype], count)


def _from_fields(tensor: TensorProto, dtype: np.dtype, count: int, what: str) -> np.ndarray:
    """Data in the typed fields: float_data, int32_data (all small types, as bits), int64_data …"""
    if dtype == STRING:
        data, stored = tensor.string_data, count
    elif dtype in (np.float32, np.complex64):
        data, stored = tensor.float_data, count * (dtype.itemsize // 4)
    elif dtype in (np.float64, np.complex128):
        data, stored = tensor.double_data, count * (dtype.itemsize // 8)
    elif dtype == np.int64:
        data, stored = tensor.int64_data, count
    elif dtype in (np.uint32, np.uint64):
        data, stored = tensor.uint64_data, count
    else:
        data, stored = tensor.int32_data, _nbytes(count, dtype) if dtype in _IN_BYTES else count
    if len(data) != stored:
        raise LoadError(
            f"{what} of {count} {dtype} elements has {len(data)} values, not {stored}",
            hint="the file is damaged: export it again",
        )
    if dtype == STRING:
        out = np.empty(count, object)
        try:
            out[:] = [s.decode("utf-8") for s in data]
        except UnicodeDecodeError:
            raise LoadError(f"{what} has strings that are not UTF-8") from None
        return out
    if dtype.kind in "fc" and dtype.itemsize >= 4:
        return np.array(data, np.float32 if dtype in (np.float32, np.complex64) else np.float64).view(dtype)
    if dtype in (np.int64, np.uint64, np.uint32, np.int32, np.bool_):
        return np.array(data, np.uint64 if dtype.kind == "u" else np.int64).astype(dtype)
    codes = np.array(data, np.int64).astype(np.uint16 if dtype.itemsize == 2 else np.uint8)  # two's complement bits
    return _from_raw(codes, dtype, count, what) if dtype in _IN_BYTES else codes.view(dtype)


def _external(entries: Mapping[str, str], folder: Folder | None, nbytes: int, what: str) -> np.ndarray:
    """The bytes of an external tensor. The path must stay inside `folder`."""
    location = entries.get("location", "")
    if folder is None:
        raise LoadError(
            f"{what} lies in the external file '{location}', and a model given as bytes or ModelProto has no folder",
            hint="pass the path of the .onnx file",
        )
    parts = Path(location).parts
    if (
        not parts
        or Path(location).is_absolute()
        or PureWindowsPath(location).drive
        or ".." in parts
        or "\0" in location
    ):
        raise LoadError(
            f"{what}: external data at '{location}' is outside the model's folder",
            hint="external data must be a relative path inside the folder of the .onnx file",
        )
    path = folder.path.joinpath(*parts)
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", nbytes))
    except ValueError:
        raise LoadError(f"{what}: external offset and length must be integers, not {dict(entries)}") from None
    held = source_files.held(path)
    if held is not None:
        _check_extent(len(held), offset, length, nbytes, path, what)
        view = source_files.take(path, offset, nbytes)
        if view is not None:
            return view
    fd = _open(path, folder, what)
    with os.fdopen(fd, "rb") as f:
        info = os.fstat(fd)
        _check_extent(info.st_size, offset, length, nbytes, path, what)
        source_files.note(path)
        mapped = source_files.take(path, offset, nbytes, fd)
        if mapped is not None:
            return mapped
        f.seek(offset)
        raw = np.empty(nbytes, np.uint8)
        if f.readinto(raw.data) != nbytes:
            raise LoadError(f"{what}: '{path}' became shorter while it was read")
    return raw


def _open(path: Path, folder: Folder, what: str) -> int:
    """A descriptor of the regular file at `path`. Links may lead to other files of the folder, or of the store."""
    hint = "keep it beside the .onnx file"
    try:
        real = Path(os.path.realpath(path))
        if not folder.holds(real):
            raise LoadError(
                f"{what}: '{path}' is a link to '{real}', outside of {folder}",
                hint="copy the data beside the .onnx file",
            )
        fd = os.open(real, os.O_RDONLY | sum(getattr(os, n, 0) for n in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")))
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or e
        raise LoadError(f"{what}: can't read external data '{source_files.shown(path)}': {reason}", hint=hint) from None
    raise LoadError(f"{what}: external data '{path}' is not a regular file", hint=hint)


def _check_extent(size: int, offset: int, length: int, nbytes: int, path: Path, what: str) -> None:
    if offset < 0 or length != nbytes or offset + length > size:
        raise LoadError(
            f"{what} needs {nbytes} bytes, the model says {length} at {offset} of '{path}' ({size} bytes)",
            hint="the data file is damaged or belongs to another model",
        )
