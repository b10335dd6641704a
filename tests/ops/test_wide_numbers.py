"""64-bit numbers through every operator that takes them: above 2^53, which float64 rounds, and above 2^31, which int32 wraps; float64
with digits that float32 lacks. Results are Python's own integers, or NumPy's float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.graph import Builder, Graph

BIG = 2**53 + 1
I = np.array([BIG, -BIG, 2**62 + 3, -(2**62) - 5, 2**31 + 7, -(2**31) - 9, 2**32 + 11, 5, -7, 0, 1], np.int64)  # noqa: E741
J = np.array([3, BIG - 2, -(2**40) - 1, 2**33 + 1, -11, 2**31 + 1, 2**32 + 13, -(2**53) - 3, 3, 9, -1], np.int64)
U = np.array([2**64 - 1, 2**63 + 3, BIG, 2**32 + 5, 2**31 + 1, 7, 0], np.uint64)
V = np.array([2, BIG, 2**63 + 1, 2**32 + 7, 2**33 + 1, 2**53 + 3, 2**40 + 1], np.uint64)
D = np.array([1 + 2**-40, -1 - 2**-45, 2.0**200 + 2.0**160, 1e-300, 2.0**53 + 2, 0.1, -1e300], np.float64)
E = np.array([1 - 2**-41, 3 + 2**-44, 2.0**190 + 2.0**150, 1e-10, 2.0**31 + 0.5, 0.3, 7.0], np.float64)


def each(f: Callable, *arrays: np.ndarray) -> np.ndarray:
    """f of Python's numbers, one by one; integers wrap."""
    bits = 64 * (arrays[0].dtype.kind in "iu")
    found = [f(*row) for row in zip(*(a.tolist() for a in arrays))]
    if arrays[0].dtype.kind == "u":
        found = [v % 2**bits if type(v) is int else v for v in found]
    elif bits:
        found = [(v + 2**63) % 2**64 - 2**63 if type(v) is int else v for v in found]
    return np.array(found, arrays[0].dtype if type(found[0]) is not bool else bool)


