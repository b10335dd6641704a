"""Registration of com.microsoft's operators. Most are compositions of standard ones, which passes and fusion see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.errors import TypeRuleError, UnsupportedError
from graphc.graph import Builder, Value
from graphc.op import FLOATS, Attr, Call, Case, Op, Samples, get_op, register
from graphc.types import MaybeNone, TensorType

DOMAIN = "com.microsoft"
MOST_NODES = 4096  # that one node may be expanded into: each takes the time of a node
Expand = Callable[[Builder, Call], "Value | tuple[Value, ...]"]
Check = Callable[[Call], None]


def where_static(expand: Callable[[Builder, Call], Any]) -> Callable[[Builder, Call], Any]:
    """The expansion, for operands whose dims are all known."""

    def run(b: Builder, call: Call) -> Any:
        known = all(v is None or (v.type is not None and v.type.is_static) for v in call.inputs)
        return expand(b, call) if known else None

    return run


def contrib(
    name: str,
    inputs: str,
    infer: Callable[[Call], Sequence[TensorType | MaybeNone]],
    reference: Callable,
    expand: Callable,
    cases: Sequence[Case],
    attrs: Mapping[str, Attr] | None = None,
    outputs: tuple[str, ...] = ("y",),
    domain: str = DOMAIN,
    dtypes: tuple[str, ...] = FLOATS,
    **more,
) -> Op:
    """Register a composite operator of com.microsoft (or another `domain`). `more`: other fields of the record."""
    record = Op(
        f"{domain}::{name}" if domain else name,
        tuple(inputs.split()),
        infer,
        reference,
        attrs or {},
        outputs,
        expand=expand,
        samples=Samples(dtypes, cases=tuple(cases)),
        **more,
    )
    return register(record)


def composed(
    name: str,
    inputs: str,
    reference: Callable,
    expand: Expand,
    cases: Sequence[Case],
    attrs: Mapping[str, Attr] | None = None,
    *,
    check: Check = lambda call: None,
    **more,
) -> Op:
    """`contrib` of an operator that always expands: its results have the types of the expansion's.

    `check` raises TypeRuleError where operands or attributes are none of the operator's, before it is expanded.
    """
    return contrib(name, inputs, _types_of(expand, check), reference, expand, cases, attrs, **more)


def _types_of(expand: Expand, check: Check) -> Callable[[Call], list[TensorType | MaybeNone]]:
    def infer(call: Call) -> list[TensorType | MaybeNone]:
        check(call)
        try:
            results = expand(_Bounded("types"), call)
        except TypeRuleError as error:
            inside = f"{error.op}: " if error.op not in (None, call.op.name) else ""
            raise call.fail(inside + error.message.partition("\n")[0], error.hint) from None
        return [v.type for v in (results if isinstance(results, tuple) else (results,))]

    return infer


class _Bounded(Builder):
    """Refuses an expansion whose length some number in a file decides."""

    def add(self, *args: Any, **more: Any) -> Any:
        if len(self.nodes) >= MOST_NODES:
            raise UnsupportedError(
                f"it would become more than {MOST_NODES} operators", hint="smaller sizes in its attributes"
            )
        return super().add(*args, **more)


def operands(call: Call, count: int) -> tuple[Any, ...]:
    """`count` operands, None for those that are left out at the end."""
    return (*call.inputs, *[None] * count)[:count]


def applied(op: str, *arrays: np.ndarray | None, **attrs) -> np.ndarray:
    """The first result of another operator's reference, with its other attributes at their defaults."""
    record = get_op(op)
    y = record.reference(*arrays, **record.complete_attrs(attrs))
    return y[0] if isinstance(y, tuple) else y
