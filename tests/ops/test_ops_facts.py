"""What records say of their operators, against their references."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from opcheck import build, operands

from graphc.graph import Builder
from graphc.interpret import run_node
from graphc.lower.layout import _is_finite
from graphc.op import Case, Laws, Tensor, all_ops
from graphc.types import dtype_from_name

PER_SAMPLE = [n for n, op in all_ops().items() if op.per_sample]
OF_FLOATS = [
    n
    for n, op in all_ops().items()
    if op.elementwise and "float32" in op.samples.dtypes and n not in ("Where", "Cast", "RoundTo")
]
LAWFUL = [(n, dtype) for n, op in all_ops().items() if op.laws != Laws() for dtype in op.samples.dtypes]
OF_TYPES = [n for n, op in all_ops().items() if op.type_only]


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_samples_do_not_see_each_other(name: str):
    op, seen = all_ops()[name], 0
    for case in op.samples.cases:
        first = case.inputs[0]
        if not isinstance(first, Tensor) or len(first.shape) < 3 or 0 in first.shape:
            continue
        batch = replace(case, inputs=(replace(first, shape=(3, *first.shape[1:])), *case.inputs[1:]), n_outputs=1)
        arrays = operands(op, batch)
        (whole,) = run_node(build(name, batch, arrays)[1], arrays)
        for k in range(3):
            alone = [arrays[0][k : k + 1], *arrays[1:]]
            (y,) = run_node(build(name, batch, alone)[1], alone)
            np.testing.assert_allclose(y[0], whole[k], rtol=1e-5, atol=1e-6)
        seen += 1
    assert seen


@pytest.mark.parametrize("name", OF_FLOATS)
def test_finite_numbers_stay_finite(name: str):
    op = all_ops()[name]
    rng, count = np.random.default_rng(0), max(op.min_inputs, 2 if op.variadic else 1)
    numbers = np.concatenate([[0, -0.0, 1, -1, 1e4, -1e4], rng.normal(0, 30, 500)]).astype(np.float32)
    arrays = [rng.permutation(numbers) for _ in range(count)]
    _, node = build(name, Case(tuple(Tensor(a.shape) for a in arrays)), arrays)
    if _is_finite(node):
        (y,) = run_node(node, arrays)
        assert y.dtype.kind != "f" or np.isfinite(y).all()


def test_quotients_and_logarithms_are_not_finite():
    b = Builder("poles")
    x = b.input("x", "float32", (3,))
    finite = {op: _is_finite((b.add(op, x), b.nodes[-1])[1]) for op in ("Relu", "Log", "Reciprocal", "Softplus", "Exp")}
    assert finite == {"Relu": True, "Log": False, "Reciprocal": False, "Softplus": True, "Exp": False}
    b.add("Div", x, b.constant(2.0, "float32"))
    assert _is_finite(b.nodes[-1])
    b.add("Div", x, b.constant(0.0, "float32"))
    assert not _is_finite(b.nodes[-1])


@pytest.mark.parametrize(("name", "dtype"), LAWFUL)
def test_laws(name: str, dtype: str):
    op, rng = all_ops()[name], np.random.default_rng(0)
    x, y = (sample(rng, dtype) for _ in "xy")

    def apply(*arrays: np.ndarray) -> np.ndarray:
        case = Case(tuple(Tensor(a.shape, dtype=dtype) for a in arrays))
        return run_node(build(name, case, arrays)[1], arrays)[0]

    if op.laws.commutes:
        assert_same(apply(x, y), apply(y, x))
    if op.laws.neutral is not None:
        neutral = np.full(x.shape, op.laws.neutral, dtype)
        assert_same(apply(x, neutral), x)
        assert not op.laws.commutes or apply(neutral, x).tobytes() == x.tobytes()
        return
    once = apply(x)
    if op.laws.idempotent:
        assert_same(apply(once), once)
    if op.laws.involution:
        assert_same(apply(once), x)
    if op.laws.not_negative and once.dtype.kind == "f":
        assert not (once < 0).any()


def sample(rng: np.random.Generator, dtype: str) -> np.ndarray:
    """Numbers of the dtype, zeros of both signs, infinities and extremes among them."""
    if dtype == "bool":
        return rng.random(64) < 0.5
    if dtype.startswith("float"):
        numbers = np.concatenate([rng.normal(0, 9, 60), [0.0, -0.0, np.inf, -np.inf]])
        return rng.permutation(numbers).astype(dtype)
    info = np.iinfo(dtype)
    return rng.permutation(
        np.append(rng.integers(info.min, info.max, 62, dtype), np.array([info.min, info.max], dtype))
    )


def assert_same(got: np.ndarray, wanted: np.ndarray) -> None:
    """Equal, to the sign of a zero."""
    np.testing.assert_array_equal(got, wanted)
    if wanted.dtype.kind == "f":
        there = ~np.isnan(wanted)
        np.testing.assert_array_equal(np.signbit(got[there]), np.signbit(wanted[there]))


@pytest.mark.parametrize("name", OF_TYPES)
def test_values_that_only_types_decide(name: str):
    op = all_ops()[name]
    for case in op.samples.cases:
        arrays = operands(op, case)
        _, node = build(name, case, arrays)
        np.testing.assert_array_equal(run_node(node, arrays)[0], run_node(node, [np.zeros_like(a) for a in arrays])[0])


@pytest.mark.parametrize("name", [n for n, op in all_ops().items() if op.types_of])
def test_values_of_one_type_stand_for_each_other(name: str):
    op = all_ops()[name]
    for case in op.samples.cases:
        one, other = (operands(op, case, seed=seed) for seed in (0, 1))
        mixed = [b if i in op.types_of else a for i, (a, b) in enumerate(zip(one, other))]
        (_, node), changed = build(name, case, one), any(a is not b and (a != b).any() for a, b in zip(one, mixed))
        for x, y in zip(run_node(node, one), run_node(node, mixed)):
            np.testing.assert_array_equal(x, y)
        assert changed or not one[0].size


EXACT = [n for n, op in all_ops().items() if op.exact and "float32" in op.samples.dtypes and op.samples.cases]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", EXACT)
def test_exact_results_are_numbers_of_the_operands_type(name: str, dtype: str):
    """Of operands that a narrower type has."""
    op, kind = all_ops()[name], dtype_from_name(dtype)
    for case in op.samples.cases:
        arrays = [_narrowed(a, kind) for a in operands(op, case)]
        _, node = build(name, case, arrays)
        results = [y for y in run_node(node, arrays) if y.dtype == np.float32]
        if name == "RoundTo" and node.attrs["to"] != kind:
            continue
        for y in results:
            np.testing.assert_array_equal(y, _narrowed(y, kind))


def _narrowed(a: np.ndarray | None, kind: np.dtype) -> np.ndarray | None:
    with np.errstate(over="ignore"):
        return a.astype(kind).astype(a.dtype) if a is not None and a.dtype == np.float32 else a