def _div(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


N = np.where(J == 0, 1, J)
BINARY: dict[str, tuple[Callable, dict[str, Any]]] = {
    "Add": (lambda a, b: a + b, {}),
    "Sub": (lambda a, b: a - b, {}),
    "Mul": (lambda a, b: a * b, {}),
    "Div": (_div, {}),
    "Mod": (lambda a, b: a % b, {}),
    "Max": (max, {}),
    "Min": (min, {}),
    "Equal": (lambda a, b: a == b, {}),
    "Less": (lambda a, b: a < b, {}),
    "LessOrEqual": (lambda a, b: a <= b, {}),
    "Greater": (lambda a, b: a > b, {}),
    "GreaterOrEqual": (lambda a, b: a >= b, {}),
    "BitwiseAnd": (lambda a, b: a & b, {}),
    "BitwiseOr": (lambda a, b: a | b, {}),
    "BitwiseXor": (lambda a, b: a ^ b, {}),
}
UNARY: dict[str, Callable] = {"Abs": abs, "Neg": lambda a: -a, "Sign": lambda a: (a > 0) - (a < 0), "Identity": int}
UNARY |= {"BitwiseNot": lambda a: ~a, "Relu": lambda a: max(a, 0)}


def both(
    make: Callable[[Builder], Any], feeds: dict[str, np.ndarray], *wanted: np.ndarray, target: str = "cpu"
) -> None:
    """The graph, compiled and by the reference, gives exactly these."""
    b = Builder("wide")
    made = make(b)
    graph = b.build(tuple(made) if isinstance(made, (tuple, list)) else (made,))
    for t in (target, "reference"):
        for got, want in zip(graphc.compile(graph, target=t, threads=1).run(feeds).values(), wanted, strict=True):
            assert got.dtype == want.dtype and got.shape == want.shape, t
            np.testing.assert_array_equal(got, want, err_msg=t)


def inputs(b: Builder, *arrays: np.ndarray) -> list:
    return [b.input(f"x{i}", a.dtype, a.shape) for i, a in enumerate(arrays)]


def feeds_of(*arrays: np.ndarray) -> dict[str, np.ndarray]:
    return {f"x{i}": a for i, a in enumerate(arrays)}


@pytest.mark.sample(12)
@pytest.mark.parametrize("kind", ["int64", "uint64"])
@pytest.mark.parametrize("name", BINARY)
def test_two_operands(name: str, kind: str):
    f, attrs = BINARY[name]
    a, b = (I, N) if kind == "int64" else (U, V)
    both(lambda g: g.add(name, *inputs(g, a, b), **attrs), feeds_of(a, b), each(f, a, b))


@pytest.mark.sample(8)
@pytest.mark.parametrize("kind", ["int64", "uint64"])
@pytest.mark.parametrize("name", [n for n in BINARY if n not in ("Div", "Mod")])
def test_a_scalar_in_the_kernel(name: str, kind: str):
    """A constant operand becomes an immediate of the machine code, or a word beside it."""
    f, attrs = BINARY[name]
    a = I if kind == "int64" else U
    for number in (BIG, 2**62 + 3, 2**32 + 5, 2**31) + ((-BIG, -(2**31) - 1) if kind == "int64" else (2**64 - 3,)):
        c = np.array(number, a.dtype)
        wanted = each(f, a, np.full_like(a, c))
        both(lambda g, c=c: g.add(name, inputs(g, a)[0], g.constant(c), **attrs), feeds_of(a), wanted)


@pytest.mark.sample(4)
@pytest.mark.parametrize("kind", ["int64", "uint64"])
@pytest.mark.parametrize("number", [3, 7, 2**31 + 1, 2**32 + 15, BIG, 2**62 + 3])
def test_division_by_a_constant(number: int, kind: str):
    a = I if kind == "int64" else U
    c = np.array(number, a.dtype)
    for name in ("Div", "Mod"):
        wanted = each(BINARY[name][0], a, np.full_like(a, c))
        both(lambda g, name=name: g.add(name, inputs(g, a)[0], g.constant(c)), feeds_of(a), wanted)


@pytest.mark.parametrize("name", UNARY)
def test_one_operand(name: str):
    for a in (I, U) if name in ("Identity", "BitwiseNot", "Abs", "Sign") else (I,):
        both(lambda g, a=a: g.add(name, *inputs(g, a)), feeds_of(a), each(UNARY[name], a))


@pytest.mark.parametrize("a", [I, U], ids=["int64", "uint64"])
def test_clip_and_where(a: np.ndarray):
    low, high = (np.array(v, a.dtype) for v in (2**31 + 3, BIG + 2))
    clipped = each(lambda v: min(max(v, int(low)), int(high)), a)
    both(lambda g: g.add("Clip", *inputs(g, a), g.constant(low), g.constant(high)), feeds_of(a), clipped)
    both(lambda g: g.add("Clip", *inputs(g, a, low, high)), feeds_of(a, low, high), clipped)
    chosen = np.arange(a.size) % 2 == 0
    wanted = np.where(chosen, a, high)
    both(lambda g: g.add("Where", *inputs(g, chosen, a), g.constant(high)), feeds_of(chosen, a), wanted)


@pytest.mark.parametrize("a", [I, U], ids=["int64", "uint64"])
def test_reductions(a: np.ndarray):
    rows = np.stack([a, a[::-1]])
    folds: dict[str, Callable[[Sequence[int]], int]] = {"ReduceSum": sum, "ReduceMax": max, "ReduceMin": min}
    folds |= {"ReduceProd": lambda row: int(np.prod(np.array(row, object)))}
    folds |= {"ReduceSumSquare": lambda row: sum(v * v for v in row), "ReduceL1": lambda row: sum(map(abs, row))}
    for name, f in folds.items():
        wanted = each(lambda row: 0, a[:1]).repeat(2)
        for i, row in enumerate(rows.tolist()):
            wanted[i] = np.array(f(row) % 2**64, np.uint64).astype(a.dtype)
        both(lambda g, n=name: g.add(n, *inputs(g, rows), g.constant([1]), keepdims=False), feeds_of(rows), wanted)


@pytest.mark.parametrize("a", [I, U], ids=["int64", "uint64"])
def test_order_and_running_sums(a: np.ndarray):
    near = np.array([[BIG, BIG - 1, BIG + 1, BIG + 2, BIG - 2]], a.dtype)  # float64 can't tell them apart
    both(lambda g: g.add("ArgMax", *inputs(g, near), axis=1), feeds_of(near), np.array([[3]]))
    both(lambda g: g.add("ArgMin", *inputs(g, near), axis=1), feeds_of(near), np.array([[4]]))
    both(
        lambda g: g.add("TopK", *inputs(g, near), g.constant([3]), outputs=2),
        feeds_of(near),
        near[:, [3, 2, 0]],
        np.array([[3, 2, 0]]),
    )
    total = np.cumsum(a)  # wraps, as it is of 64 bits
    both(lambda g: g.add("CumSum", *inputs(g, a), g.constant(0)), feeds_of(a), total)
    twice = np.concatenate([near[0], near[0]])
    both(lambda g: g.add("Unique", *inputs(g, twice)), feeds_of(twice), np.sort(near[0]))


def test_moves_and_positions():
    places = np.array([10, -11, 3], np.int64)
    both(lambda g: g.add("Gather", *inputs(g, I, places)), feeds_of(I, places), I[places])
    both(lambda g: g.add("GatherElements", *inputs(g, I, places)), feeds_of(I, places), I[places])
    wanted = I.copy()
    np.add.at(wanted, places, np.int64(BIG))
    added = np.full(3, BIG, np.int64)
    both(
        lambda g: g.add("ScatterElements", *inputs(g, I, places, added), reduction="add"),
        feeds_of(I, places, added),
        wanted,
    )
    both(
        lambda g: g.add("Pad", *inputs(g, I), g.constant([1, 0]), g.constant(np.int64(BIG))),
        feeds_of(I),
        np.concatenate([[np.int64(BIG)], I]),
    )
    both(lambda g: g.add("OneHot", *inputs(g, np.arange(3)), g.constant(3), g.constant(I[:2])), feeds_of(np.arange(3)),
         np.where(np.eye(3, dtype=bool), I[1], I[0]))  # fmt: skip


@pytest.mark.sample(6)
@pytest.mark.parametrize("place", [2**32, 2**32 + 1, -(2**32), 2**62])
@pytest.mark.parametrize("op", ["Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND"])
def test_a_position_whose_low_bits_are_in_range_is_refused(op: str, place: int):
    at = np.array([[place]] if op.endswith("ND") else [place], np.int64)
    arrays = (I, at, I[:1]) if op.startswith("Scatter") else (I, at)
    b = Builder("far")
    model = graphc.compile(b.build((b.add(op, *inputs(b, *arrays)),)), threads=1)
    with pytest.raises(graphc.GraphcError, match="out of range"):
        model.run(feeds_of(*arrays))


@pytest.mark.parametrize("start", [BIG, -BIG, 2**62, 2**31 - 2])
def test_range(start: int):
    three = [np.array(v, np.int64) for v in (start, start + 9, 2)]
    both(lambda g: g.add("Range", *map(g.constant, three)), {}, np.arange(start, start + 9, 2))
    both(lambda g: g.add("Range", *inputs(g, *three)), feeds_of(*three), np.arange(start, start + 9, 2))
    steps = [np.array(v) for v in (2.0**53, 2.0**53 + 8, 2.0)]
    both(lambda g: g.add("Range", *inputs(g, *steps)), feeds_of(*steps), np.arange(2.0**53, 2.0**53 + 8, 2))


def test_products():
    a, b = np.stack([I[:4], J[:4]]), np.stack([J[:4], I[4:8]], 1)
    wanted = np.array([[sum(x * y for x, y in zip(r, c)) for c in b.T.tolist()] for r in a.tolist()], object)
    wanted = ((wanted + 2**63) % 2**64 - 2**63).astype(np.int64)
    both(lambda g: g.add("MatMul", *inputs(g, a, b)), feeds_of(a, b), wanted)
    both(lambda g: g.add("MatMul", *inputs(g, a), g.constant(b)), feeds_of(a), wanted)
    both(lambda g: g.add("Einsum", *inputs(g, a, b), equation="ij,jk->ik"), feeds_of(a, b), wanted)


CASTS = [
    (I, "uint64"),
    (U, "int64"),
    (I, "int32"),
    (I, "float64"),
    (U, "float64"),
    (np.array([2.0**53 + 2, -(2.0**62), 2.0**31 + 3, -5.9]), "int64"),
    (np.array([2.0**63 + 2.0**12, 2.0**53 + 2, 5.9]), "uint64"),
    (D[[0, 1, 3, 4, 5]], "float32"),
    (np.array([BIG, 2**24 + 1, 2**62 + 3, -(2**40) - 1]), "float32"),
    (np.array([2**64 - 1, 2**63 + 2**39, 2**24 + 1], np.uint64), "float32"),
]


@pytest.mark.parametrize("a, to", CASTS, ids=[f"{a.dtype}-{to}" for a, to in CASTS])
def test_casts(a: np.ndarray, to: str):
    both(lambda g: g.add("Cast", *inputs(g, a), to=np.dtype(to)), feeds_of(a), a.astype(to))


def test_a_sequence_of_casts_rounds_where_it_says():
    """No pass drops a step that loses something."""
    for path in (
        ["float64", "int64"],
        ["float32", "int64"],
        ["int32", "int64"],
        ["uint64", "int64"],
        ["float32", "float64"],
    ):
        wanted = I[[0, 1, 4, 5, 6, 7]]
        start = wanted

        def make(g: Builder, path=path, start=start):
            (y,) = inputs(g, start)
            for kind in path:
                y = g.add("Cast", y, to=np.dtype(kind))
            return y

        for kind in path:
            wanted = wanted.astype(kind)
        both(make, feeds_of(start), wanted)


FLOATS: dict[str, Callable] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
}
FLOATS |= {"Min": np.minimum, "Less": np.less, "Equal": np.equal}


