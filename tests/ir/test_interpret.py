"""The interpreter, and the control-flow operators that run graphs through it."""

from dataclasses import replace

import numpy as np
import pytest

from graphc.bind import bind
from graphc.errors import GraphcError, InputError, TypeRuleError
from graphc.graph import Builder, Graph
from graphc.interpret import interpret, run_node
from graphc.types import Sym, TensorType

F32 = np.dtype(np.float32)


def diamond() -> Graph:
    b = Builder("diamond")
    x = b.input("x", "float32", (Sym("n"), 2))
    r = b.add("Relu", x, name="r")
    return b.build({"sum": b.add("Add", r, r, name="s"), "relu": r})


def test_results_by_name_also_where_a_value_is_read_and_returned():
    out = interpret(diamond(), {"x": np.float32([[-1, 2]])})
    assert out["relu"].tolist() == [[0, 2]] and out["sum"].tolist() == [[0, 4]]


@pytest.mark.parametrize(
    "feeds, words",
    [
        ({}, "missing: x"),
        ({"x": np.zeros((1, 2), F32), "y": np.zeros(1)}, "unknown: y"),
        ({"x": np.zeros((1, 2))}, "float64[1, 2], the model wants float32[n, 2]"),
        ({"x": np.zeros((1, 3), F32)}, "float32[1, 3]"),
        ({"x": np.zeros(2, F32)}, "float32[2]"),
    ],
)
def test_wrong_inputs(feeds, words):
    with pytest.raises(InputError) as error:
        interpret(diamond(), feeds)
    assert words in str(error.value)


def test_one_symbol_is_one_number():
    b = Builder()
    x, y = b.input("x", "float32", (Sym("n"),)), b.input("y", "float32", (Sym("n"),))
    g = b.build({"z": b.add("Add", x, y)})
    with pytest.raises(InputError, match="'n' is 3"):
        interpret(g, {"x": np.zeros(3, F32), "y": np.zeros(1, F32)})


def test_not_strict_runs_in_a_wider_precision():
    out = interpret(diamond(), {"x": np.ones((1, 2))}, strict=False)
    assert out["sum"].dtype == np.float64


def test_errors_name_the_node():
    b = Builder()
    x, i = b.input("x", "float32", (3,)), b.input("i", "int64", (1,))
    g = b.build({"y": b.add("Gather", x, i, name="pick")})
    with pytest.raises(InputError, match="Gather 'pick'"):
        interpret(g, {"x": np.zeros(3, F32), "i": np.array([5])})


def test_a_result_of_another_type_than_inferred_is_an_error():
    node = diamond().nodes[0]
    wrong = replace(node, outputs=(replace(node.output, type=TensorType(np.float64, (1, 2))),))
    with pytest.raises(GraphcError, match="inferred float64"):
        run_node(wrong, [np.zeros((1, 2), F32)])


def test_an_exception_of_a_reference_becomes_an_error_with_the_operands():
    node = diamond().nodes[1]
    with pytest.raises(GraphcError, match=r"Add 's'(.|\n)*float32\[2\], float32\[3\]"):
        run_node(node, [np.zeros(2, F32), np.zeros(3, F32)])


# --- If ---------------------------------------------------------------------------------------------------------------
def branch(op: str, shape=(2, 3), dtype="float32", **attrs) -> Graph:
    b = Builder(op)
    return b.build({"y": b.add(op, b.input("x", dtype, shape), **attrs)})


def if_graph(yes: Graph, no: Graph) -> Graph:
    b = Builder()
    cond, x = b.input("cond", "bool", ()), b.input("x", "float32", (2, 3))
    return b.build({"y": b.add("If", cond, x, then_branch=yes, else_branch=no)})


def test_if_runs_the_chosen_branch():
    g = if_graph(branch("Relu"), branch("Neg"))
    x = np.float32([[-1, 2, 3], [4, -5, 6]])
    assert g.outputs[0].type == TensorType(F32, (2, 3))
    np.testing.assert_array_equal(interpret(g, {"cond": np.array(True), "x": x})["y"], np.maximum(x, 0))
    np.testing.assert_array_equal(interpret(g, {"cond": np.array(False), "x": x})["y"], -x)


def test_if_branches_of_different_types():
    dims = if_graph(branch("Relu"), branch("Flatten", axis=0)).outputs[0].shape
    assert dims == (Sym("Relu_1|Flatten_1.0"), Sym("Relu_1|Flatten_1.1"))
    assert if_graph(branch("Relu"), branch("ReduceMax", keepdims=False)).outputs[0].type is None
    with pytest.raises(TypeRuleError, match="on one way"):
        if_graph(branch("Relu"), branch("NonZero"))


def test_if_with_a_known_condition_has_the_type_of_its_branch():
    b = Builder()
    x = b.input("x", "float32", (2, 3))
    y = b.add("If", b.constant(False), x, then_branch=branch("Relu"), else_branch=branch("Flatten", axis=0))
    assert y.shape == (1, 6)


def test_captures_must_be_operands():
    b = Builder()
    with pytest.raises(TypeRuleError, match="then_branch takes 1 input, the node gives it 0"):
        b.add("If", b.input("cond", "bool", ()), then_branch=branch("Relu"), else_branch=branch("Neg"))


# --- Loop -------------------------------------------------------------------------------------------------------------
def counting_body(limit: float | None = None) -> Graph:
    """state + captured step each time, and the state itself collected; goes on while the state is below the limit."""
    b = Builder("body")
    b.input("i", "int64", ())
    go, s = b.input("go", "bool", ()), b.input("s", "float32", (2,))
    new = b.add("Add", s, b.input("step", "float32", (2,)))
    if limit is not None:
        first = b.add("Gather", new, b.constant(np.int64(0)))
        go = b.add("Less", first, b.constant(np.float32(limit)))
    return b.build({"go": go, "s_out": new, "seen": new})


