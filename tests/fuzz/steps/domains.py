"""Any operator, as its record's samples describe valid uses: what no other step holds is found here."""

from __future__ import annotations

from functools import cache

import numpy as np
from onnx import defs, helper, numpy_helper

from graphc.op import Case, Const, Op, all_ops
from graphc.op import Tensor as Spec

from ..draft import Draft, Reject, Tensor
from ..draws import integer_range
from . import step

UNKNOWN = ("qonnx.custom_op.general", "ai.onnx.preview.training", "com.ms.internal.nhwc")  # to ONNX Runtime


@cache
def uses() -> list[tuple[Op, Case]]:
    """Operators with described uses, of values that are compared: no strings, nothing random."""
    found = []
    for op in all_ops().values():
        if op.deterministic and "object" not in op.samples.dtypes and "string" not in op.samples.dtypes:
            found += [(op, case) for case in op.samples.cases]
    return found


@cache
def names() -> list[str]:
    return sorted({op.name for op, _ in uses()})


@step(1)
def from_domain(d: Draft) -> object:
    name = d.draw.one_of(*names())
    op, case = d.draw.one_of(*(u for u in uses() if u[0].name == name))
    if name.rpartition("::")[0] in UNKNOWN and not d.draw.chance(0.1):
        raise Reject("no other engine to ask")
    if not is_newest(name, d.opset):
        raise Reject("another form in this opset")
    dtype = np.dtype(
        op.samples.dtypes[0] if d.draw.chance(0.9 if "::" in name else 0.7) else d.draw.one_of(*op.samples.dtypes)
    )
    operands = [None if spec is None else operand(d, op, i, spec, dtype) for i, spec in enumerate(case.inputs)]
    attrs = {k: attribute(v) for k, v in case.attrs.items()}
    return d.node(name, *operands, outputs=[True] * case.n_outputs, **attrs)


def is_newest(name: str, opset: int) -> bool:
    """Has the operator in that opset the form that graphc's record describes?"""
    if "::" in name:
        return True
    if not defs.has(name, opset, ""):
        return False
    schema = defs.get_schema(name, opset, "")
    return (
        not schema.deprecated and schema.since_version == defs.get_schema(name, defs.onnx_opset_version()).since_version
    )


def attribute(value):
    if isinstance(value, np.dtype):
        return helper.np_dtype_to_tensor_dtype(value)
    if isinstance(value, np.ndarray):
        return numpy_helper.from_array(value)
    return int(value) if isinstance(value, bool) else value


def operand(d: Draft, op: Op, i: int, spec: Spec | Const, dtype: np.dtype) -> Tensor:
    if isinstance(spec, Const):
        return d.const(np.asarray(spec.value, spec.dtype))
    kind = np.dtype(spec.dtype or dtype)
    low, high = (v if isinstance(v, (int, float)) else v[i] for v in (op.samples.low, op.samples.high))
    low, high = low if spec.low is None else spec.low, high if spec.high is None else spec.high
    if bounds := integer_range(kind):
        low, high = max(low, bounds[0]), max(high, low)
    if i in op.values:
        return d.const(d.draw.array(kind, spec.shape, low, high))
    return d.operand(kind, spec.shape, low, high)
