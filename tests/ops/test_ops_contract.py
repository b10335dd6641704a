"""MatMul, Gemm and Einsum against other implementations; the einsum planner; errors."""

from __future__ import annotations

import numpy as np
import opcheck
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.errors import TypeRuleError
from graphc.graph import Builder
from graphc.op import get_op
from graphc.ops.contract import einsum_plan
from graphc.types import Sym

NAMES = ("MatMul", "Gemm", "Einsum")
B, S = Sym("batch"), Sym("seq")


@pytest.mark.parametrize(("name", "case"), opcheck.cases(*NAMES))
def test_agrees_with_peers(name, case):
    opcheck.against_peers(name, case)


@pytest.mark.parametrize("dtype", ["float64", "int32", "uint64", "float16", "bfloat16"])
@pytest.mark.parametrize(("name", "case"), opcheck.cases("MatMul", "Gemm"))
def test_dtypes(name, case, dtype):
    pytest.importorskip("ml_dtypes")
    arrays = opcheck.operands(get_op(name), case, dtype)
    (actual,) = opcheck.reference(name, case, arrays)
    wide = [a if a is None or a.dtype.kind in "iu" else a.astype(np.float64) for a in arrays]
    (want,) = opcheck.reference(name, case, wide)
    opcheck.agree([actual], [want.astype(actual.dtype)], {"float16": 1e-3, "bfloat16": 8e-3}.get(dtype, 1e-12))


@pytest.mark.parametrize(("name", "case"), opcheck.cases("Einsum"))
def test_einsum_expands(name, case):
    arrays = opcheck.operands(get_op(name), case)
    actual = opcheck.expanded(name, case, arrays)
    assert actual is not None
    opcheck.agree(actual, opcheck.reference(name, case, arrays))


def interpret(steps, arrays):
    registers = list(arrays)
    for step in steps:
        x, *more = (registers[i] for i in step.operands)
        match step.op:
            case "Transpose":
                y = x.transpose(step.param)
            case "ReduceSum":
                y = x.sum(step.param)
            case "Slice":
                y = x[..., : step.param[0] : step.param[1]]
            case "Squeeze":
                y = x.squeeze(step.param)
            case "Unsqueeze":
                y = np.expand_dims(x, step.param)
            case "Reshape":
                y = x.reshape([x.shape[i] if d == 0 else d for i, d in enumerate(step.param)])
            case "MatMul":
                y = x @ more[0]
            case "Mul":
                y = x * more[0]
        registers.append(y)
    return registers[-1]


@st.composite
def equations(draw):
    letters = "abcde"
    sizes = {letter: draw(st.integers(1, 4)) for letter in letters}
    terms = [draw(st.lists(st.sampled_from(letters), max_size=4)) for _ in range(draw(st.integers(1, 3)))]
    used = sorted({letter for term in terms for letter in term})
    output = draw(st.permutations(used))[: draw(st.integers(0, len(used)))]
    shapes = []
    for term in terms:
        own = {x: draw(st.sampled_from((1, sizes[x], sizes[x]))) for x in term}
        shapes.append(tuple(own[x] for x in term))
    return f"{','.join(map(''.join, terms))}->{''.join(output)}", shapes


@settings(max_examples=100, deadline=None)
@given(equations(), st.integers(0, 99))
def test_einsum_plan_means_the_equation(equation, seed):
    equation, shapes = equation
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(s) for s in shapes]
    steps = einsum_plan(equation, shapes)
    np.testing.assert_allclose(interpret(steps, arrays), np.einsum(equation, *arrays), atol=1e-12)


def test_einsum_plan_is_one_matmul_where_it_can_be():
    assert [s.op for s in einsum_plan("...ij,...jk", [(2, 3, 4), (2, 4, 5)])] == ["MatMul"]
    assert [s.op for s in einsum_plan("bhqd,bhkd->bhqk", [(2, 3, 4, 8), (2, 3, 5, 8)])] == ["Transpose", "MatMul"]


