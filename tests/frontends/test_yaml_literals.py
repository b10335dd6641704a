"""Numbers in YAML models: what is written (2, 2.0, true) decides the dtypes, and what does not fit is an error."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc
from graphc.backends.reference import run
from graphc.errors import GraphcError, LoadError
from graphc.frontends.onnx_export import to_onnx
from graphc.frontends.yaml_expr import ExprError, evaluate
from graphc.frontends.yaml_load import loads_yaml
from graphc.frontends.yaml_syntax import parse


def load(net: str, dtype: str = "float32", shape: str = "[3]", head: str = "", **options):
    return loads_yaml(f"graphc: 1\n{head}inputs: {{x: {{shape: {shape}, dtype: {dtype}}}}}\nnet: {net}", **options)


def result(net: str, x: np.ndarray, head: str = "", **options) -> np.ndarray:
    graph = load(net, x.dtype.name, str(list(x.shape)), head, **options)
    return run(graph, {"x": x})["output"]


def step(op: str, *inputs: str, **attrs: str) -> str:
    return f"[{{{op}: {{{''.join(f'{k}: {v}, ' for k, v in attrs.items())}inputs: [{', '.join(inputs)}]}}}}]"


X = np.array([-1.0, 0.0, 1.0], np.float32)


# --- operands ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("yes", "half", "dtype"), [("1.0", "2.0", np.float32), ("1.0", "2", np.float32), ("1", "2", np.int64)])  # fmt: skip
def test_a_choice_between_numbers_has_their_type(yes: str, half: str, dtype: type):
    """On the CPU, in NumPy and in ONNX Runtime by way of an ONNX file."""
    net = f"[{{Greater: {{inputs: [x, 0]}}}}, {{Where: {{inputs: [last, {yes}, 0]}}}}, {{Div: {{inputs: [last, {half}]}}}}]"
    graph = load(net)
    session = onnxruntime.InferenceSession(to_onnx(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    want = [0, 0, 0 if dtype is np.int64 else 0.5]
    for found in (run(graph, {"x": X})["output"], graphc.compile(graph)(X), session.run(None, {"x": X})[0]):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "uint64"]
)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Max", "Where", "Clip", "Concat", "Mod"])
def test_a_whole_number_takes_the_other_operands_type(op: str, dtype: str):
    x = np.array([0, 3, 5], dtype)
    nets = {
        "Where": (step("Where", "true", "2", "x"), np.full(3, 2)),
        "Clip": (step("Clip", "x", "2", "4"), np.clip(x, 2, 4)),
        "Concat": (step("Concat", "x", "[7]", axis="0"), [0, 3, 5, 7]),
        "Mod": (step("Mod", "x", "2", fmod="1"), x % 2),
        "Max": (step("Max", "4", "x", "1"), [4, 4, 5]),
    }
    plain = {"Add": x + 2, "Sub": x - np.array(2, dtype), "Mul": x * 2}
    net, want = nets[op] if op in nets else (step(op, "x", "2"), plain[op])
    found = result(net, x)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.asarray(want).astype(dtype))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_a_float_takes_the_type_of_other_floats_and_is_rounded_once(dtype: str):
    x = np.ones(3, dtype)
    found = result(step("Mul", "x", "0.1"), x)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.full(3, 0.1).astype(dtype))


def test_bfloat16_operands():
    net = "[{Cast: {to: bfloat16}}, {Add: {inputs: [last, 1]}}, {Mul: {inputs: [last, 0.5]}}]"
    assert load(net).outputs[0].dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize(
    ("literal", "want"),
    [
        ("2", np.int64(2)),
        ("2.0", np.float32(2)),
        (".5", np.float32(0.5)),
        ("1e3", np.float32(1000)),
        ("1_000", np.int64(1000)),
        ("1_000.5", np.float32(1000.5)),
        ("-0.0", np.float32(-0.0)),
        ("-0", np.int64(0)),
        (".inf", np.float32("inf")),
        ("-.inf", np.float32("-inf")),
        (".nan", np.float32("nan")),
        ("true", np.bool_(True)),
        ("True", np.bool_(True)),
        ("[1.0, 2]", np.array([1, 2], np.float32)),
        ("[[1, 2], [3, 4]]", np.array([[1, 2], [3, 4]])),
        ("[true, false]", np.array([True, False])),
        ("[1/2, 2]", np.array([0.5, 2], np.float32)),
        ("[7//2, 2*3]", np.array([3, 6])),
        ("0.1000000000000000055511151231257827021181583404541015625", np.float32(0.1)),
    ],
)
def test_a_tensor_is_what_is_written(literal: str, want: np.ndarray):
    found = result(f"[{{Constant: {{value: {literal}}}}}]", X)
    assert found.dtype == want.dtype
    np.testing.assert_array_equal(found, want)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(want)) if found.dtype.kind == "f" else None


@pytest.mark.parametrize(
    ("net", "dtype"),
    [
        (step("Range", "0", "4", "1"), "int64"),
        (step("Range", "0", "1", "0.25"), "float32"),
        (step("Where", "[true, false, true]", "1", "0.0"), "float32"),
        (step("OneHot", "[0, 2]", "3", "[0, 1]"), "int64"),
        (step("OneHot", "[0, 2]", "3", "[0.0, 1]"), "float32"),
        (step("ConstantOfShape", "[2]", value="[0.0]"), "float32"),
        (step("ConstantOfShape", "[2]", value="[1]"), "int64"),
        (step("Pow", "x", "2"), "float32"),
        (step("Pow", "x", "2.0"), "float32"),
        (step("CumSum", "x", "0"), "float32"),
        (step("Gather", "x", "[2, 0]"), "float32"),
        (step("QuantizeLinear", "x", "1"), "uint8"),
        (step("DequantizeLinear", "[1, 2]", "x", "0"), None),
        (step("Equal", "x", "0"), "bool"),
    ],
)
def test_operands_of_a_type_of_their_own(net: str, dtype: str | None):
    if dtype is None:
        with pytest.raises(LoadError, match="may be int8 or uint8"):
            load(net)
    else:
        assert result(net, X).dtype == dtype


def test_scales_of_a_resize_may_be_whole_numbers():
    found = result(step("Resize", "x", "null", "[1, 1, 2, 2]"), np.ones((1, 1, 2, 3), np.float32))
    assert found.shape == (1, 1, 4, 6)


def test_the_type_is_known_where_the_shape_is_not():
    head = "graphc: 1\ninputs: {x: {shape: [4], dtype: float64}, to: {shape: [k], dtype: int64}}\nnet: "
    net = "[{Reshape: {inputs: [x, to]}}, {Mul: {inputs: [last, 2]}}, {Cast: {to: int8}}, {Add: {inputs: [last, 100]}}]"
    graph = loads_yaml(head + net)
    found = run(graph, {"x": np.arange(4.0), "to": np.array([2, 2])})["output"]
    np.testing.assert_array_equal(found, np.array([[100, 102], [104, 106]], np.int8), strict=True)
    with pytest.raises(LoadError, match="0.5 is a float beside an operand of int8"):
        loads_yaml(head + net.replace("100", "0.5"))


# --- where they come from ---------------------------------------------------------------------------------------------
def test_params_arguments_and_iterations_keep_their_kind():
    head = "params: {one: 1.0, two: 2}\nblocks: {b: {args: {by: required, more: 2*$by}, body: [{Mul: {inputs: [input, $more]}}]}}\n"
    where = "[{Greater: {inputs: [x, 0]}}, {Where: {inputs: [last, $one, 0]}}, {b: 0.25}]"
    np.testing.assert_array_equal(result(where, X, head), np.array([0, 0, 0.5], np.float32), strict=True)
    np.testing.assert_array_equal(result(where, X, head, params={"one": 3}), np.array([0, 0, 1.5], np.float32), strict=True)  # fmt: skip
    ints = np.array([1, 2, 3], np.int16)
    np.testing.assert_array_equal(result("[{b: $two}]", ints, head, params={"two": 3.0}), ints * 6, strict=True)
    turns = "[{repeat: {n: 3, of: {Add: {inputs: [last, $i]}}}}, {loop: {n: 2, of: [{Sub: {inputs: [last, $i]}}]}}]"
    np.testing.assert_array_equal(result(turns, ints), ints + 2, strict=True)
    with pytest.raises(LoadError, match="0.0 is a float beside an operand of int16"):
        load("[{repeat: {n: 3, of: {Add: {inputs: [last, $i/2]}}}}]", "int16")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("2*3", 6),
        ("2*3.0", 6.0),
        ("6/2", 3.0),
        ("7//2", 3),
        ("7//2.0", 3.0),
        ("max(1, 2)", 2),
        ("max(1, 2.0)", 2.0),
        ("max(3, 2.0)", 3.0),
        ("min(1, 2.0)", 1.0),
        ("-$zero", -0.0),
        ("1_000*2", 2000),
        ("-.inf", float("-inf")),
        ("max(-.inf, 1)", 1.0),
        ("1e30*2", 2e30),
        ("-$big", -1e30),
    ],
)
def test_arithmetic_keeps_the_kind(text: str, want: float):
    found = evaluate(text, {"zero": 0.0, "big": 1e30}.__getitem__)
    assert type(found) is type(want) and repr(found) == repr(want)


@pytest.mark.parametrize("text", ["1e999", "1e308*10", "1__0", "1_", "_1 + 1"])
def test_no_numbers(text: str):
    with pytest.raises(ExprError):
        evaluate(text, {}.__getitem__)


@settings(max_examples=40, deadline=None)
@given(st.one_of(st.integers(), st.floats()))
def test_numbers_are_read_as_python_reads_them(value: float):
    text = repr(value).replace("inf", ".inf").replace("nan", ".nan")
    found = parse(text).value
    assert type(found) is type(value) and (found == value or found != found)


def test_sizes_are_whole_however_they_are_computed():
    graph = load("[relu]", shape="[2*half, $c/2, '6//2']", head="params: {c: 8}\n")
    assert [str(d) for d in graph.inputs[0].shape] == ["2*half", "4", "3"]
    with pytest.raises(LoadError, match="a dim of 'x' must be a size"):
        load("[relu]", shape="[$c/3]", head="params: {c: 8}\n")


# --- mistakes ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("net", "dtype", "said"),
    [
        (step("Mul", "x", "0.5"), "int64", "0.5 is a float beside an operand of int64\n  cast the operand first, by a step before this one: - cast: float32"),
        (step("Div", "x", "2.0"), "int32", "write 2, or cast the operand first"),
        (step("Mul", "x", ".inf"), "int8", "inf is a float beside"),
        (step("Clip", "x", "null", "0.5"), "uint8", "0.5 is a float beside"),
        (step("Add", "x", "300"), "int8", "300 does not fit int8 (-128 to 127)"),
        (step("Add", "x", "[1, -1]"), "uint8", "-1 does not fit uint8"),
        (step("Add", "x", "70000"), "float16", "70000 is too large for float16"),
        (step("Add", "x", "1e39"), "float32", "1e+39 is too large for float32\n  write .inf"),
        (step("Add", "x", "1e999"), "float64", "1e999 is too large"),
        (step("Equal", "x", "1"), "bool", "1 is a whole number beside an operand of bool\n  write true or false"),
        (step("Mul", "x", "true"), "float32", "true is a boolean beside an operand of float32\n  write 0 or 1"),
        (step("Where", "1", "x", "0"), "float32", "1 is a whole number, but bool is wanted here\n  write true or false"),
        (step("Gather", "x", "1.0"), "float32", "1.0 is a float, but int32 or int64 is wanted here\n  write a whole"),
        (step("Mul", "x", "[1, true]"), "float32", "holds both booleans and numbers"),
        (step("Mul", "x", "[[1, 2], [3]]"), "float32", "of one length"),
        (step("Mul", "x", "[a, 1]"), "float32", "not 'a'"),
        (step("Add", "1", "true"), "float32", "true is a boolean beside an operand of int64"),
        (step("QuantizeLinear", "x", "1", "128"), "float32", "128 may be int8 or uint8 or int16 or uint16 here"),
        ("[{Constant: {value: 9223372036854775808}}]", "float32", "does not fit int64"),
        ("[{scale: 0.5}]", "int64", "0.5 is a float beside an operand of int64"),
        ("[{clip: {low: -1}}]", "uint8", "-1 does not fit uint8"),
        ("[{branch: {join: mean, paths: {a: [], b: []}}}]", "int32", "a mean needs floats"),
        ("[{Add: {from: [x, 2]}}]", "float32", "numbers can be among the `inputs`"),
        ("[{Cast: {to: O}}]", "float32", "unknown dtype"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_an_error(net: str, dtype: str, said: str):
    with pytest.raises(GraphcError) as error:
        load(net, dtype)
    assert said in str(error.value)
    assert "line 3" in str(error.value)


@pytest.mark.parametrize("net", ["[{dense: 2}]", "[{unsqueeze: {axes: 0}}, {conv: 2}]", "[layernorm]"])
def test_layers_with_weights_take_floats(net: str):
    """The weights of a network of integers would all be 0."""
    with pytest.raises(LoadError, match="weights, which are floats"):
        load(net, "int64", "[2, 3, 4]")


@pytest.mark.parametrize(("net", "dtype"), [("[relu6]", "int32"), ("[{scale: 2}]", "int8"), ("[{clip: {low: 0, high: 1}}]", "uint8")])  # fmt: skip
def test_layers_take_whole_numbers_for_integers(net: str, dtype: str):
    assert load(net, dtype).outputs[0].dtype == dtype


def test_padding_with_negative_zero():
    found = result("[{pad: {by: 1, value: -0.0}}]", np.ones((1, 1, 1), np.float32))
    assert np.signbit(found).tolist() == [[[True, False, True]]]
