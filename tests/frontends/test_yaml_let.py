"""`let`: elementwise expressions, against NumPy; and what is said of wrong ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc
from graphc.errors import CheckError, GraphcError
from graphc.frontends.yaml_load import loads_yaml

X = np.array([[-1.5, 0.25, 0.75], [2.0, -0.5, 1.25]], np.float32)
N = np.array([[-7, -3, 0], [2, 5, 8]], np.int64)
FLOAT = {"rtol": 2e-6, "atol": 1e-6}  # of a few roundings of float32

HEAD = """
graphc: 1
params: {s: 0.5, k: 3}
inputs: {x: [n, 3], y: [n, 3], c: {shape: [n, 3], dtype: int64}, t: {shape: [n, 3], dtype: bool}}
net:
"""


def run(steps: str, output: str = "last") -> np.ndarray:
    model = graphc.compile(loads_yaml(f"{HEAD}{steps}\noutputs: {{r: {output}}}\n"))
    feeds = {"x": X, "y": X[::-1] + np.float32(0.125), "c": N, "t": X > 0}
    return model.run(feeds)["r"]


Y, T = X[::-1] + np.float32(0.125), X > 0
CASES: list[tuple[str, Any]] = [
    ("x + 2*y - 1", X + 2 * Y - 1),
    ("x - y - 1", X - Y - 1),
    ("-x^2", -(X**2)),
    ("2^-1 * x", X / 2),
    ("2^x", 2**X),
    ("x ** 2 ^ 1", X**2),
    ("x^$k", X**3),
    ("exp(-(x - y)^2/(2*$s^2))", np.exp(-((X - Y) ** 2) / 0.5)),
    ("x // 0.3", X // np.float32(0.3)),
    ("x % 0.5", X % np.float32(0.5)),
    ("c // 3", N // 3),
    ("c // -3", N // -3),
    ("c % 3", N % 3),
    ("c % -3", N % -3),
    ("c^2", N**2),
    ("float(c)/2", N / 2),
    ("float(c*c)^0.5", abs(N).astype(np.float32)),
    ("int(x)", X.astype(np.int64)),
    ("where(x > 0, x, -1)", np.where(X > 0, X, -1)),
    ("where(t, 1.0, 0.5)", np.where(T, 1, 0.5)),
    ("where(t and not (x >= 1 or c == 0), x, y)", np.where(T & ~((X >= 1) | (N == 0)), X, Y)),
    ("where(x != y, x, y)", np.where(X != Y, X, Y)),
    ("min(x, y, 0.5) + max(x, -1)", np.minimum(np.minimum(X, Y), 0.5) + np.maximum(X, -1)),
    ("clip(x, -1, $s)", np.clip(X, -1, 0.5)),
    ("sqrt(abs(x)) + sign(x)*log(1 + abs(x))", np.sqrt(abs(X)) + np.sign(X) * np.log(1 + abs(X))),
    ("sin(pi*x) + cos(x) + tanh(x)", np.sin(np.pi * X) + np.cos(X) + np.tanh(X)),
    ("round(x*2) + floor(x) + ceil(x)", np.round(X * 2) + np.floor(X) + np.ceil(X)),
    ("sigmoid(x) + relu(x)", 1 / (1 + np.exp(-X)) + np.maximum(X, 0)),
    ("1/(1 + exp(-x))", 1 / (1 + np.exp(-X))),
    ("min(1, 2)*x", X),
    ("x/sqrt(4)*round(2.6)", X * 1.5),
    ("3 > 2 and t", T),
]


@pytest.mark.parametrize("text, want", CASES, ids=[t for t, _ in CASES])
def test_expressions(text: str, want: np.ndarray):
    got = run(f"  - let: {text}")
    assert got.dtype.kind == np.asarray(want).dtype.kind
    np.testing.assert_allclose(got, want, **FLOAT)


def test_names_see_those_before_them():
    steps = "  - relu: {from: x}\n  - let: {a: last + 1, b: a*a, c2: b - last}"
    a = np.maximum(X, 0) + 1
    np.testing.assert_allclose(run(steps), a * a - np.maximum(X, 0), **FLOAT)
    np.testing.assert_allclose(run(steps, "a"), a, **FLOAT)


def test_it_is_one_kernel():
    model = graphc.compile(loads_yaml(f"{HEAD}  - let: {{d: (x - y)^2, g: exp(-d/(2*$s^2)), h: g*d + 1}}"))
    assert len(model.plan({"x": (8, 3), "y": (8, 3), "c": (8, 3), "t": (8, 3)}).steps) == 1


def test_in_blocks_loops_and_with_as():
    text = """
