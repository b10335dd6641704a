"""What the records of ai.onnx.ml share: registration, and checks of operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import DTypeLike

from graphc.dtypes import names
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Family, Op, Samples, register
from graphc.types import Dim, TensorType, dtype_name

DOMAIN = "ai.onnx.ml"
STRING = np.dtype(object)
NUMBERS = names("float", "int", bits=(32, 64))


def ml(
    name: str,
    inputs: str,
    infer: Callable[[Call], Sequence[TensorType]],
    reference: Callable,
    attrs: Mapping[str, Attr],
    cases: Sequence[Case],
    outputs: tuple[str, ...] = ("y",),
    dtypes: Sequence[str] = ("float32",),
    **more,
) -> Op:
    """Register an operator of ai.onnx.ml. `more`: other fields of the record."""
    if "expand" not in more:
        more["family"] = Family.TABLE
    record = Op(
        f"{DOMAIN}::{name}",
        tuple(inputs.split()),
        infer=infer,
        reference=reference,
        attrs=attrs,
        outputs=outputs,
        samples=Samples(tuple(dtypes), cases=tuple(cases)),
        **more,
    )
    return register(record)


def require_numbers(call: Call, *names: str) -> TensorType:
    """The type of operand 0, whose dtype must be one of `names`. Raises TypeRuleError."""
    x = call.type(0)
    names = names or NUMBERS
    if dtype_name(x.dtype) not in names:
        raise call.fail(f"takes {', '.join(names)}, not {dtype_name(x.dtype)}", "insert a Cast")
    return x


def rows(call: Call, *names: str) -> tuple[Dim, Dim]:
    """(samples, features) of operand 0: [N, F], or [F], which is one sample. Raises TypeRuleError."""
    x = require_numbers(call, *names)
    if x.rank not in (1, 2):
        raise call.fail(f"takes samples [N, F], not shape {x.shape}", "Reshape it to two axes")
    return (1, x.shape[0]) if x.rank == 1 else (x.shape[0], x.shape[1])


def require_features(call: Call, features: Dim, at_least: int, exact: bool = False) -> None:
    """Raises TypeRuleError where the samples have fewer features than the model reads."""
    if isinstance(features, int) and (features != at_least if exact else features < at_least):
        wants = f"{at_least}" if exact else f"{at_least} or more"
        raise call.fail(f"the samples have {features} features; the model reads {wants}")


def labels_of(call: Call, strings: str, ints: str) -> np.ndarray:
    """The class labels of the attribute that is given. Raises TypeRuleError unless exactly one of the two is."""
    a, b = call.attrs[strings], call.attrs[ints]
    if a and b:
        raise call.fail(f"has both {strings} and {ints}", "give the labels once")
    return label_array(a, b)


def label_array(strings: Sequence[str], ints: Sequence[int]) -> np.ndarray:
    """The labels of whichever is given."""
    return np.array(list(strings), STRING) if strings else np.array(list(ints), np.int64)


# --- parts of expansions ----------------------------------------------------------------------------------------------
def as_rows(b: Builder, v: Value, dtype: DTypeLike) -> Value:
    """Samples [N, F] in that dtype; [F] is one sample."""
    v = v if v.dtype == dtype else b.add("Cast", v, to=np.dtype(dtype))
    return v if v.type.rank == 2 else b.add("Unsqueeze", v, b.constant([0], np.int64))


def column_of(b: Builder, v: Value, i: int) -> Value:
    """Column i of [N, C], as [N]."""
    if v.shape[1] == 1:
        return b.add("Squeeze", v, b.constant([1], np.int64))
    return b.add("Gather", v, b.constant(i, np.int64), axis=1)


def named(b: Builder, labels: np.ndarray, at: Value) -> Value:
    """The labels at positions [N]. Strings are looked up on the host, behind all that is computed."""
    if labels.dtype == np.int64 and np.array_equal(labels, np.arange(len(labels))):
        return at
    return b.add("Gather", b.constant(labels), at, axis=0)


def chosen(b: Builder, labels: np.ndarray, condition: Value) -> Value:
    """labels[1] where the condition [N] holds, else labels[0]."""
    if labels.dtype == STRING:
        return named(b, labels, b.add("Cast", condition, to=np.dtype(np.int64)))
    return b.add("Where", condition, *(b.constant(n, np.int64) for n in labels[::-1]))
