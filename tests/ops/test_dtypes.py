"""Every operator takes every dtype that the newest ONNX schema has for it."""

from __future__ import annotations

import numpy as np
import onnx
import opcheck
import pytest

import graphc
from graphc.errors import TypeRuleError
from graphc.graph import Builder, Value
from graphc.op import Case, Const, Family, Op, Tensor, all_ops
from graphc.types import dtype_name

SCHEMAS = {s.name: s for s in onnx.defs.get_all_schemas() if s.domain == ""}
OPS = [
    n
    for n, op in all_ops().items()
    if n in SCHEMAS and n not in ("If", "Loop", "Scan", "BitCast") and op.family is not Family.SEQUENCE
]
REFUSED = {
    ("DequantizeLinear", "T2", "float8_e8m0fnu"): "the result would be float8_e8m0fnu",
    ("Resize", "T1", "bool"): "takes numeric operands, not bool",
    ("Resize", "T1", "complex64"): "takes numeric operands, not complex64",
    ("Resize", "T1", "complex128"): "takes numeric operands, not complex128",
    ("Resize", "T1", "string"): "takes numeric operands, not string",
    ("GridSample", "T1", "string"): "takes numbers, not strings",
    ("Col2Im", "T", "string"): "takes numbers, not strings",
    ("TfIdfVectorizer", "T", "string"): "the pool has int32 or int64",
}
"""What the schema allows and graphc refuses, by operator, type variable and dtype, and how it says so."""


def dtype_of(name: str) -> np.dtype | None:
    """Of 'tensor(float)' and its like; None for sequences and for types that ml_dtypes lacks."""
    if not name.startswith("tensor("):
        return None
    number = getattr(onnx.TensorProto, name[7:-1].upper(), None)
    return None if number is None else np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))


def uses(op: Op) -> tuple[Case, ...]:
    """The samples' cases, or one of two-dimensional operands."""
    count = max(op.min_inputs, 2 if op.variadic else 1)
    return op.samples.cases[:8] or (Case((Tensor((2, 3)),) * count),)


def why_not(op: Op, case: Case, of: str, dtype: np.dtype) -> str | None:
    """What the type rule has against operands of the type variable `of` that are of this dtype."""
    b, formal = Builder("dtypes"), SCHEMAS[op.name].inputs
    operands: list[Value | None] = []
    for i, (spec, array) in enumerate(zip(case.inputs, opcheck.operands(op, case))):
        if array is not None and formal[min(i, len(formal) - 1)].type_str == of:
            with np.errstate(over="ignore"):
                array = array.astype(str).astype(object) if dtype.kind == "O" else array.astype(dtype)
        if array is None:
            operands.append(None)
        elif i in op.values or isinstance(spec, Const):
            operands.append(b.constant(array))
        else:
            operands.append(b.input(f"x{i}", array.dtype, array.shape))
    try:
        b.add(op.name, *operands, outputs=case.n_outputs, **case.attrs)
    except TypeRuleError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", OPS)
def test_type_rules_take_what_the_schema_allows(name: str):
    op, schema = all_ops()[name], SCHEMAS[name]
    for constraint in schema.type_constraints:
        of = constraint.type_param_str
        if not any(f.type_str == of for f in schema.inputs):
            continue
        for dtype in filter(None, map(dtype_of, constraint.allowed_type_strs)):
            reasons = [why_not(op, case, of, dtype) for case in uses(op)]
            refused = REFUSED.get((name, of, dtype_name(dtype)))
            if refused is None:
                assert None in reasons, f"{of} = {dtype}: {reasons}"
            else:
                assert refused in str(reasons[0]), f"{of} = {dtype}"


def result(name: str, *arrays: np.ndarray, **attrs) -> list[np.ndarray]:
    """Of the CPU and of the reference."""
    b, op = Builder("dtypes"), all_ops()[name]
    names = [f"x{i}" for i in range(len(arrays))]
    operands = [
        b.constant(a) if i in op.values else b.input(n, a.dtype, a.shape) for i, (n, a) in enumerate(zip(names, arrays))
    ]
    graph = b.build((b.add(name, *operands, **attrs),))
    feeds = {n: a for i, (n, a) in enumerate(zip(names, arrays)) if i not in op.values}
    return [next(iter(graphc.compile(graph, target=t).run(feeds).values())) for t in ("cpu", "reference")]


@pytest.mark.parametrize("dtype", ["int8", "int16", "int64", "uint8", "uint64"])
def test_erf_of_integers_is_cut_off(dtype: str):
    """Opsets 9 to 12 have it. In float64 it is 1 from 6 on."""
    x = np.array([0, 1, 5, 6, 100], dtype)
    for got in result("Erf", x):
        np.testing.assert_array_equal(got, np.array([0, 0, 0, 1, 1], dtype))
    if dtype[0] == "i":
        for got in result("Erf", -x):
            np.testing.assert_array_equal(got, np.array([0, 0, 0, -1, -1], dtype))


def test_samples_of_complex_images_keep_both_parts():
    x = np.arange(4).reshape(1, 1, 2, 2) * (1 + 2j)
    for got in result("GridSample", x, np.array([[[[0, 0], [1, 1]]]], "float32"), align_corners=True):
        np.testing.assert_allclose(got.ravel(), [1.5 + 3j, 3 + 6j])


def test_nearest_of_what_is_no_number():
    for x in (np.array([[True, False]]), np.array([["a", "b"]], object), np.array([[1, 2j]])):
        for got in result("Resize", x, np.zeros(0, "float32"), np.array([1, 2], "float32"), mode="nearest"):
            assert got.dtype == x.dtype
            np.testing.assert_array_equal(got, x[:, [0, 0, 1, 1]])


def test_one_hot_of_words():
    for got in result("OneHot", np.array([1, 0]), np.array(2), np.array(["off", "on"], object)):
        assert got.dtype == object
        assert got.tolist() == [["off", "on"], ["on", "off"]]
