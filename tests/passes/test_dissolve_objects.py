"""Sequences and optionals of known elements leave nothing behind; what is not known stays."""

import numpy as np
import pytest
from passcheck import F32, build, ints, left, refused, rewritten

from graphc.bundles import closed, opened
from graphc.graph import Builder, Graph, Value
from graphc.interpret import interpret
from graphc.objects import Loose, mapping, optional, sequence
from graphc.passes.dissolve_objects import MOST_ELEMENTS, MOST_NODES, arranging, dissolve_objects, dissolving
from graphc.structures import MOST_TENSORS, Whole, form, structure
from graphc.types import TensorType
from graphc.verify import verify


def number(b: Builder, n: int) -> Value:
    return b.constant(n, np.int64)


def two(b: Builder) -> tuple[Value, Value, Value]:
    """A sequence of two inputs, and these."""
    x, y = b.input("x", F32, (2, 3)), b.input("y", F32, (4, 3))
    return b.add("SequenceConstruct", x, y), x, y


GONE = {
    "SequenceLength": lambda b: b.add("SequenceLength", two(b)[0]),
    "SequenceAt": lambda b: b.add("Neg", b.add("SequenceAt", two(b)[0], number(b, -1))),
    "SequenceAt of one": lambda b: b.add("Neg", b.add("SequenceAt", b.add("SequenceConstruct", b.input("x", F32, (3,))), ints(b, 0))),
    "SequenceErase": lambda b: b.add("ConcatFromSequence", b.add("SequenceErase", two(b)[0]), axis=0),
    "SequenceErase of the first": lambda b: b.add("SequenceLength", b.add("SequenceErase", two(b)[0], number(b, 0))),
    "ConcatFromSequence": lambda b: b.add("ConcatFromSequence", two(b)[0], axis=-2),
    "ConcatFromSequence, a new axis": lambda b: b.add(
        "ConcatFromSequence", b.add("SequenceConstruct", *[b.input("x", F32, (2, 3))] * 3), axis=-1, new_axis=True
    ),
    "SplitToSequence": lambda b: b.add("ConcatFromSequence", b.add("SplitToSequence", b.input("x", F32, (5, 2)), number(b, 2)), axis=0),
    "SplitToSequence, of nothing": lambda b: b.add("SequenceLength", b.add("SplitToSequence", b.input("x", F32, (0, 2)))),
    "SplitToSequence without the axis": lambda b: b.add("SequenceAt", b.add("SplitToSequence", b.input("x", F32, (5, 2)), axis=1, keepdims=False), number(b, 1)),
    "OptionalHasElement of none": lambda b: b.add("OptionalHasElement"),
    "OptionalHasElement of a tensor": lambda b: b.add("OptionalHasElement", b.input("x", F32, (2,))),
    "OptionalHasElement of an empty one": lambda b: b.add("OptionalHasElement", b.add("Optional", type=TensorType(F32, (2,)))),
    "OptionalGetElement": lambda b: b.add("Neg", b.add("OptionalGetElement", b.add("Optional", b.input("x", F32, (2,))))),
    "OptionalGetElement of a sequence": lambda b: b.add("SequenceLength", b.add("OptionalGetElement", two(b)[0])),
    "a sequence of sequences": lambda b: b.add(
        "SequenceLength", b.add("SequenceAt", b.add("SequenceConstruct", two(b)[0], b.add("SequenceEmpty")), number(b, 1))
    ),
    "Identity": lambda b: b.add("SequenceLength", b.add("Identity", two(b)[0])),
}  # fmt: skip


@pytest.mark.parametrize("name", GONE)
def test_nothing_is_left(name):
    ops = left(dissolve_objects, build(GONE[name]))
    assert not any("Sequence" in op or "Optional" in op for op in ops), ops


