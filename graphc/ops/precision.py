"""Sets of element dtypes, and references that compute narrow floats in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import overload

import numpy as np

from graphc.dtypes import is_float, is_integer, is_narrow
from graphc.op import FLOATS, INTS, NUMBERS

FLOAT32 = np.dtype(np.float32)
INT64 = np.dtype(np.int64)
BOOL = np.dtype(bool)


@dataclass(frozen=True)
class DtypeSet:
    """Dtypes that an operator takes: a name for messages, the test, and those that tests draw."""

    name: str
    accepts: Callable[[np.dtype], bool]
    dtypes: tuple[str, ...]


FLOATING = DtypeSet("floating-point", is_float, FLOATS)
INTEGER = DtypeSet("integer", is_integer, INTS)
NUMERIC = DtypeSet("numeric", lambda d: is_float(d) or is_integer(d), NUMBERS)
SIGNED = DtypeSet("numeric", NUMERIC.accepts, tuple(d for d in NUMBERS if not d.startswith("u")))
BOOLEAN = DtypeSet("bool", lambda d: d == BOOL, ("bool",))
ANY = DtypeSet("any", lambda d: True, (*NUMBERS, "bool"))


@overload
def widen(x: np.ndarray) -> np.ndarray: ...


@overload
def widen(x: None) -> None: ...


def widen(x: np.ndarray | None) -> np.ndarray | None:
    """x, as float32 where its dtype is a narrower float."""
    return x.astype(FLOAT32) if x is not None and is_narrow(x.dtype) else x


def in_float32(reference: Callable, *, like: int | None = 0) -> Callable:
    """The reference computed in float32 or wider, its one result rounded to the dtype of operand `like`.

    like=None keeps the dtype of the result (bool, int64). IEEE exceptions pass without warnings: the results (inf, NaN)
    are the operator's.
    """

    def run(*arrays: np.ndarray | None, **attrs) -> np.ndarray:
        with np.errstate(all="ignore"):
            out = np.asarray(reference(*(None if a is None else widen(a) for a in arrays), **attrs))
            if like is None:
                return out
            first = arrays[like]
            assert first is not None
            return out.astype(first.dtype, copy=False)

    run.__name__ = run.__qualname__ = f"{getattr(reference, '__name__', 'reference')}_reference"
    return run
