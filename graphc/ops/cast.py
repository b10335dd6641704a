"""Conversions of the element dtype: Cast, CastLike, BitCast."""

from __future__ import annotations

import math

import numpy as np

from graphc import expr as e
from graphc.dtypes import is_float, is_integer
from graphc.op import Attr, Call, Case, Family, Op, Samples, Tensor, register
from graphc.ops.elementwise import ROUNDED
from graphc.ops.precision import widen
from graphc.types import dtype_name

_STRING = "OUS"


def cast_array(x: np.ndarray, to: np.dtype, saturate: bool = True, round_mode: str = "up") -> np.ndarray:
    """x converted by the rules of ONNX Cast.

    Floats to ints truncate (see `truncated`), ints to narrower ints drop high bits, anything but zero is true. Floats out of
    range become infinite, or with `saturate` the largest number of an 8-bit float. Raises ValueError for text that is not a
    number.
    """
    if x.dtype.kind in _STRING:
        return _parse(x, to)
    if to.kind in _STRING:
        return _print(x)
    with np.errstate(all="ignore"):
        if to.name == "float8_e8m0fnu":
            return _to_e8m0(x.astype(np.float64), saturate, round_mode).view(to)
        if to.name.startswith("float8") and saturate:
            x, largest = x.astype(np.float32), _largest(to)
            x = np.clip(x, -largest, largest)
        if is_float(x.dtype) and to.kind in "iu":
            return truncated(widen(x), to)
        return x.astype(to)


def truncated(x: np.ndarray, to: np.dtype) -> np.ndarray:
    """Floats without what is behind the point, as integers.

    ONNX does not say what becomes of NaN and of numbers out of range, and machines differ. Here, as in the kernels: NaN is 0,
    the rest is bounded by the ends of int64 (above, by those of uint64 where `to` is that) and loses its high bits.
    """
    with np.errstate(all="ignore"):
        x = np.where(np.isnan(x), 0, x)
        words = np.where(x >= 2.0**63, np.int64(2**63 - 1), np.where(x <= -(2.0**63), np.int64(-(2**63)), _int64(x)))
        if to == np.uint64:
            high = np.where(
                x >= 2.0**64, np.uint64(2**64 - 1), _int64(x - 2.0**63).astype(np.uint64) + np.uint64(2**63)
            )
            return np.where(x >= 2.0**63, high, words.astype(np.uint64))
        return words.astype(to)


def _int64(x: np.ndarray) -> np.ndarray:
    """Of numbers in its range; others are 0."""
    return np.where(np.abs(x) < 2.0**63, x, 0).astype(np.int64)


def _parse(x: np.ndarray, to: np.dtype) -> np.ndarray:
    """Numbers from text; whole numbers without a detour through floats, that would round large ones."""
    text = [s.decode() if isinstance(s, bytes) else str(s) for s in x.ravel()]
    if to.kind in _STRING:
        return np.array(text, object).reshape(x.shape)
    number = _int_of if is_integer(to) else float
    return (
        np.array([number(s) for s in text], np.int64 if number is _int_of else np.float64).astype(to).reshape(x.shape)
    )


def _int_of(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return int(float(text))


def _print(x: np.ndarray) -> np.ndarray:
    """Numbers as text, the shortest that reads back as the same number."""
    wide = x.astype(np.float32) if x.dtype.kind == "V" else x
    out = np.empty(x.shape, object)
    out[...] = wide.astype(np.str_)
    return out


def _largest(dtype: np.dtype) -> float:
    """Largest finite number of an 8-bit type."""
    numbers = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float32)
    return float(numbers[np.isfinite(numbers)].max())


def _to_e8m0(x: np.ndarray, saturate: bool, round_mode: str) -> np.ndarray:
    """Bytes of the power of two beside |x|: 2**(byte - 127); 255 is NaN."""
    mantissa, exponent = np.frexp(np.abs(x))  # |x| = mantissa * 2**exponent, 0.5 <= mantissa < 1
    up = {"up": mantissa > 0.5, "down": np.zeros(x.shape, bool), "nearest": mantissa >= 0.75}[round_mode]
    biased = exponent - 1 + up + 127
    biased = np.where(x == 0, -1, np.where(np.isinf(x), 255, biased))
    inside = (biased >= 0) & (biased <= 254)
    out = np.clip(biased, 0, 254) if saturate else np.where(inside, biased, 255)
    return np.where(np.isnan(x), 255, out).astype(np.uint8)


_CONVERSION = {"saturate": Attr(bool, True), "round_mode": Attr(str, "up", choices=("up", "down", "nearest"))}
_TARGETS = ("bool", "int8", "int32", "int64", "float32", "float64")

register(
    Op(
        "Cast",
        ("x",),
        lambda call: [call.type(0).with_dtype(call.attrs.to)],
        lambda x, to, saturate, round_mode: cast_array(x, to, saturate, round_mode),
        {"to": Attr("dtype"), **_CONVERSION},
        scalar=lambda x, to, saturate, round_mode: e.cast(x, to),  # of types that neither saturate nor are rounded so
        scalar_attrs=("to", "saturate", "round_mode"),
        tolerance=ROUNDED,
        samples=Samples(
            ("float32", "float64", "int8", "int32", "int64", "bool"),
            low=-99,
            high=99,
            cases=(
                *(Case((Tensor((3, 5)),), {"to": to}) for to in _TARGETS),
                *(Case((Tensor((3, 5), 0, 120),), {"to": to}) for to in ("uint8", "uint16", "uint32", "uint64")),
                Case((Tensor((0, 5)),), {"to": "float32"}),
                Case((Tensor(()),), {"to": "int32"}),
                Case((Tensor((3, 5), -3e4, 3e4, "int32"),), {"to": "int8"}),
            ),
        ),
    )
)

register(
    Op(
        "CastLike",
        ("x", "like"),
        lambda call: [call.type(0).with_dtype(call.dtype(1))],
        lambda x, like, saturate, round_mode: cast_array(x, like.dtype, saturate, round_mode),
        _CONVERSION,
        expand=lambda b, call: b.add("Cast", call.inputs[0], to=call.dtype(1), **call.attrs),
        types_of=(1,),
        tolerance=ROUNDED,
        samples=Samples(
            ("float32", "float64", "int32"),
            low=-99,
            high=99,
            cases=tuple(Case((Tensor((3, 5)), Tensor((2,), 0, 1, to))) for to in _TARGETS),
        ),
    )
)


def _infer_bitcast(call: Call) -> list:
    x = call.type(0)
    if x.dtype.kind in _STRING or call.attrs.to.kind in _STRING or x.dtype.itemsize != call.attrs.to.itemsize:
        raise call.fail(
            f"{dtype_name(x.dtype)} and {dtype_name(call.attrs.to)} differ in width",
            "cast to a dtype of the same width",
        )
    return [x.with_dtype(call.attrs.to)]


register(
    Op(
        "BitCast",
        ("x",),
        _infer_bitcast,
        lambda x, to: np.ascontiguousarray(x).view(to).reshape(x.shape),
        {"to": Attr("dtype", settled=True)},
        tolerance=0.0,
        samples=Samples(
            ("float32",),
            cases=(
                Case((Tensor((3, 5)),), {"to": "int32"}),
                Case((Tensor((3, 5), -99, 99, "int64"),), {"to": "uint64"}),
                Case((Tensor(()),), {"to": "uint32"}),
            ),
            special=(math.nan, math.inf),
        ),
        family=Family.MOVEMENT,
    )
)
