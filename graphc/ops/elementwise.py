"""What elementwise operators share: the type rule of broadcast operands, and the registration of a record.

The operators are in `arithmetic`, `transcendental`, `activation`, `logic` and `cast`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from graphc.dtypes import find
from graphc.expr import Number
from graphc.op import Attr, Call, Case, Laws, Op, Samples, register
from graphc.ops.precision import ANY, FLOATING, DtypeSet, in_float32
from graphc.types import TensorType, broadcast, dtype_name

NO_LAWS = Laws()
SPECIAL = (math.nan, math.inf, -math.inf)
"""Operands outside the numbers on which most operators are defined."""

EXACT = 0.0
ROUNDED = 2e-7
"""Tolerances of float32 results: EXACT selects or changes bits, ROUNDED rounds once or twice (half an ulp is 6e-8)."""


def same_dtype(call: Call) -> list[TensorType]:
    """Operands of one dtype, shapes broadcast; the result has that dtype."""
    return broadcasting(ANY)(call)


def broadcasting(takes: DtypeSet, gives: np.dtype | None = None) -> Callable[[Call], list[TensorType]]:
    """The type rule of operands of one dtype that it takes, shapes broadcast. The result has that dtype, or `gives`.

    Raises TypeRuleError where dtypes differ or are not taken, and where shapes do not broadcast.
    """

    def infer(call: Call) -> list[TensorType]:
        types = [call.type(i) for i in range(len(call.inputs)) if call.has(i)]
        dtype = types[0].dtype
        require(call, takes, dtype)
        if any(t.dtype != dtype for t in types):
            raise call.fail("operands differ in dtype", "insert a Cast")
        return [TensorType(gives or dtype, broadcast_shapes(call, types))]

    return infer


def require(call: Call, takes: DtypeSet, dtype: np.dtype) -> None:
    """Raises TypeRuleError if the dtype is not among those taken."""
    if not takes.accepts(dtype):
        raise call.fail(f"takes {takes.name} operands, not {dtype_name(dtype)}", "insert a Cast")


def broadcast_shapes(call: Call, types: list[TensorType]) -> tuple:
    """The common shape. Raises TypeRuleError where there is none."""
    try:
        return broadcast(*(t.shape for t in types))
    except ValueError as error:
        raise call.fail(str(error), "make the dims equal, or 1 where one is to be repeated") from None


def require_broadcasts_to_first(call: Call, i: int) -> None:
    """Raises TypeRuleError unless operand i broadcasts to the shape of operand 0 without changing it."""
    to, shape = call.shape(0), call.shape(i)
    both = zip(to[::-1], shape[::-1])
    if len(shape) > len(to) or any(isinstance(a, int) and isinstance(b, int) and b not in (1, a) for a, b in both):
        name = call.op.inputs[i].rstrip("?")
        raise call.fail(
            f"'{name}' of shape {shape} does not broadcast to {to}", "its dims must be 1 or those of the operand"
        )


def elementwise(
    name: str,
    inputs: str,
    scalar: Callable[..., Number],
    reference: Callable,
    *,
    takes: DtypeSet = FLOATING,
    gives: np.dtype | None = None,
    infer: Callable[[Call], list[TensorType]] | None = None,
    attrs: Mapping[str, Attr] | None = None,
    low: float | tuple[float, ...] = -4.0,
    high: float | tuple[float, ...] = 4.0,
    special: tuple[float, ...] = SPECIAL,
    cases: tuple[Case, ...] = (),
    tolerance: float = 1e-5,
    finite: bool = False,
    laws: Laws = NO_LAWS,
) -> Op:
    """Register an elementwise operator whose operands are of one dtype of `takes`.

    The reference need only be right in float32 and wider; it is run in float32 for narrower types.
    """
    attrs = attrs or {}
    return register(
        Op(
            name,
            tuple(inputs.split()),
            infer or broadcasting(takes, gives),
            in_float32(reference, like=None if gives else 0),
            attrs,
            scalar=scalar,
            scalar_attrs=tuple(attrs),
            finite=finite,
            laws=laws,
            tolerance=tolerance,
            samples=Samples(takes.dtypes, low, high, cases, special),
        )
    )


def kind_of(x: Number) -> str:
    """'f', 'i', 'u' or 'b': the kind of number that a scalar body was given, whether an Expr or Python's own."""
    if isinstance(x, (bool, int, float)):
        return "b" if isinstance(x, bool) else "i" if isinstance(x, int) else "f"
    found = find(x.dtype)
    return "O" if found is None else found.family[0]