@pytest.mark.parametrize("name", FLOATS)
def test_doubles(name: str):
    with np.errstate(over="ignore"):
        wanted = FLOATS[name](D, E)
    both(lambda g: g.add(name, *inputs(g, D, E)), feeds_of(D, E), wanted)
    for c in (np.float64(1 + 2**-40), np.float64(2.0**53 + 2), np.float64(0.1)):
        with np.errstate(over="ignore"):
            wanted = FLOATS[name](D, c)
        both(lambda g, c=c: g.add(name, *inputs(g, D), g.constant(c)), feeds_of(D), wanted)


@pytest.mark.parametrize(
    "name", ["Exp", "Log", "Tanh", "Sigmoid", "Sqrt", "Erf", "Sin", "Softplus", "Gelu", "Reciprocal"]
)
def test_functions_of_doubles(name: str):
    """To 1e-13, which no way through float32 gives."""
    x = np.array([1 + 2**-40, 0.1, 2.5, 3.75, 0.3, 1e-3, 17.25], np.float64)
    import math

    def gelu(v: float) -> float:
        return v * 0.5 * (1 + math.erf(v / math.sqrt(2)))

    f = {
        "Sigmoid": lambda v: 1 / (1 + math.exp(-v)),
        "Softplus": lambda v: math.log1p(math.exp(v)),
        "Gelu": gelu,
        "Reciprocal": lambda v: 1 / v,
    }.get(name) or getattr(math, name.lower())
    b = Builder("doubles")
    model = graphc.compile(b.build((b.add(name, *inputs(b, x)),)), threads=1)
    np.testing.assert_allclose(model(x), [f(v) for v in x.tolist()], rtol=1e-13)


def test_integer_powers():
    base, exponent = np.array([3, -3, 2, 10, 2**31 + 1, 7]), np.array([39, 39, 62, 18, 2, 22])
    wanted = each(lambda a, b: a**b, base, exponent)
    both(lambda g: g.add("Pow", *inputs(g, base, exponent)), feeds_of(base, exponent), wanted)
    for n in (2, 3, 5):
        wanted = each(lambda a, n=n: a**n, I)
        both(lambda g, n=n: g.add("Pow", *inputs(g, I), g.constant(n)), feeds_of(I), wanted)


def graph_of_scalars() -> Graph:
    b = Builder("scalars")
    x = b.input("x", "int64", (11,))
    return b.build((b.add("Min", b.add("Add", x, b.constant(BIG)), b.constant(2**62 + 1)),))


@pytest.mark.slow
@pytest.mark.cuda
def test_on_the_emulated_device():
    want = np.minimum(I + BIG, 2**62 + 1)
    (got,) = graphc.compile(graph_of_scalars(), target="cuda:emulate").run({"x": I}).values()
    np.testing.assert_array_equal(got, want)