@pytest.mark.parametrize("at, want", [(None, "xyz"), (0, "zxy"), (1, "xzy"), (2, "xyz"), (-1, "xzy"), (-2, "zxy")])
def test_where_an_element_is_inserted(at, want):
    def make(b):
        s, *_ = two(b)
        position = [] if at is None else [number(b, at)]
        t = b.add("SequenceInsert", s, b.input("z", F32, (1, 3)), *position)
        return [b.add("Neg", b.add("SequenceAt", t, number(b, i))) for i in range(3)]

    graph = rewritten(dissolve_objects, build(make))
    assert "".join(n.inputs[0].name for n in graph.nodes) == want


KEPT = {
    "a position that is computed": (lambda b: b.add("SequenceAt", two(b)[0], b.add("Cast", b.input("i", F32, ()), to="int64")), ""),
    "elements of shapes that data decides": (
        lambda b: b.add("ConcatFromSequence", b.add("SequenceConstruct", b.add("NonZero", b.input("x", F32, (3,)))), axis=0),
        "are not known",
    ),
    "too many parts": (
        lambda b: b.add("SequenceLength", b.add("SplitToSequence", b.input("x", F32, (MOST_ELEMENTS + 1,)))),
        "too many",
    ),
}  # fmt: skip


def _of_two_shapes(b: Builder) -> Value:
    s = b.add("SequenceConstruct", b.input("x", F32, (2, 3)), b.input("y", F32, (2, 2)))
    return b.add("ConcatFromSequence", s, axis=0)


@pytest.mark.parametrize("name", KEPT)
def test_what_is_not_known_stays(name):
    make, reason = KEPT[name]
    assert reason in refused(dissolve_objects, build(make))


@pytest.mark.parametrize("op, at", [("SequenceAt", 2), ("SequenceAt", -3), ("SequenceErase", 2), ("SequenceInsert", 3)])
def test_positions_that_are_none_stay_for_the_call_to_say_so(op, at):
    b = Builder()
    s, x, _ = two(b)
    operands = [s, x, number(b, at)] if op == "SequenceInsert" else [s, number(b, at)]
    graph = b.build({"y": b.add(op, *operands)})
    assert dissolve_objects(graph) is graph


def test_shapes_that_do_not_fit_stay_for_the_call_to_say_so():
    b = Builder()
    graph = b.build({"y": _of_two_shapes(b)})
    assert dissolve_objects(graph) is graph


# --- loops --------------------------------------------------------------------------------------------------------------
def loop(trips: int | None, nodes: int = 1) -> Graph:
    """A loop that appends its counter, as so many rows, to a sequence; and collects it."""
    state = sequence(TensorType(F32, (3,)))
    counter, go, s = Value("i", TensorType(np.int64, ())), Value("go", TensorType(bool, ())), Value("s", state)
    inner = Builder("body")
    inner.inputs = [counter, go, s]
    v = inner.add("Expand", inner.add("Cast", counter, to=F32), inner.constant([3], np.int64))
    for _ in range(nodes - 1):
        v = inner.add("Neg", v)
    body = inner.build({"go_on": go, "t": inner.add("SequenceInsert", s, v), "v": v})
    b = Builder()
    limit = b.input("n", np.int64, ()) if trips is None else number(b, trips)
    start = b.add("SequenceConstruct", b.input("x", F32, (3,)))
    t, rows = b.add("Loop", limit, b.constant(True), start, outputs=2, body=body, n_states=1)
    return b.build(
        {"joined": b.add("ConcatFromSequence", t, axis=0), "count": b.add("SequenceLength", t), "rows": rows}
    )


@pytest.mark.parametrize("trips", [0, 1, 3])
def test_loops_are_written_out(trips):
    graph = loop(trips)
    after = dissolve_objects(graph)
    verify(after)
    assert not any(n.op.objects and n.op.name != "Identity" or n.op.holds_graphs for n in after.nodes)
    x = np.float32([7, 8, 9])
    want, got = interpret(graph, {"x": x}, strict=False), interpret(after, {"x": x})
    for name, a in want.items():
        np.testing.assert_array_equal(got[name], a, strict=True)
    assert got["joined"].tolist() == [7, 8, 9, *np.repeat(np.arange(trips), 3)]