graphc: 1
inputs: {x: [n, 3]}
blocks:
  step:
    args: {rate: required}
    body: [{let: {slope: 2*input, next: input - $rate*slope}}]
net:
  - step: 0.25
  - let: last*2
    as: twice
  - loop: {n: 3, of: [{let: {twice: twice + $i}}]}
outputs: {y: twice}
"""
    np.testing.assert_allclose(graphc.compile(loads_yaml(text))(X), X + 3, **FLOAT)


@pytest.mark.parametrize(
    "text, message, column",
    [
        ("x + z", "no value is named 'z' here", 14),
        ("x + s", "no value is named 's' here", 14),
        ("esp(x)", "no function is named 'esp'", 10),
        ("sum(x)", "no function is named 'sum'", 10),
        ("c/2", "'/' would cut off what whole numbers do not divide", 10),
        ("c^0.5", "the power of whole numbers would be cut off", 10),
        ("c^-1", "the power of whole numbers would be cut off", 10),
        ("c^x", "the power of whole numbers would be cut off", 10),
        ("c + 0.5", "0.5 is a float beside an operand of int64", 10),
        ("exp(x, y)", r"exp\(\) takes 1 argument, not 2", 10),
        ("clip(x, 1)", r"clip\(\) takes 3 arguments, not 2", 10),
        ("max(x)", r"max\(\) takes two arguments or more, not 1", 10),
        ("x +", "'x \\+' ends too early", 13),
        ("x y", "unexpected 'y'", 12),
        ("$q*x", "unknown variable '\\$q'", 10),
        ("t + 1", "1 is a whole number beside an operand of bool", 10),
        ("x and t", "And", 10),
    ],
)
def test_what_is_wrong(text: str, message: str, column: int):
    with pytest.raises(GraphcError, match=message) as caught:
        loads_yaml(f"{HEAD}  - let: {text}")
    assert caught.value.source.place == f"line 6, column {column}"


def test_every_problem_at_once():
    steps = "  - let: {a: x + z, b: a*2, c/d: x, x: y}\n  - let: {}\n  - let: {e: b + 1, f: x/q}"
    with pytest.raises(CheckError) as caught:
        loads_yaml(HEAD + steps)
    found = [e.message for e in caught.value.problems]
    assert found == [
        "no value is named 'z' here",
        "'c/d' can't be the name of a value",
        "the name 'x' is taken",
        "let defines nothing",
        "no value is named 'q' here",
    ]


LEAVES = st.sampled_from(["x", "y", "0.5", "2", "$s"])


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> str:
    if depth == 0 or draw(st.booleans()):
        return draw(LEAVES)
    a, b = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    form = draw(
        st.sampled_from(["({a}) + {b}", "({a}) - ({b})", "({a})*({b})", "-({a})", "max({a}, {b})", "tanh({a})"])
    )
    return form.format(a=a, b=b)


@settings(deadline=None, max_examples=30)
@given(expressions())
def test_any_expression_is_that_of_numpy(text: str):
    names = {"x": X.astype(np.float64), "y": Y.astype(np.float64), "max": np.maximum, "tanh": np.tanh}
    want = eval(text.replace("$s", "0.5"), {"__builtins__": {}}, names)  # noqa: S307
    np.testing.assert_allclose(run(f"  - let: {text} + 0*x"), want + 0 * X, rtol=1e-5, atol=1e-4)  # products of sums