def test_einsum_plan_with_symbolic_dims():
    steps = einsum_plan("bsd,dhk->bshk", [(B, S, 8), (8, 2, 4)])
    x, w = np.random.default_rng(0).standard_normal((2, 3, 5, 8))[0], np.ones((8, 2, 4))
    np.testing.assert_allclose(interpret(steps, [x, w]), np.einsum("bsd,dhk->bshk", x, w))
    assert einsum_plan("abx,cxd->acbd", [(B, S, 8), (Sym("c"), 8, Sym("d"))]) is None


def test_symbolic_shapes():
    b = Builder()
    x, w = b.input("x", "float32", (B, S, 8)), b.input("w", "float32", (8, 3))
    assert b.add("MatMul", x, w).shape == (B, S, 3)
    assert b.add("Gemm", b.input("y", "float32", (B, 8)), w).shape == (B, 3)
    assert b.add("Einsum", x, w, equation="bsd,de->ebs").shape == (3, B, S)


@pytest.mark.parametrize(
    ("name", "shapes", "attrs", "words"),
    [
        ("MatMul", [(3, 4), (5, 6)], {}, ["4 columns", "5 rows", "transpose"]),
        ("MatMul", [(2, 3, 4), (3, 4, 5)], {}, ["batch", "do not broadcast"]),
        ("MatMul", [(), (3,)], {}, ["rank 1", "Mul"]),
        ("Gemm", [(3, 4), (3, 5)], {}, ["4 columns", "3 rows", "transB=0"]),
        ("Gemm", [(2, 3, 4), (4, 5)], {}, ["'a'", "(2, 3, 4)", "Flatten"]),
        ("Gemm", [(3, 4), (4, 5), (4,)], {}, ["(4,)", "(3, 5)"]),
        ("Einsum", [(3, 4), (5, 6)], {"equation": "ij,jk->ik"}, ["'j'", "4", "5"]),
        ("Einsum", [(3, 4)], {"equation": "ij,jk"}, ["2 terms", "1 operands"]),
        ("Einsum", [(3, 4)], {"equation": "ijk"}, ["3 axes", "rank 2"]),
        ("Einsum", [(3, 4)], {"equation": "ij->z"}, ["'z'", "no operand"]),
        ("Einsum", [(3, 4)], {"equation": "ij->ii"}, ["twice"]),
        ("Einsum", [(3, 4)], {"equation": "i2->i"}, ["not a term"]),
        ("Einsum", [(3, 4)], {"equation": "...j->j"}, ["'...'", "->"]),
    ],
)
def test_errors_name_the_sizes(name, shapes, attrs, words):
    b = Builder()
    with pytest.raises(TypeRuleError) as error:
        b.add(name, *(b.input(f"x{i}", "float32", s) for i, s in enumerate(shapes)), name="layer7", **attrs)
    assert all(word in str(error.value) for word in [name, "layer7", *words]), str(error.value)


def test_dtypes_must_agree():
    b = Builder()
    with pytest.raises(TypeRuleError, match="'a' is float32, 'b' is float64(.|\n)*Cast"):
        b.add("MatMul", b.input("x", "float32", (2, 2)), b.input("y", "float64", (2, 2)))
    with pytest.raises(TypeRuleError, match=r"'operands\[0\]' is float32, 'operands\[1\]' is float64"):
        b.add("Einsum", b.input("v", "float32", (2,)), b.input("w", "float64", (2,)), equation="i,i")
    with pytest.raises(TypeRuleError, match="'a' is bool"):
        b.add("MatMul", b.input("p", "bool", (2, 2)), b.input("q", "bool", (2, 2)))


def test_flops():
    b = Builder()
    b.add("MatMul", b.input("x", "float32", (2, 5, 7)), b.input("w", "float32", (7, 3)))
    b.add("Gemm", b.input("y", "float32", (5, 7)), b.input("v", "float32", (7, 3)))
    assert [n.op.flops(n.call) for n in b.nodes] == [2 * 2 * 5 * 7 * 3, 2 * 5 * 7 * 3]
