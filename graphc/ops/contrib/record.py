"""Registration of com.microsoft's operators. Most are compositions of standard ones, which passes and fusion see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphc.graph import Builder
from graphc.op import FLOATS, Attr, Call, Case, Op, Samples, register
from graphc.types import TensorType

DOMAIN = "com.microsoft"


def where_static(expand: Callable[[Builder, Call], Any]) -> Callable[[Builder, Call], Any]:
    """The expansion, for operands whose dims are all known."""

    def run(b: Builder, call: Call) -> Any:
        known = all(v is None or (v.type is not None and v.type.is_static) for v in call.inputs)
        return expand(b, call) if known else None

    return run


def contrib(
    name: str,
    inputs: str,
    infer: Callable[[Call], Sequence[TensorType]],
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
