"""Contractions: matrix products and Einstein summation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.dtypes import is_narrow, names
from graphc.op import FLOATS, Attr, Call, Case, Family, Op, Samples, Tensor, register
from graphc.ops._einsum import einsum_plan, einsum_shape
from graphc.ops.precision import in_float32
from graphc.types import Dim, Shape, TensorType, broadcast, dtype_name, is_static, prod

FLOAT_NAMES = names("float", bits=range(16, 65))
MATMUL_NAMES = (*FLOAT_NAMES, *names("int", "uint", bits=(32, 64)))
__all__ = ["einsum_plan", "matmul_shape", "require_dtype", "require_same_dtype"]


def operand_name(call: Call, i: int) -> str:
    """The formal name of operand i; operands of a variadic one are numbered."""
    names = call.op.inputs
    if i < len(names) and names[i][0] != "*":
        return names[i].rstrip("?")
    return f"{names[-1].lstrip('*')}[{i - len(names) + 1}]"


def require_dtype(call: Call, i: int, names: Sequence[str]) -> np.dtype:
    """dtype of operand i. Raises TypeRuleError if its name is not in `names`."""
    dtype = call.dtype(i)
    if dtype.name not in names:
        hint = f"one of: {', '.join(names)}; insert a Cast"
        raise call.fail(f"operand '{operand_name(call, i)}' is {dtype_name(dtype)}", hint)
    return dtype


def require_same_dtype(call: Call, *operands: int) -> None:
    """Raises TypeRuleError where the given operands (absent ones aside) differ in dtype."""
    given = [i for i in operands if call.has(i)]
    for i in given[1:]:
        if call.dtype(i) != call.dtype(given[0]):
            kinds = [f"'{operand_name(call, k)}' is {dtype_name(call.dtype(k))}" for k in (given[0], i)]
            raise call.fail(f"operands differ in dtype: {', '.join(kinds)}", "insert a Cast")


def differ(a: Dim, b: Dim) -> bool:
    """Two dims that are known and not equal."""
    return isinstance(a, int) and isinstance(b, int) and a != b


# --- MatMul -----------------------------------------------------------------------------------------------------------
def matmul_shape(call: Call, a: Shape, b: Shape) -> Shape:
    """Shape of numpy.matmul: [..., M, K] x [..., K, N] -> [..., M, N]; 1-d operands: a row, a column."""
    if not a or not b:
        raise call.fail("a matrix product needs operands of rank 1 or more", "use Mul for scalars")
    columns, rows = a[-1], b[-2] if len(b) > 1 else b[0]
    if differ(columns, rows):
        raise call.fail(
            f"inner sizes differ: the left operand {a} has {columns} columns, the right operand {b} has {rows} rows",
            "transpose one operand, or check the size of the layer before",
        )
    try:
        batch = broadcast(a[:-2], b[:-2])
    except ValueError as error:
        raise call.fail(f"batch {error}") from None
    return (*batch, *(a[-2:-1] if len(a) > 1 else ()), *(b[-1:] if len(b) > 1 else ()))


def _matmul_infer(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, 0, MATMUL_NAMES)
    require_same_dtype(call, 0, 1)
    return [TensorType(dtype, matmul_shape(call, call.shape(0), call.shape(1)))]


def matmul_macs(call: Call) -> Dim:
    """M·N·K of every matrix of the batch."""
    return prod((*matmul_shape(call, call.shape(0), call.shape(1)), call.shape(0)[-1]))


def _matmul_cases() -> tuple[Case, ...]:
    shapes = [
        ((5, 7), (7, 3)),
        ((1, 64), (64, 10)),
        ((13, 17), (17, 33)),
        ((2, 3, 5, 7), (2, 3, 7, 4)),
        ((4, 5, 7), (7, 6)),
        ((5, 7), (3, 7, 6)),
        ((2, 1, 5, 7), (3, 7, 4)),
        ((7,), (7,)),
        ((7,), (2, 7, 5)),
        ((2, 3, 7), (7,)),
        ((3, 0), (0, 4)),
        ((0, 3), (3, 4)),
        ((1, 1), (1, 1)),
    ]
    return tuple(Case((Tensor(a), Tensor(b))) for a, b in shapes)


def _matmul_expand(b, call: Call):
    """Sums over nothing are zeros."""
    if call.shape(0)[-1] != 0:
        return None
    shape = matmul_shape(call, call.shape(0), call.shape(1))
    if not is_static(shape):
        return None
    return b.add("Expand", b.constant(0, call.dtype(0)), b.constant(shape, np.int64))


register(
    Op(
        "MatMul",
        ("a", "b"),
        _matmul_infer,
        in_float32(lambda a, b: np.matmul(a, b)),
        expand=_matmul_expand,
        macs=matmul_macs,
        samples=Samples((*FLOATS, "int32", "int64", "uint32", "uint64"), cases=_matmul_cases()),
        family=Family.CONTRACTION,
    )
)


# --- Gemm -------------------------------------------------------------------------------------------------------------
def _gemm_sizes(call: Call) -> tuple[Dim, Dim, Dim]:
    """(M, N, K)."""
    for i in (0, 1):
        if call.rank(i) != 2:
            raise call.fail(
                f"operand '{call.op.inputs[i]}' has shape {call.shape(i)}, not two axes", "Flatten it, or use MatMul"
            )
    (m, k), (k2, n) = call.shape(0)[:: -1 if call.attrs.transA else 1], call.shape(1)[:: -1 if call.attrs.transB else 1]
    if differ(k, k2):
        left, right = (
            f"A {call.shape(0)} (transA={call.attrs.transA:d})",
            f"B {call.shape(1)} (transB={call.attrs.transB:d})",
        )
        raise call.fail(
            f"inner sizes differ: {left} has {k} columns, {right} has {k2} rows",
            "check transA and transB, or the size of the layer before",
        )
    return m, n, k


def _gemm_infer(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, 0, MATMUL_NAMES)
    require_same_dtype(call, 0, 1, 2)
    m, n, _ = _gemm_sizes(call)
    if call.has(2):
        c = call.shape(2)
        if len(c) > 2 or any(d != 1 and differ(d, want) for d, want in zip(c[::-1], (n, m))):
            raise call.fail(
                f"operand 'c' of shape {c} does not broadcast to ({m}, {n})",
                "give it one element per column, or one per row with shape (M, 1)",
            )
    return [TensorType(dtype, (m, n))]


def _gemm_reference(a, b, c=None, *, alpha, beta, transA, transB):
    scalar = a.dtype.type
    y = np.matmul(a.T if transA else a, b.T if transB else b) * scalar(alpha)
    return y if c is None or beta == 0 else y + c * scalar(beta)  # BLAS reads no c then: NaN in it stays there


def _gemm_expand(b, call: Call):
    """A product, scaled, and a sum."""

    def times(v, factor: float):
        return v if factor == 1 else b.add("Mul", v, b.constant(np.asarray(factor).astype(v.dtype)))

    left, right, c = (*call.inputs, None)[:3]
    left, right = (
        b.add("Transpose", v, perm=(1, 0)) if call.attrs[k] else v for v, k in ((left, "transA"), (right, "transB"))
    )
    y = times(b.add("MatMul", left, right), call.attrs.alpha)
    if call.attrs.beta == 0:
        call.ignore(2)
        return y
    return y if c is None else b.add("Add", y, times(c, call.attrs.beta))


def _gemm_cases() -> tuple[Case, ...]:
    def case(m, n, k, c=None, **attrs):
        a = Tensor((k, m) if attrs.get("transA") else (m, k))
        b = Tensor((n, k) if attrs.get("transB") else (k, n))
        return Case((a, b) if c is None else (a, b, Tensor(c)), attrs)

    return (
        case(1, 10, 64, (10,), transB=True),
        case(3, 17, 13, (17,)),
        case(3, 17, 13, (1, 17), transA=True),
        case(5, 7, 9, (5, 1), transA=True, transB=True),
        case(5, 7, 9, (5, 7), alpha=2.0, beta=3.0),
        case(5, 7, 9, (), beta=2.0),
        case(5, 7, 9, (7,), alpha=2.0, beta=0.0),
        case(4, 33, 20, transB=True, alpha=3.0),
    )


register(
    Op(
        "Gemm",
        ("a", "b", "c?"),
        _gemm_infer,
        in_float32(_gemm_reference),
        {"alpha": Attr(float, 1.0), "beta": Attr(float, 1.0), "transA": Attr(bool, False), "transB": Attr(bool, False)},
        expand=_gemm_expand,
        macs=lambda call: prod(_gemm_sizes(call)),
        samples=Samples((*FLOATS, "int32", "int64", "uint32", "uint64"), cases=_gemm_cases()),
        family=Family.CONTRACTION,
    )
)


# --- Einsum -----------------------------------------------------------------------------------------------------------
def _einsum_infer(call: Call) -> list[TensorType]:
    require_same_dtype(call, *range(len(call.inputs)))
    try:
        shape = einsum_shape(call.attrs.equation, [call.shape(i) for i in range(len(call.inputs))])
    except ValueError as error:
        raise call.fail(f"equation '{call.attrs.equation}': {error}") from None
    return [TensorType(call.dtype(0), shape)]


def _einsum_expand(b, call: Call):
    """Transpositions, slices, sums, MatMul and Mul; None where `einsum_plan` gives none or MatMul lacks the dtype."""
    steps = einsum_plan(call.attrs.equation, [v.shape for v in call.inputs])
    if steps is None or call.dtype(0).name not in MATMUL_NAMES:
        return None
    narrow = is_narrow(call.dtype(0)) and sum(step.op in ("MatMul", "Mul", "ReduceSum") for step in steps) > 1
    values = [b.add("Cast", v, to=np.float32) if narrow else v for v in call.inputs]  # rounded once, at the end
    for step in steps:
        operands = [values[i] for i in step.operands]
        match step.op:
            case "Transpose":
                values.append(b.add("Transpose", *operands, perm=step.param))
            case "ReduceSum":
                values.append(b.add("ReduceSum", *operands, b.constant(step.param, np.int64), keepdims=False))
            case "Slice":
                end, stride = step.param
                values.append(b.add("Slice", *operands, *(b.constant([k], np.int64) for k in (0, end, -1, stride))))
            case "Reshape" | "Squeeze" | "Unsqueeze":
                values.append(b.add(step.op, *operands, b.constant(step.param, np.int64)))
            case _:
                values.append(b.add(step.op, *operands))
    if narrow:
        return b.add("Cast", values[-1], to=call.dtype(0))
    return values[-1] if steps else b.add("Identity", values[0])


def _einsum_macs(call: Call) -> Dim:
    """One for every combination of indices, as if computed by one loop nest; less where a sum can be taken first."""
    return prod(einsum_shape(call.attrs.equation, [call.shape(i) for i in range(len(call.inputs))], every_index=True))


def _einsum_cases() -> tuple[Case, ...]:
    uses: list[tuple[Any, ...]] = [
        ("ij,jk->ik", (5, 7), (7, 3)),
        ("ij,jk", (5, 7), (7, 3)),
        ("bhqd,bhkd->bhqk", (2, 3, 5, 8), (2, 3, 7, 8)),
        ("bsd,dhk->bshk", (2, 5, 7), (7, 3, 4)),
        ("ik,bkj->bij", (5, 7), (2, 7, 3)),
        ("...ij,...jk->...ik", (2, 1, 5, 7), (2, 3, 7, 4)),
        ("...ij,jk", (2, 3, 5, 7), (7, 4)),
        ("ij,kl->ijkl", (2, 3), (4, 5)),
        ("ij,ij->ij", (5, 7), (5, 7)),
        ("ij,ij->", (5, 7), (5, 7)),
        ("i,i", (7,), (7,)),
        ("ijk,jl->li", (4, 5, 6), (5, 3)),
        ("ij->ji", (5, 7)),
        ("ij->i", (5, 7)),
        ("ji", (5, 7)),
        ("ii->i", (5, 5)),
        ("ii", (5, 5)),
        ("b i i -> b i", (2, 5, 5)),
        ("ijij,i->j", (3, 4, 3, 4), (3,)),
        ("iii", (3, 3, 3)),
        ("ab,bc,cd->ad", (3, 5), (5, 7), (7, 2)),
        ("bij,bjk,bk->bi", (2, 3, 4), (2, 4, 5), (2, 5)),
        ("Ab,bC", (3, 5), (5, 2)),
    ]
    return tuple(Case(tuple(map(Tensor, shapes)), {"equation": equation}) for equation, *shapes in uses)


register(
    Op(
        "Einsum",
        ("*operands",),
        _einsum_infer,
        in_float32(lambda *operands, equation: np.asarray(np.einsum(equation, *operands, optimize=len(operands) > 1))),
        {"equation": Attr(str)},
        expand=_einsum_expand,
        macs=_einsum_macs,
        samples=Samples((*FLOATS, "int32", "int64"), cases=_einsum_cases()),
        family=Family.CONTRACTION,
    )
)
