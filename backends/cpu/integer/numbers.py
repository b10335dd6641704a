"""Expressions behind sums of bytes as kernels share them: the numbers and tables of a layer are operands."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

import numpy as np

from graphc import expr
from graphc.dtypes import is_integer
from graphc.expr import Expr
from graphc.lower.fuse import Group

PLAIN = {
    "arg", "const", "bytes", "table", "add", "sub", "mul", "min", "max", "rint", "cast", "select", "gt", "bitcast", "xor",
}  # fmt: skip
FLOAT32 = np.dtype(np.float32)
COMMON = {0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 3.0, 6.0, 127.0, -128.0, 255.0}  # of every network: they stay in the code


def small_operands(group: Group) -> set[int]:
    """The arguments of its expression that are small numbers: int32 times or plus any of them is finite."""
    most = float(np.finfo(np.float32).max) / 2**40
    constants = (
        i for i, v in enumerate(group.operands, 1) if v.is_const and np.all(np.abs(v.data.astype(np.float64)) < most)
    )
    return {0, *constants}


def simplified(tree: Expr | None, known: Container[int], exact: bool = False) -> Expr | None:
    """Of an integer, without the way to bytes and back of whole numbers that are bytes, float32(uint8(clip(rint(x), 0, 255))), and
    without the addition of a zero point of 0: both are about the sign of zeros alone, which an integer does not show.
    Numbers are multiplied out, so that multiply-adds are left, unless it is to be exact.

    known: which operands are never NaN, nor infinite."""
    if tree is None or not is_integer(tree.dtype) or not _is_plain(tree):
        return tree
    return _simplified(tree, known, exact)


def _is_plain(e: Expr) -> bool:
    """Does no sign of a zero become anything else?"""
    shows = e.prim == "bitcast" and not is_integer(e.args[0].dtype)
    return e.prim in PLAIN and not shows and all(map(_is_plain, e.args))


def _simplified(e: Expr, known: Container[int], exact: bool) -> Expr:
    if not e.args:
        return e
    e = replace(e, args=tuple(_simplified(a, known, exact) for a in e.args))
    if e.prim == "cast" and e.dtype == FLOAT32 and e.args[0].prim == "cast":
        (part,), to = e.args[0].args, e.args[0].dtype
        if part.dtype == FLOAT32 and is_integer(to) and to.itemsize == 1 and _is_clipped(part, to, known):
            return part
    if e.prim == "add" and e.args[0].prim == "rint" and e.args[1].prim == "const" and e.args[1].number == 0:
        return e.args[0]
    if e.prim == "max" and _is_least(e.args[0], e.args[1]):
        return e.args[0]
    return e if exact else _scaled(e)


def _is_least(e: Expr, limit: Expr) -> bool:
    """Is rint(max(x, 0)) + zero never below 0? (A zero point is never below 0, as one of unsigned bytes.)"""
    if limit.prim != "const" or limit.number != 0:
        return False
    if e.prim == "add" and e.args[1].prim == "const" and e.args[1].number >= 0:
        e = e.args[0]
    return e.prim == "rint" and e.args[0].prim == "max" and e.args[0].args[1] == limit


def _scaled(e: Expr) -> Expr:
    """(x + a) b of two numbers as x b + a b: a multiply-add."""
    if e.prim != "mul" or e.dtype != FLOAT32 or e.args[1].prim != "const" or e.args[0].prim != "add":
        return e
    x, a = e.args[0].args
    if a.prim != "const":
        return e
    product = np.float32(a.number) * np.float32(e.args[1].number)
    return x * e.args[1] + float(product) if np.isfinite(product) else e


def _is_clipped(e: Expr, to: np.dtype, known: Container[int]) -> bool:
    """Is it a whole number in the range of a type, and never NaN?"""
    found, info = expr.clipped(e), np.iinfo(to)
    if found is None or not info.min <= found[1] <= found[2] <= info.max:
        return False
    return _is_whole(found[0]) and _is_known(found[0], known)


def _is_whole(e: Expr) -> bool:
    if e.prim in ("add", "sub"):
        return all(map(_is_whole, e.args))
    return e.prim == "rint" or (e.prim == "const" and float(e.number).is_integer())


def _is_known(e: Expr, known: Container[int]) -> bool:
    """Is it made of the sums and of such operands alone? Their products with int32s do not leave float32's range by much."""
    return all(_is_known(a, known) for a in e.args) and (e.prim != "arg" or e.index in known)


def with_numbers(tree: Expr | None, operands: int, most: int) -> tuple[Expr | None, list[np.ndarray]]:
    """The tree with operands behind the others, up to `most`, in the place of tables, and of numbers that are not of every network; and
    these, arrays of a float32 or of 256 bytes."""
    found: dict[bytes, np.ndarray] = {}
    places: dict[bytes, int] = {}

    def named(e: Expr) -> Expr:
        if e.args:
            return replace(e, args=tuple(map(named, e.args)))
        if isinstance(e.value, bytes):
            data = np.frombuffer(e.value, np.uint8)
        elif e.prim == "const" and e.dtype == FLOAT32 and e.number not in COMMON:
            data = np.asarray([e.number], FLOAT32)
        else:
            return e
        key = data.tobytes()
        if key not in found and operands + len(found) < most:
            places[key] = operands + 1 + len(found)
            found[key] = data
        return expr.arg(places[key], e.dtype) if key in places else e

    return None if tree is None else named(tree), list(found.values())


def kind_of(data: np.ndarray) -> str:
    """Of an operand that `with_numbers` gives: 's', a number, or 't', a table."""
    return "s" if data.size == 1 else "t"
