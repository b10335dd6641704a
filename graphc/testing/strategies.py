"""A Hypothesis strategy of uses of an operator, which shrink to the smallest shapes, the fewest attributes and numbers near 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from graphc.dtypes import is_float
from graphc.op import Case, Const, Op, Tensor, get_op
from graphc.testing.uses import WORDS, Use, bounds, broadcasts, cases, least_operands, use_of

LISTED = 12  # elements of an operand up to which each is drawn by itself
FEW = 4  # of those that are so drawn of larger operands
_VALID: dict[
    tuple[int, str], tuple[Any, ...]
] = {}  # by operator and case: what keeps it alive, and what is known of it


@st.composite
def uses(
    draw: st.DrawFn, op: str | Op, special: bool = True, dtypes: Sequence[str] | None = None, small: bool = False
) -> Use:
    """Valid uses of an operator, as the samples of its record describe them: its cases, these with smaller sizes and fewer
    attributes, and drawn shapes (dims of 0 and 1 among them) where operands broadcast. Elements are equal, halves (so that there are
    ties) or any in the range of the samples, its ends among them, and the samples' special values, if `special`.

    dtypes: of operands that a case gives none [default: those of the samples]. small: of a few elements where the operator takes
    so few; what fails shrinks best then.
    """
    return draw(described_uses(get_op(op) if isinstance(op, str) else op, special, dtypes, small))[1]


@st.composite
def described_uses(
    draw: st.DrawFn,
    op: Op,
    special: bool,
    dtypes: Sequence[str] | None = None,
    small: bool = False,
    chosen: Callable[[Case], bool] = lambda case: True,
) -> tuple[Case, Use]:
    """As `uses`, with the case that describes it. chosen: which cases may be drawn, if there are any."""
    dtype = draw(st.sampled_from(dtypes or op.samples.dtypes), "dtype")
    if broadcasts(op) and draw(st.booleans(), "drawn shapes"):
        arity = least_operands(op, draw(st.integers(0, 3), "more operands") if op.variadic else 0)
        shapes = draw(
            mutually_broadcastable_shapes(num_shapes=arity, max_dims=1 if small else 3, min_side=0, max_side=4),
            "shapes",
        )
        case = Case(tuple(map(Tensor, shapes.input_shapes)))
    else:
        of_choice = [case for case in ordered(op) if chosen(case)] or ordered(op)
        case = _smaller(draw, op, draw(st.sampled_from(of_choice), "case"), small)
    style = draw(st.sampled_from(("equal", "halves", "any")), "style")
    special = special and bool(op.samples.special) and draw(st.booleans(), "special")
    use = use_of(op, case, dtype, draw(st.integers(0, 2**16), "seed"), style == "halves", special)
    arrays = [
        _refined(draw, op, i, spec, a, style == "equal", special)
        for i, (spec, a) in enumerate(zip(case.inputs, use.arrays))
    ]
    return case, replace(use, arrays=tuple(arrays))


def _smaller(draw: st.DrawFn, op: Op, case: Case, small: bool) -> Case:
    """The case with other sizes, and without some attributes."""
    sizes = sizes_of(op, case)
    few = [c for c in sizes if _extent(c)[0] <= LISTED] or sizes[:1]
    case = draw(st.sampled_from(few if small else sizes), "sizes")
    kept = {k: v for k, v in case.attrs.items() if k not in op.defaults or draw(st.integers(0, 3), f"keeps {k}")}
    fewer = replace(case, attrs=kept)
    if kept != case.attrs and not is_valid(op, fewer):
        reject()
    return fewer


def _refined(
    draw: st.DrawFn, op: Op, i: int, spec: Tensor | Const | None, array: np.ndarray | None, equal: bool, special: bool
) -> np.ndarray | None:
    """The operand with elements that are drawn one by one: all of a small one; some of a large one, whose others are equal if asked
    for."""
    if array is None or not isinstance(spec, Tensor):
        return array
    element, small = _elements(op, i, spec, array.dtype, special), array.size <= LISTED
    out = np.full_like(array, _nearest_to_zero(op, i, spec, array.dtype)) if equal else array.copy()
    least, most = (array.size, array.size) if small else (0, FEW)
    for k, value in enumerate(draw(st.lists(element, min_size=least, max_size=most), f"operand {i}")):
        out.flat[k] = value
    return out


def _nearest_to_zero(op: Op, i: int, spec: Tensor, kind: np.dtype) -> Any:
    if kind.kind in "OUS":
        return WORDS[0]
    if kind.kind == "b":
        return False
    low, high = bounds(op, i, spec, kind)
    return min(max(0, low), high)


def _elements(op: Op, i: int, spec: Tensor, kind: np.dtype, special: bool) -> st.SearchStrategy[Any]:
    """Valid elements: whole numbers, halves and the ends of the range."""
    if kind.kind in "OUS":
        return st.sampled_from(WORDS)
    if kind.kind == "b":
        return st.booleans()
    low, high = bounds(op, i, spec, kind)
    if not is_float(kind):
        return st.integers(int(low), int(high))
    found: list[st.SearchStrategy[float]] = []
    for part in (1, 2, 1024):
        least, most = math.ceil(part * low), math.floor(part * high)
        found += [st.integers(least, most).map(partial(_divided, by=part))] if least <= most else []
    found.append(st.sampled_from((low, high)))
    if special:
        found.append(st.sampled_from((*op.samples.special, 0.0, -0.0)))
    return st.one_of(*found)


def _divided(n: int, by: int) -> float:
    return n / by


def ordered(op: Op) -> tuple[Case, ...]:
    """The cases of an operator, the smallest first. Raises ValueError where it has none."""
    found = tuple(sorted(cases(op), key=_extent))
    if not found:
        raise ValueError(f"{op.name} has no samples to draw from: give Samples(cases=…) in its record")
    return found


def _extent(case: Case) -> tuple[int, int, int]:
    tensors = [spec for spec in case.inputs if isinstance(spec, Tensor)]
    return sum(math.prod(t.shape) for t in tensors), len(case.attrs), sum(len(t.shape) for t in tensors)


def sizes_of(op: Op, case: Case) -> tuple[Case, ...]:
    """A case, and what becomes of it with smaller sizes, as far as the type rule and the reference take that; the smallest first."""
    key = id(op), f"sizes of {_text(case)}"
    if key not in _VALID:
        sizes = sorted({d for spec in case.inputs if isinstance(spec, Tensor) for d in spec.shape if d > 1})
        ones = dict.fromkeys(sizes, 1)
        changes = [ones, dict.fromkeys(sizes, 2)] + [{d: n} for d in sizes for n in (1, 2)]
        changes += [ones | {d: n} for d in sizes for n in (2, 3, d) if n <= d]
        others = {_text(c): c for c in (resized(case, change) for change in changes)} if not op.holds_graphs else {}
        valid = [c for c in others.values() if c != case and is_valid(op, c)]
        _VALID[key] = op, tuple(sorted([*valid, case], key=_extent))
    return _VALID[key][1]


def _text(case: Case) -> str:
    return repr((case.inputs, dict(case.attrs), case.n_outputs))


def resized(case: Case, sizes: dict[int, int]) -> Case:
    """The case with other sizes in place of these, wherever they stand in the shape of an operand."""
    inputs = (
        replace(spec, shape=tuple(sizes.get(d, d) for d in spec.shape)) if isinstance(spec, Tensor) else spec
        for spec in case.inputs
    )
    return replace(case, inputs=tuple(inputs))


def is_valid(op: Op, case: Case) -> bool:
    """Do the type rule and the reference take it, with any numbers in range and with the ends of it?"""
    key = id(op), _text(case)
    if key not in _VALID:
        _VALID[key] = op, _runs(op, case)
    return _VALID[key][1]


def _runs(op: Op, case: Case) -> bool:
    use = use_of(op, case, op.samples.dtypes[0])
    for end in (None, 0, 1):
        arrays = list(use.arrays)
        for i, spec in enumerate(case.inputs):
            a = arrays[i]
            if end is not None and isinstance(spec, Tensor) and a is not None and a.dtype.kind not in "bOUS":
                arrays[i] = np.full_like(a, bounds(op, i, spec, a.dtype)[end])
        try:
            with np.errstate(all="ignore"):
                replace(use, arrays=tuple(arrays)).run()
        except Exception:  # whatever a reference makes of operands that it was not written for
            return False
    return True
