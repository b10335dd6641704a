"""Operators on sequences and optionals, by their definitions on Python's lists."""

import numpy as np
import pytest

import graphc
from graphc.errors import GraphcError
from graphc.graph import Builder, Graph, Value
from graphc.interpret import run_node
from graphc.objects import Loose, ObjectType, box, common, optional, sequence, unbox
from graphc.op import Family, all_ops
from graphc.types import TensorType

X = np.arange(20, dtype=np.float32).reshape(5, 4)
A, B, C = X[:2].copy(), X[1].copy(), np.array(7, np.float32)
S = [A, B, C]
T = [X[i] + 1 for i in range(3)]
I = np.int64


def at(i):
    return np.array(i, I)


# (operands: arrays, lists for sequences, ('optional', what it holds) …), attributes, result
CASES = {
    "SequenceEmpty": [((), {}, []), ((), {"dtype": np.int64}, [])],
    "SequenceConstruct": [((A, B, C), {}, S), ((A,), {}, [A])],
    "SequenceInsert": [
        ((S, X), {}, [*S, X]),
        ((S, X, at(0)), {}, [X, *S]),
        ((S, X, at(-1)), {}, [A, B, X, C]),
        ((S, X, np.array(3, np.int32)), {}, [*S, X]),
        (([], X), {}, [X]),
    ],
    "SequenceErase": [((S,), {}, S[:2]), ((S, at(0)), {}, S[1:]), ((S, at(-2)), {}, [A, C])],
    "SequenceAt": [((S, at(1)), {}, B), ((S, at(-1)), {}, C), ((S, at(-3)), {}, A)],
    "SequenceLength": [((S,), {}, at(3)), (([],), {}, at(0))],
    "ConcatFromSequence": [
        (([A, X],), {"axis": 0}, np.concatenate([A, X])),
        (([A, A],), {"axis": -1}, np.concatenate([A, A], 1)),
        ((T,), {"axis": 0, "new_axis": True}, np.stack(T)),
        ((T,), {"axis": -1, "new_axis": True}, np.stack(T, -1)),
    ],
    "SplitToSequence": [
        ((X,), {}, [X[i : i + 1] for i in range(5)]),
        ((X,), {"axis": -1, "keepdims": False}, [X[:, i] for i in range(4)]),
        ((X, at(2)), {"keepdims": False}, [X[:2], X[2:4], X[4:]]),
        ((X, np.array([1, 0, 3], I)), {"axis": 1}, [X[:, :1], X[:, :0], X[:, 1:]]),
        ((X[:0], at(2)), {}, []),
    ],
    "Optional": [((A,), {}, A), ((S,), {}, S), ((None,), {"type": TensorType(np.float32, (2,))}, None)],
    "OptionalGetElement": [((("optional", A),), {}, A), ((("optional", S),), {}, S), ((A,), {}, A), ((S,), {}, S)],
    "OptionalHasElement": [
        ((("optional", A),), {}, np.array(True)),
        ((("optional", None),), {}, np.array(False)),
        ((A,), {}, np.array(True)),
        ((None,), {}, np.array(False)),
    ],
}  # fmt: skip
EVERY = [pytest.param(name, *case, id=f"{name}-{i}") for name, cases in CASES.items() for i, case in enumerate(cases)]


def type_of(x):
    if isinstance(x, tuple):
        return optional(Loose(np.dtype(np.float32)) if x[1] is None else type_of(x[1]))
    if isinstance(x, list):
        of = Loose(np.dtype(np.float32), nothing=True)
        for item in x:
            of = common(of, type_of(item))
        return sequence(of)
    return TensorType(x.dtype, x.shape)


def given(x):
    return x[1] if isinstance(x, tuple) else x


def graph_of(name, operands, attrs) -> Graph:
    b = Builder()
    b.inputs = [Value(f"x{i}", type_of(x)) for i, x in enumerate(operands) if x is not None]
    inputs = iter(b.inputs)
    return b.build({"y": b.add(name, *(None if x is None else next(inputs) for x in operands), **attrs)})


def same(got, want):
    if isinstance(want, list):
        assert isinstance(got, list) and len(got) == len(want)
        for g, w in zip(got, want):
            same(g, w)
    elif want is None:
        assert got is None
    else:
        np.testing.assert_array_equal(got, want, strict=True)


def test_every_operator_is_here():
    assert CASES.keys() == {name for name, op in all_ops().items() if op.family is Family.SEQUENCE and "::" not in name}


@pytest.mark.parametrize("name, operands, attrs, want", EVERY)
def test_by_its_definition(name, operands, attrs, want):
    """The reference, of the type that is inferred; and compiled, from and to Python's objects."""
    graph = graph_of(name, operands, attrs)
    arrays = [None if x is None else box(given(x)) if isinstance(type_of(x), ObjectType) else x for x in operands]
    (y,) = run_node(graph.nodes[0], arrays)  # checks the result against its type
    same(unbox(y), want)
    feeds = {f"x{i}": given(x) for i, x in enumerate(x for x in operands if x is not None)}
    same(graphc.compile(graph).run(feeds)["y"], want)


@pytest.mark.parametrize(
    "name, operands, attrs, message",
    [
        ("SequenceAt", (S, at(3)), {}, "position 3 in a sequence of 3"),
        ("SequenceAt", ([], at(0)), {}, "it is empty"),
        ("SequenceErase", (S, at(-4)), {}, "from -3 to 2"),
        ("SequenceInsert", (S, A, at(4)), {}, "from -3 to 3"),
        ("ConcatFromSequence", ([],), {"axis": 0}, "nothing to concatenate"),
        ("ConcatFromSequence", ([A, X[:, :2]],), {"axis": 0}, r"shapes \[2, 4\], \[5, 2\] can't be joined"),
        ("SplitToSequence", (X, at(0)), {}, "parts of 0"),
        ("SplitToSequence", (X, np.array([2, 2], I)), {}, "sum to the dim, 5"),
        ("SplitToSequence", (X, np.array([7, -2], I)), {}, "sum to the dim, 5"),
        ("OptionalGetElement", (("optional", None),), {}, "the optional is empty"),
    ],
)  # fmt: skip
def test_data_that_makes_no_sense(name, operands, attrs, message):
    model = graphc.compile(graph_of(name, operands, attrs))
    with pytest.raises(GraphcError, match=message):
        model.run({f"x{i}": given(x) for i, x in enumerate(operands)})


@pytest.mark.parametrize(
    "name, operands, attrs, message",
    [
        ("SequenceAt", (A, at(0)), {}, "must be of type sequence, not float32"),
        ("SequenceAt", (S, np.array([0, 1], I)), {}, "position must be one int32 or int64"),
        ("SequenceAt", (S, np.array(0.0)), {}, "position must be one int32 or int64"),
        ("SequenceInsert", (S, at(0)), {}, "can't hold int64"),
        ("SequenceConstruct", (), {}, "takes one operand or more"),
        ("ConcatFromSequence", (T,), {"axis": 1}, "out of range"),
        ("SplitToSequence", (X,), {"axis": 2}, "out of range"),
        ("Optional", (None,), {}, "needs the attribute 'type'"),
    ],
)
def test_types_that_make_no_sense(name, operands, attrs, message):
    with pytest.raises(GraphcError, match=message):
        graph_of(name, operands, attrs)