def loop_graph(body: Graph, limit: int | None) -> Graph:
    b = Builder()
    s, step = b.input("s", "float32", (2,)), b.input("step", "float32", (2,))
    m = None if limit is None else b.constant(np.int64(limit))
    final, seen = b.add("Loop", m, None, s, step, body=body, n_states=1, outputs=("final", "seen"))
    return b.build({"final": final, "seen": seen})


FEEDS = {"s": np.float32([0, 10]), "step": np.float32([1, 2])}


def test_loop_counts():
    g = loop_graph(counting_body(), 3)
    assert [v.type for v in g.outputs] == [TensorType(F32, (2,)), TensorType(F32, (3, 2))]
    out = interpret(g, FEEDS)
    assert out["final"].tolist() == [3, 16]
    assert out["seen"].tolist() == [[1, 12], [2, 14], [3, 16]]


def test_loop_without_a_turn_collects_nothing():
    out = interpret(loop_graph(counting_body(), 0), FEEDS)
    assert out["final"].tolist() == [0, 10] and out["seen"].shape == (0, 2)


def test_loop_ends_by_its_condition():
    body = counting_body(limit=4)
    g = loop_graph(body, None)
    assert g.outputs[1].shape == (Sym(f"trips({body.outputs[0].name})"), 2)
    assert interpret(g, FEEDS)["final"].tolist() == [4, 18]


def test_a_state_that_grows_has_a_symbolic_dim():
    body = Builder("body")
    body.input("i", "int64", ())
    go, s = body.input("go", "bool", ()), body.input("s", "float32", (2,))
    grown = body.add("Concat", s, s, axis=0)
    b = Builder()
    y = b.add("Loop", b.constant(np.int64(3)), None, b.input("x", "float32", (2,)), n_states=1,
              body=body.build({"go": go, "s_out": grown}))  # fmt: skip
    assert y.shape == (Sym("s.0"),)
    assert interpret(b.build({"y": y}), {"x": np.float32([1, 2])})["y"].shape == (16,)


def test_a_bound_loop_has_numbers_inside():
    body = Builder("body")
    body.input("i", "int64", ())
    go, s = body.input("go", "bool", ()), body.input("s", "float32", (Sym("n"),))
    b = Builder()
    x = b.input("x", "float32", (Sym("n"),))
    y, seen = b.add("Loop", b.constant(np.int64(2)), None, x, n_states=1, outputs=2,
                    body=body.build({"go": go, "s_out": body.add("Relu", s), "seen": s}))  # fmt: skip
    bound = bind(b.build({"y": y, "seen": seen}), {"x": TensorType(F32, (5,))})
    assert [v.shape for v in bound.outputs] == [(5,), (2, 5)]


def test_binding_replaces_symbols_of_types_that_were_given():
    b = Builder()
    x, y = b.input("x", "float32", (Sym("n"), Sym("m"))), b.input("y", "float32", (Sym("m"),))
    sizes = b.add("Concat", b.add("Shape", x, start=0, end=1), b.constant(np.array([3])), axis=0)
    types = [TensorType(F32, (Sym("n") + 1 - 1, 3, Sym("m")))]
    zeros = b.add("ConstantOfShape", b.add("Concat", sizes, b.add("Shape", y), axis=0), types=types)
    graph = b.build({"y": b.add("Relu", zeros)})
    bound = bind(graph, {"x": TensorType(F32, (5, 2))})
    assert bound.outputs[0].shape == (5, 3, 2)
    two = bind(graph, {"x": TensorType(F32, (5, 2)), "y": TensorType(F32, (4,))})
    assert two.outputs[0].shape == (5, 3, Sym("m")), "one symbol for two sizes says nothing"


# --- Scan -------------------------------------------------------------------------------------------------------------
def scan_graph(x_shape=(3, 2), **attrs) -> Graph:
    """Running sums of the rows of x."""
    body = Builder("body")
    s, row = body.input("s", "float32", (2,)), body.input("row", "float32", (2,))
    total = body.add("Add", s, row)
    b = Builder()
    s0, x = b.input("s0", "float32", (2,)), b.input("x", "float32", x_shape)
    graph = body.build({"s_out": total, "row_out": total})
    final, sums = b.add("Scan", s0, x, body=graph, n_states=1, num_scan_inputs=1, outputs=2, **attrs)
    return b.build({"final": final, "sums": sums})


ROWS = np.float32([[1, 2], [3, 4], [5, 6]])
START = np.zeros(2, F32)


@pytest.mark.parametrize(
    "attrs, x, sums",
    [
        ({}, ROWS, np.cumsum(ROWS, 0)),
        ({"scan_input_directions": (1,)}, ROWS, np.cumsum(ROWS[::-1], 0)),
        ({"scan_output_directions": (1,)}, ROWS, np.cumsum(ROWS, 0)[::-1]),
        ({"scan_input_axes": (1,)}, ROWS.T, np.cumsum(ROWS, 0)),
        ({"scan_output_axes": (-1,)}, ROWS, np.cumsum(ROWS, 0).T),
    ],
)
def test_scan(attrs, x, sums):
    g = scan_graph(x.shape, **attrs)
    assert [v.shape for v in g.outputs] == [(2,), sums.shape]
    out = interpret(g, {"s0": START, "x": x})
    np.testing.assert_array_equal(out["sums"], sums)
    np.testing.assert_array_equal(out["final"], ROWS.sum(0))


def test_scan_of_nothing():
    out = interpret(scan_graph((0, 2), scan_output_axes=(1,)), {"s0": START, "x": np.zeros((0, 2), F32)})
    assert out["final"].tolist() == [0, 0] and out["sums"].shape == (2, 0)
