"""Element types: one table, from which lists of dtypes are derived.

An operator takes a family of types ("floats of 16 bits or more"), a backend computes with some of them, a file format names
them. Each says which in terms of this table (`names`), so that a new type is a new row.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np

from graphc.types import dtype_from_name, dtype_name

Family = Literal["float", "int", "uint", "bool", "complex", "string"]


@dataclass(frozen=True)
class Element:
    """An element type. bits: of one packed element (0: no fixed size). accumulates_in: the type of sums and of the steps
    between, which is a wider one for narrow types."""

    name: str
    bits: int
    family: Family
    accumulates_in: str

    def __str__(self) -> str:
        return self.name

    @cached_property
    def numpy(self) -> np.dtype:
        """Raises AttributeError where the ml_dtypes package is too old to have it."""
        return np.dtype(object) if self.family == "string" else dtype_from_name(self.name)

    @property
    def accumulator(self) -> np.dtype:
        """That of `accumulates_in`."""
        return BY_NAME[self.accumulates_in].numpy

    @property
    def item(self) -> int:
        """Bytes of an element in an array: those of less than a byte take one each. 0 for strings."""
        return -(-self.bits // 8)

    def packed_bytes(self, count: int) -> int:
        """Bytes of so many elements without gaps between them."""
        return -(-self.bits * count // 8)


ELEMENTS = (
    Element("float4_e2m1fn", 4, "float", "float32"),
    Element("float6_e2m3fn", 6, "float", "float32"),
    Element("float6_e3m2fn", 6, "float", "float32"),
    Element("float8_e3m4", 8, "float", "float32"),
    Element("float8_e4m3", 8, "float", "float32"),
    Element("float8_e4m3b11fnuz", 8, "float", "float32"),
    Element("float8_e4m3fn", 8, "float", "float32"),
    Element("float8_e4m3fnuz", 8, "float", "float32"),
    Element("float8_e5m2", 8, "float", "float32"),
    Element("float8_e5m2fnuz", 8, "float", "float32"),
    Element("float8_e8m0fnu", 8, "float", "float32"),
    Element("float16", 16, "float", "float32"),
    Element("bfloat16", 16, "float", "float32"),
    Element("float32", 32, "float", "float32"),
    Element("float64", 64, "float", "float64"),
    Element("int2", 2, "int", "int32"),
    Element("int4", 4, "int", "int32"),
    Element("int8", 8, "int", "int32"),
    Element("int16", 16, "int", "int32"),
    Element("int32", 32, "int", "int32"),
    Element("int64", 64, "int", "int64"),
    Element("uint2", 2, "uint", "int32"),
    Element("uint4", 4, "uint", "int32"),
    Element("uint8", 8, "uint", "int32"),
    Element("uint16", 16, "uint", "uint32"),
    Element("uint32", 32, "uint", "uint32"),
    Element("uint64", 64, "uint", "uint64"),
    Element("bool", 8, "bool", "bool"),
    Element("complex64", 64, "complex", "complex64"),
    Element("complex128", 128, "complex", "complex128"),
    Element("string", 0, "string", "string"),
)
BY_NAME = {e.name: e for e in ELEMENTS}
SUB_BYTE, WHOLE_BYTES = range(1, 8), range(8, 129)  # bits

FLOAT32, INT32, INT8, UINT8 = (BY_NAME[name] for name in ("float32", "int32", "int8", "uint8"))


@lru_cache(maxsize=256)
def find(dtype: np.dtype) -> Element | None:
    """The row of a dtype, None for one that no model has (dates, records)."""
    return BY_NAME.get(dtype_name(dtype))


def names(*families: Family, bits: Container[int] = range(1, 129)) -> tuple[str, ...]:
    """Names of the types of these families, as wide as `bits` says."""
    return tuple(e.name for e in ELEMENTS if e.family in families and e.bits in bits)


# what kernels compute with: float16 and bfloat16 in float32
NATIVE = frozenset((*names("float", bits=range(16, 65)), *names("int", "uint", "bool", bits=WHOLE_BYTES)))
# what they load and store besides, to convert, compare and choose: floats as float32, integers as such of 2 and 4 bits
STORED = frozenset((*names("float", bits=range(1, 9)), *names("int", "uint", bits=SUB_BYTE)))
# what they move
MOVED = NATIVE | STORED | frozenset(names("complex"))


def is_float(dtype: np.dtype) -> bool:
    """Is it a real floating-point type, those of ml_dtypes included? (NumPy gives them kind 'V'.)"""
    found = find(dtype)
    return found is not None and found.family == "float"


def is_integer(dtype: np.dtype) -> bool:
    """Is it an integer type, the 2- and 4-bit ones included?"""
    found = find(dtype)
    return found is not None and found.family in ("int", "uint")


def is_signed(dtype: np.dtype) -> bool:
    """Is it an integer type with negative numbers?"""
    found = find(dtype)
    return found is not None and found.family == "int"


def int_range(dtype: np.dtype) -> tuple[int, int]:
    """Smallest and largest number of an integer dtype, those of 2 and 4 bits included."""
    element = BY_NAME[dtype.name]
    bits = element.bits
    return (0, 2**bits - 1) if element.family == "uint" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def is_narrow(dtype: np.dtype) -> bool:
    """Is it a floating-point type narrower than float32?"""
    found = find(dtype)
    return found is not None and found.family == "float" and found.accumulates_in != found.name


def pack_bits(array: np.ndarray, element: Element) -> np.ndarray:
    """uint8[..., bytes]: elements of less than a byte along the last axis without gaps between them, the first in the lowest
    bits, as ONNX stores them."""
    codes = np.ascontiguousarray(array).view(np.uint8)[..., None]
    bits = np.unpackbits(codes, axis=-1, count=element.bits, bitorder="little")
    return np.packbits(bits.reshape(*array.shape[:-1], -1), axis=-1, bitorder="little")


def unpack_bits(raw: np.ndarray, element: Element, count: int) -> np.ndarray:
    """The inverse for `count` elements in a row, in the element's dtype."""
    bits = np.unpackbits(raw, bitorder="little", count=count * element.bits).reshape(count, element.bits)
    return np.packbits(bits, axis=1, bitorder="little").reshape(count).view(element.numpy)
