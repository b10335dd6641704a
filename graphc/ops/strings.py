"""Operators on strings. They run on the host: no backend compiles them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.op import Attr, Call, Case, Const, Family, Op, Samples, register
from graphc.ops.elementwise import broadcast_shapes
from graphc.ops.index import dim_of_data
from graphc.types import TensorType, dtype_name, may_be

_STRING = np.dtype(object)


def _strings(call: Call) -> list[TensorType]:
    """Types of the operands. Raises TypeRuleError unless they are strings."""
    types = [call.type(i) for i in range(len(call.inputs))]
    if any(dtype_name(t.dtype) != "string" for t in types):
        raise call.fail("takes strings")
    return types


def _map(f: Callable[..., Any], dtype: np.dtype, *arrays: np.ndarray) -> np.ndarray:
    """f of each element of the broadcast arrays."""
    arrays = np.broadcast_arrays(*arrays)
    out = np.empty(arrays[0].shape, dtype)
    for at in np.ndindex(out.shape):
        out[at] = f(*(a[at] for a in arrays))
    return out


def _string_op(name: str, inputs: str, infer, reference, cases: Sequence[Case], attrs=None, **more) -> None:
    samples = Samples(("object",), cases=tuple(cases))
    register(
        Op(
            name,
            tuple(inputs.split()),
            infer,
            reference,
            attrs or {},
            tolerance=0.0,
            samples=samples,
            family=Family.INDEX,
            **more,
        )
    )


_string_op(
    "StringConcat",
    "a b",
    lambda call: [TensorType(_STRING, broadcast_shapes(call, _strings(call)))],
    lambda a, b: _map(lambda p, q: p + q, _STRING, a, b),
    [
        Case((Const(["abc", "de"], "object"), Const([".com", ".net"], "object"))),
        Case((Const([["a"], ["b"]], "object"), Const(["x", "y", "z"], "object"))),
    ],
)


def _match_type(call: Call) -> list[TensorType]:
    try:
        re.compile(call.attrs.pattern)
    except re.error as error:
        raise call.fail(f"pattern {call.attrs.pattern!r}: {error}") from None
    return [_strings(call)[0].with_dtype(bool)]


_string_op(
    "RegexFullMatch",
    "x",
    _match_type,
    lambda x, pattern: _map(lambda s: re.fullmatch(pattern, s) is not None, np.dtype(bool), x),
    [Case((Const([["a@b.com", "no"], ["c@d.org", ""]], "object"),), {"pattern": r"\w+@\w+\.\w+"})],
    {"pattern": Attr(str)},
)


# --- StringNormalizer -------------------------------------------------------------------------------------------------
def _normalized_type(call: Call) -> list[TensorType]:
    (x,) = _strings(call)
    if x.rank not in (1, 2) or (x.rank == 2 and not may_be(x.shape[0], 1)):
        raise call.fail("takes strings [C] or [1, C]")
    kept = (
        dim_of_data(call, 0, detail=", without stop words") if call.attrs.stopwords else x.shape[-1] or 1
    )  # never empty
    return [x.with_shape((*x.shape[:-1], kept))]


def _normalize(x, case_change_action, is_case_sensitive, locale, stopwords):
    def folded(s: str) -> str:
        return s if is_case_sensitive else s.lower()

    changes: dict[str, Callable[[str], str]] = {"LOWER": str.lower, "UPPER": str.upper, "NONE": str}
    change = changes[case_change_action]
    dropped = {folded(s) for s in stopwords}
    kept = [change(s) for s in x.ravel() if folded(s) not in dropped] or [""]  # never empty (ONNX)
    return np.array(kept, object).reshape((1, -1) if x.ndim == 2 else -1)


_string_op(
    "StringNormalizer",
    "x",
    _normalized_type,
    _normalize,
    [
        Case((Const(["Monday", "Tuesday"], "object"),), {"case_change_action": "UPPER"}),
        Case((Const(["Monday", "tuesday"], "object"),), {"stopwords": ["monday"], "case_change_action": "LOWER"}),
        Case((Const([["Monday", "monday"]], "object"),), {"stopwords": ["monday"], "is_case_sensitive": True}),
        Case((Const(["monday"], "object"),), {"stopwords": ["monday"], "is_case_sensitive": True}),
    ],
    {
        "case_change_action": Attr(str, "NONE", ("LOWER", "UPPER", "NONE")),
        "is_case_sensitive": Attr(bool, False),
        "locale": Attr(str, "en_US"),
        "stopwords": Attr("strings", ()),
    },
)


# --- StringSplit ------------------------------------------------------------------------------------------------------
def _split_types(call: Call) -> list[TensorType]:
    (x,) = _strings(call)
    parts = dim_of_data(call, 0, detail=f", {call.attrs.delimiter!r}, {call.attrs.maxsplit}")
    return [x.with_shape((*x.shape, parts)), x.with_dtype(np.int64)]


def _split(x, delimiter, maxsplit):
    parts = _map(lambda s: s.split(delimiter or None, -1 if maxsplit is None else maxsplit), _STRING, x)
    counts = _map(len, np.dtype(np.int64), parts)
    y = np.full((*x.shape, counts.max(initial=0)), "", object)
    for at in np.ndindex(x.shape):
        y[at][: counts[at]] = parts[at]
    return y, counts


_string_op(
    "StringSplit",
    "x",
    _split_types,
    _split,
    [
        Case((Const(["a.b.c", "d..e", ""], "object"),), {"delimiter": "."}, 2),
        Case((Const([["a  b c ", "d"]], "object"),), {"maxsplit": 1}, 2),
    ],
    {"delimiter": Attr(str, ""), "maxsplit": Attr(int, None)},
    outputs=("y", "counts"),
)
