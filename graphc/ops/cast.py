"""Conversions of the element dtype: Cast, CastLike, BitCast."""

from __future__ import annotations

import math

import numpy as np

from graphc import expr as e
from graphc.dtypes import find, is_float, is_integer, is_narrow
from graphc.op import Attr, Call, Case, Family, Op, Samples, Tensor, register
from graphc.ops.elementwise import ROUNDED
from graphc.ops.precision import widen
from graphc.types import dtype_name

_STRING = "OUS"
E8M0 = "float8_e8m0fnu"  # powers of two


def cast_array(x: np.ndarray, to: np.dtype, saturate: bool = True, round_mode: str = "up") -> np.ndarray:
    """x converted by the rules of ONNX Cast.

    Floats to ints truncate (see `truncated`), ints to narrower ints drop high bits, anything but zero is true. Floats round
    once, to nearest even. Those out of range become infinite, NaN where a type has no infinity, and the largest number in those
    of 4 and 6 bits, or with `saturate` of 8. Raises ValueError for text that is not a number.
    """
    if x.dtype.kind in _STRING:
        return _parse(x, to)
    if to.kind in _STRING:
        return _print(x)
    if x.dtype == to:
        return x.copy()
    x = _plain(x)
    with np.errstate(all="ignore"):
        if to.name == E8M0:
            return _to_e8m0(x.astype(np.float64), saturate, round_mode).view(to)
        if is_float(x.dtype) and is_integer(to):
            return truncated(x, to)
        if x.dtype == np.float64 and is_narrow(to):
            x = _to_odd(x)
        if saturates(to, saturate):
            x, largest = x.astype(np.float32), largest_of(to)
            x = np.clip(x, -largest, largest)
        return x.astype(to)


def _plain(x: np.ndarray) -> np.ndarray:
    """The same numbers in a dtype of NumPy, which ml_dtypes converts to all of its own."""
    found = find(x.dtype)
    return x.astype(np.int8) if found is not None and is_integer(x.dtype) and found.bits < 8 else widen(x)


def _to_odd(x: np.ndarray) -> np.ndarray:
    """float64 as float32: what is not exact is cut off, and the last place set. Rounded again, that is rounded once."""
    near = x.astype(np.float32)
    cut = np.where(np.abs(near) > np.abs(x), np.nextafter(near, np.float32(0)), near)
    inexact = (near != x) & ~np.isnan(x)
    return (cut.view(np.uint32) | inexact).view(np.float32)


def saturates(to: np.dtype, saturate: bool) -> bool:
    """Does Cast's attribute make numbers out of range the largest of a type? Of one of 8 bits with a sign."""
    found = find(to)
    return saturate and found is not None and found.family == "float" and found.bits == 8 and to.name != E8M0


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


def largest_of(dtype: np.dtype) -> float:
    """Largest finite number of a float of 8 bits or less."""
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


def _scalar(x, to, saturate, round_mode):
    if to.name == E8M0:
        return _to_power(e.cast(x, np.float64), to, saturate, round_mode)
    if saturates(to, saturate):
        largest = largest_of(to)
        wide = x if isinstance(x, e.Expr) and x.dtype == np.float64 else e.cast(x, np.float32)
        x = e.clamp(wide, -largest, largest)
    return e.cast(x, to)


def _to_power(x, to, saturate, round_mode):
    """`_to_e8m0` of a float64, from its bits."""
    bits = e.bitcast(x, np.int64)
    above = bits & (2**52 - 1)
    up = {"up": above + (2**52 - 1), "down": above, "nearest": above + 2**51}[round_mode]
    biased = e.shift_right(bits & (2**63 - 1) & ~(2**52 - 1), 52) + e.shift_right(up, 52) - (1023 - 127)
    inside = e.clamp(biased, 0, 254)
    code = inside if saturate else e.where(e.eq(biased, inside), biased, 255)
    return e.bitcast(e.cast(e.where(e.isnan(x), 255, code), np.uint8), to)


_CONVERSION = {"saturate": Attr(bool, True), "round_mode": Attr(str, "up", choices=("up", "down", "nearest"))}
_TARGETS = ("bool", "int8", "int32", "int64", "float32", "float64")

register(
    Op(
        "Cast",
        ("x",),
        lambda call: [call.type(0).with_dtype(call.attrs.to)],
        lambda x, to, saturate, round_mode: cast_array(x, to, saturate, round_mode),
        {"to": Attr("dtype"), **_CONVERSION},
        scalar=_scalar,
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
