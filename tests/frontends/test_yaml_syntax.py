"""The syntax of YAML models: items and their places, bounds on what is read, expressions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.errors import LoadError
from graphc.frontends.yaml_expr import ExprError, evaluate, same_dim
from graphc.frontends.yaml_load import loads_yaml
from graphc.frontends.yaml_syntax import parse
from graphc.types import Sym


# --- syntax -----------------------------------------------------------------------------------------------------------
def test_scalars_follow_the_core_schema():
    text = "[1, -2, 1.5, .5, 1e-5, true, no, on, null, ~, 1:30, 2020-01-01, '7', 0x1F]"
    expected = [1, -2, 1.5, 0.5, 1e-5, True, "no", "on", None, None, "1:30", "2020-01-01", "7", "0x1F"]
    assert parse(text).plain() == expected


def test_every_item_knows_its_place():
    root = parse("a: 1\nb:\n  - x\n  - {c: 2}\n")
    assert (root.value["b"].value[1].value["c"].line, root.value["b"].value[1].value["c"].column) == (4, 9)
    assert root.value["b"].value[1].keys["c"] == (4, 6)


def test_aliases_are_followed():
    assert parse("a: &x [1, 2]\nb: *x").plain() == {"a": [1, 2], "b": [1, 2]}


_LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{c}: &{c} [{', '.join(['*' + chr(ord(c) - 1)] * 10)}]\n" for c in "bcdefghij"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a: [", "not valid YAML"),
        ("a: 1\n\tb: 2", "not valid YAML"),
        ("\x00", "not valid YAML"),
        (b"\xff\xfe\x00a", "not UTF-8"),
        ("a: 1\n--- \nb: 2", "several documents"),
        ("a: 1\na: 2", "'a' is given twice"),
        ("[a]: 1", "a key must be a name"),
        ("a: !!python/object/apply:os.system [ls]", "tag .* is not allowed"),
        ("a: !!binary aGk=", "tag .* is not allowed"),
        ("a: &x [*x]", "holds itself"),
        ("a: *x", "alias|undefined"),
        ("[" * 200 + "]" * 200, "nested deeper"),
        (_LAUGHS, "more than 100000 items"),
        ("x" * (1 << 20) + "x", "larger than 1 MB"),
        (r'a: "\ud83d"', "half of a character"),
        (r'"x\ude00\ud83d": 1', "half of a character"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(LoadError, match=message):
        parse(text)


def test_pairs_of_halves_are_characters_as_in_json():
    assert parse(r'"\ud83d\ude00\ufffd": "\ud834\udd1e!"').plain() == {"\U0001f600\ufffd": "\U0001d11e!"}


@settings(max_examples=25, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(alphabet="graphc: 1{}[]-&*!|>#'\"\n\t,?%@", max_size=80)))
def test_any_bytes_give_a_load_error_or_a_tree(data):
    try:
        parse(data)
    except LoadError as e:
        assert e.source.file


# --- expressions ------------------------------------------------------------------------------------------------------
_WORDS = {"c": 6, "s": 2, "act": "relu", "yes": True}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4*$c", 24),
        ("1 + 2*3 - 4", 3),
        ("-(2 - 5)//2", 1),
        ("7 % 4", 3),
        ("3/2", 1.5),
        ("1e-3", 1e-3),
        ("min($c, $s, 9)", 2),
        ("max(1, $c*2)", 12),
        ("$act == relu", True),
        ("$act != relu", False),
        ("$s == 2 and not $c < 3", True),
        ("$s > 2 or $yes", True),
        ("$act", "relu"),
        ("1/sqrt($c - 2)", 0.5),
        ("round($c*0.4) + ceil(2.1) - floor(-0.5)", 6),
        ("log(exp(abs(-2)))", 2.0),
    ],
)
def test_expressions(text, value):
    assert evaluate(text, _WORDS.__getitem__) == value


@pytest.mark.parametrize(
    "text",
    ["1 +", "(1", "1)", "1 2", "$c $s", "1 // 0", "a + 1", "__import__('os')", "$c.real", "2 and 3", "$act < 3", "min(a)",
     "9"*30 + "*" + "9"*30, "1e308*1e308*$c//1", "(" * 60 + "1" + ")" * 60, "1+" * 300 + "1", "not", "* 2", "x[0]", "$",
     "sqrt(-1)", "sqrt($act)", "log(0)", "exp(1000)", "ceil(.inf)", "sqrt(1, 2)", "tanh(1)"],
)  # fmt: skip
def test_wrong_expressions(text):
    with pytest.raises(ExprError):
        evaluate(text, _WORDS.__getitem__)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 50), st.sampled_from(["+", "-", "*", "//", "%"]))
def test_expressions_compute_as_python_does(a, b, c, sign):
    for text in (f"{a} {sign} {b} * {c}", f"({a} {sign} {b}) - {c}", f"-{a} {sign} {b}"):
        assert evaluate(text, _WORDS.__getitem__) == eval(text)  # noqa: S307  (the test's own text)


@settings(max_examples=25, deadline=None)
@given(st.text(alphabet="0123456789$cs+-*/%() <>=!.", max_size=20))
def test_any_text_gives_a_value_or_an_expression_error(text):
    try:
        evaluate(text, lambda name: 3)
    except ExprError as e:
        assert str(e)


def test_symbolic_dims():
    graph = loads_yaml("graphc: 1\ninputs: {x: [batch, 3, 2*h, '(w + 1)//2']}\nnet: [relu]")
    assert [str(d) for d in graph.inputs[0].shape] == ["batch", "3", "2*h", "(w + 1)//2"]


def test_same_dim_compares_by_value():
    h = Sym("h")
    assert same_dim((h - 1) // 2 + 1, (h + 1) // 2)
    assert not same_dim(h // 2, (h + 1) // 2)
    assert not same_dim(h, Sym("w"))
    assert same_dim(Sym("?"), Sym("?")) and not same_dim(Sym("?"), 3)