@pytest.mark.parametrize("graph", [loop(None), loop(MOST_NODES), loop(MOST_NODES // 8, 9)])
def test_long_loops_stay(graph):
    assert any(n.op.name == "Loop" for n in dissolve_objects(graph).nodes)


# --- graphs taken apart ---------------------------------------------------------------------------------------------------
A, B = np.ones((2, 3), np.float32), np.zeros((1, 3), np.float32)
ROWS = TensorType(F32, ("n", 3))
TYPES = {
    "sequence": (sequence(ROWS), [A, B]),
    "empty": (sequence(ROWS), []),
    "of any rank": (sequence(Loose(F32)), [A, B[0]]),
    "of sequences": (sequence(sequence(ROWS)), [[A], [], [B, A]]),
    "optional": (optional(ROWS), A),
    "no optional": (optional(ROWS), None),
    "optional sequence": (optional(sequence(ROWS)), [A, B]),
}


def handed_on(t, name: str = "s") -> Graph:
    b = Builder()
    b.inputs.append(Value(name, t))
    return b.build({"t": b.add("Identity", b.inputs[0]), "u": b.inputs[0]})


def flat(value):
    return [a for item in value for a in flat(item)] if isinstance(value, list) else [] if value is None else [value]


@pytest.mark.parametrize("name", TYPES)
def test_inputs_and_results_are_tensors(name):
    t, value = TYPES[name]
    graph = opened(handed_on(t), {"s": structure("s", value, t)})
    verify(graph)
    whole, made = closed(dissolve_objects(graph))
    verify(whole)
    assert not whole.nodes and not any(v.type.dtype == object for v in (*whole.inputs, *whole.outputs))
    arrays = flat(value)
    assert [(v.type.dtype, v.type.rank) for v in whole.inputs] == [(a.dtype, a.ndim) for a in arrays]
    assert all(v.type.shape[1] == 3 for v in whole.inputs if v.type.rank == 2 and "any" not in name)
    assert len(whole.outputs) == 2 * len(arrays) and [*flat(made)] == [*range(2 * len(arrays))]


@pytest.mark.parametrize(
    "t, value", [(mapping(np.int64, ROWS), {1: A}), (sequence(sequence(ROWS)), []), (sequence(Loose()), [])]
)
def test_what_is_not_taken_apart(t, value):
    with pytest.raises(Whole):
        structure("s", value, t)


def test_names_stay_apart():
    b = Builder()
    b.inputs.append(Value("s", sequence(ROWS)))
    x = b.input("s[0]", F32, (3,))
    with pytest.raises(Whole):
        opened(b.build([b.inputs[0], x]), {"s": structure("s", [A], sequence(ROWS))})


def test_structures_are_told_apart():
    values = [[], [A], [A, A], [A, B[0]], [A.astype(np.float64)], [[A]], None, A, [[], [A]], [[A], []]]
    assert len({form(v) for v in values}) == len(values)
    assert form([A, B]) == form([B, A[:0]])
    assert MOST_TENSORS < MOST_ELEMENTS


def test_operands_that_arrange():
    """Positions in sequences of tensors; not of those that are given whole, or that a loop makes."""
    b = Builder()
    given = Value("given", sequence(ROWS))
    b.inputs.append(given)
    i, j, k = (b.input(name, np.int64, ()) for name in "ijk")
    s = b.add("SequenceInsert", two(b)[0], b.input("z", F32, (1, 3)), i)
    graph = b.build([b.add("SequenceAt", s, j), b.add("SequenceAt", given, k)])
    assert [v.name for n in dissolving(graph) for v in arranging(n)] == ["i", "j"]
    assert [v.name for n in dissolving(graph, [given]) for v in arranging(n)] == ["i", "j", "k"]
