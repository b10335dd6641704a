"""Within: positions or lengths as they are, which must lie in a range. An operator of the compiler's own: what an expansion puts
before kernels that do not look whether they do."""

from __future__ import annotations

import numpy as np

from graphc.errors import InputError
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Family, Op, Samples, register
from graphc.ops.contract import require_dtype
from graphc.sizes import is_size
from graphc.types import Dim, TensorType


def emit_within(b: Builder, x: Value, end: Dim, what: str, where: str, of: str) -> Value:
    """x, int32 or int64, which is an error where an element is below 0, or `end` or above. what, where, of: as attributes."""
    return b.add("Within", x, end=end, what=what, where=where, of=of)


def _infer(call: Call) -> list[TensorType]:
    require_dtype(call, 0, ("int32", "int64"))
    return [call.type(0)]


def _is_within(x: np.ndarray, end: int) -> bool:
    """end may be a size that stands for many, and so may elements: these are, where that holds for all sizes."""
    if x.dtype == object:
        return not any(is_size(n - end) for n in x.flat) and all(0 <= n < end for n in x.flat)
    return not x.size or (int(x.min()) >= 0 and int(x.max()) < end)


def _folds(call: Call) -> bool:
    """Not what is out of range: that is an error of the run which comes to it."""
    x = call.inputs[0]
    return not x.is_const or _is_within(x.data, call.attrs.end)


def _reference(x: np.ndarray, *, end: int, what: str, where: str, of: str) -> np.ndarray:
    """x. Raises InputError where an element is below 0, or `end` or above."""
    if _is_within(x, end):
        return x
    number = int(np.flatnonzero((x < 0) | (x >= end))[0])
    place = [int(i) for i in np.unravel_index(number, x.shape)] if x.shape else []
    raise InputError(
        f"{what} {x.flat[number]} at {place} is out of range for {where}",
        hint=f"valid: 0 to {end - 1}" if end else f"{where} is empty",
        op=of,
    )


register(
    Op(
        "Within",
        ("x",),
        _infer,
        _reference,
        {
            "end": Attr(int),  # the first number that is too large
            "what": Attr(str),  # the elements are, for people
            "where": Attr(str),  # they count or lie in
            "of": Attr(str),  # the operator that reads them
        },
        tolerance=0.0,
        flops=lambda call: 0,
        deterministic=_folds,
        samples=Samples(
            ("int32", "int64"),
            cases=(
                Case((Const([3, 0, 2, 1]),), {"end": 4, "what": "length", "where": "3 keys", "of": "Attention"}),
                Case((Const([[7], [0]]),), {"end": 9, "what": "position", "where": "axis 0", "of": "Attention"}),
            ),
        ),
        family=Family.INDEX,
        internal=True,
    )
)
