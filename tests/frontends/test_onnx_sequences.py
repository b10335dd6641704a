"""Sequences of ONNX files that are lists of values when they are read."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphc
from graphc import frontends
from graphc.backends.reference import run
from graphc.errors import CheckError, GraphcError

X = np.arange(20, dtype=np.float32).reshape(5, 4)


def load(*nodes, inputs=None, outputs=("y",), **constants):
    infos = [helper.make_tensor_value_info(k, *spec) for k, spec in (inputs or {"x": (1, X.shape)}).items()]
    weights = [numpy_helper.from_array(np.asarray(a), k) for k, a in constants.items()]
    results = [onnx.ValueInfoProto(name=o) for o in outputs]
    graph = helper.make_graph(list(nodes), "g", infos, results, weights)
    return frontends.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]))


def node(op, inputs, outputs, **attrs):
    return helper.make_node(op, inputs.split(), outputs.split(), **attrs)


@pytest.mark.parametrize(
    "split, sizes",
    [(np.int64(2), [2, 2, 1]), (np.int64([3, 2]), [3, 2]), (None, [1] * 5)],
)
def test_split_to_sequence(split, sizes):
    constants = {"at": np.int64(-1)} | ({} if split is None else {"split": split})
    nodes = [
        node("SplitToSequence", "x" if split is None else "x split", "s"),
        node("SequenceAt", "s at", "y"),
        node("SequenceLength", "s", "n"),
    ]
    results = run(load(*nodes, outputs=("y", "n"), **constants), {"x": X})
    np.testing.assert_array_equal(results["y"], X[5 - sizes[-1] :])
    assert results["n"] == len(sizes) and results["n"].dtype == np.int64


def test_split_without_keepdims_and_stack_again():
    nodes = [
        node("SplitToSequence", "x", "s", axis=1, keepdims=0),
        node("ConcatFromSequence", "s", "y", axis=0, new_axis=1),
    ]
    np.testing.assert_array_equal(run(load(*nodes), {"x": X})["y"], X.T)


def test_insert_erase_and_identity():
    nodes = [
        node("SequenceEmpty", "", "s0"),
        node("SequenceInsert", "s0 x", "s1"),
        node("Neg", "x", "n"),
        node("SequenceInsert", "s1 n first", "s2"),
        node("Identity", "s2", "s3"),
        node("SequenceConstruct", "x x", "s4"),
        node("SequenceErase", "s3", "s5"),
        node("ConcatFromSequence", "s3", "a", axis=1),
        node("ConcatFromSequence", "s5", "b", axis=1),
        node("ConcatFromSequence", "s4", "c", axis=-1),
    ]
    results = run(load(*nodes, outputs=("a", "b", "c"), first=np.int64(0)), {"x": X})
    np.testing.assert_array_equal(results["a"], np.concatenate([-X, X], 1))
    np.testing.assert_array_equal(results["b"], -X)
    np.testing.assert_array_equal(results["c"], np.concatenate([X, X], 1))


def test_optionals_of_tensors():
    nodes = [
        node("Optional", "x", "o"),
        node("OptionalHasElement", "o", "has"),
        node("OptionalHasElement", "", "has_not"),
        node("OptionalGetElement", "o", "y"),
    ]
    results = run(load(*nodes, outputs=("has", "has_not", "y")), {"x": X})
    assert results["has"] and not results["has_not"]
    np.testing.assert_array_equal(results["y"], X)


AT = (TensorProto.INT64, ())


@pytest.mark.parametrize(
    "nodes, inputs, message",
    [
        (
            [node("SplitToSequence", "x", "s"), node("Relu", "s", "y")],
            None,
            "takes tensors, and .* is of type sequence",
        ),
        ([node("SplitToSequence", "x", "s"), node("SequenceAt", "s five", "y")], None, "position 5 in a sequence of 5"),
        ([node("SequenceAt", "x five", "y")], None, "operand 's' must be of type sequence, not float32"),
        ([node("SequenceConstruct", "x five", "y")], None, "a sequence of float32.* can't hold int64"),
        ([node("OptionalGetElement", "", "y")], None, "takes 1 operands"),
        ([node("Optional", "", "y")], None, "needs the attribute 'type'"),
    ],
)
def test_what_makes_no_sense(nodes, inputs, message):
    with pytest.raises(CheckError, match=message) as caught:
        load(*nodes, inputs=inputs, five=np.int64(5))
    assert len(caught.value.problems) == 1


OPEN = {"x": (1, ("n", "m", "k")), "at": AT}
V = np.random.default_rng(0).random((4, 3, 2)).astype(np.float32)


def both(nodes, feeds, inputs=OPEN, outputs=("y",), **constants):
    """Results on both targets."""
    graph = load(*nodes, inputs={k: inputs[k] for k in feeds}, outputs=outputs, **constants)
    for target in ("cpu", "reference"):
        yield graphc.compile(graph, target=target).run(feeds)


@pytest.mark.parametrize("at", [0, 3, -1, -4])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_an_element_of_an_axis_of_unknown_size(keepdims, at):
    nodes = [
        node("SplitToSequence", "x", "s", axis=0, keepdims=keepdims),
        node("SequenceAt", "s at", "y"),
        node("SequenceLength", "s", "n"),
    ]
    for results in both(nodes, {"x": V, "at": np.array(at)}, outputs=("y", "n")):
        np.testing.assert_array_equal(results["y"], V[[at]] if keepdims else V[at])
        assert results["n"] == 4


@pytest.mark.parametrize("cut", [0, 1, 2])
@pytest.mark.parametrize(
    ("keepdims", "new_axis", "axis"),
    [(k, n, a) for k, n in ((1, 0), (1, 1), (0, 1), (0, 0)) for a in (0, 1, 2, -1) if a < 2 + k + n],
)
def test_slices_joined_again(keepdims, new_axis, cut, axis):
    items = [np.take(V, [i] if keepdims else i, cut) for i in range(V.shape[cut])]
    want = np.stack(items, axis) if new_axis else np.concatenate(items, axis)
    nodes = [
        node("SplitToSequence", "x", "s", axis=cut, keepdims=keepdims),
        node("ConcatFromSequence", "s", "y", axis=axis, new_axis=new_axis),
    ]
    for results in both(nodes, {"x": V}):
        np.testing.assert_array_equal(results["y"], want)


@pytest.mark.parametrize("at", [0, 1, -1])
@pytest.mark.parametrize("split", [np.int64([3, 1]), np.int64([0, 4]), np.array(3), np.array(2)])
def test_parts_whose_sizes_are_an_input(split, at):
    nodes = [
        node("SplitToSequence", "x k", "s", axis=0),
        node("SequenceAt", "s at", "y"),
        node("SequenceLength", "s", "n"),
        node("ConcatFromSequence", "s", "all", axis=0),
    ]
    feeds = {"x": V, "k": split, "at": np.array(at)}
    inputs = OPEN | {"k": (TensorProto.INT64, ("parts",) * split.ndim)}
    ends = np.cumsum(split)[:-1] if split.ndim else np.arange(int(split), 4, int(split))
    for results in both(nodes, feeds, inputs, ("y", "n", "all")):
        np.testing.assert_array_equal(results["y"], np.split(V, ends)[at])
        np.testing.assert_array_equal(results["all"], V)
        assert results["n"] == len(ends) + 1


@pytest.mark.parametrize(
    "split, at",
    [(2, 2), (2, -3), (0, 0), (-2, 0), ([2, 1], 0), ([3, 2], 0), ([-1, 5], 1), ([3, 1], 2), ([3, 1], -3)],
)
def test_parts_that_are_not_there_are_refused(split, at):
    nodes = [node("SplitToSequence", "x k", "s"), node("SequenceAt", "s at", "y"), node("SequenceLength", "s", "n")]
    split = np.array(split)
    inputs = OPEN | {"k": (TensorProto.INT64, ("parts",) * split.ndim)}
    for outputs in (("y",), ("n",)) if np.any(split <= 0) or split.sum() != 4 and split.ndim else (("y",),):
        graph = load(*nodes, inputs={k: inputs[k] for k in ("x", "k", "at")}, outputs=outputs)
        for target in ("cpu", "reference"):
            with pytest.raises(GraphcError, match="sizes_of_parts|out of range"):
                graphc.compile(graph, target=target).run({"x": V, "k": split, "at": np.array(at)})


@pytest.mark.parametrize(
    "split, right", [(2, True), (9, True), (0, False), ([3, 1], True), ([2, 1], False), ([-1, 5], False)]
)
def test_parts_joined_again_are_those_of_sizes_that_fit(split, right):
    nodes = [node("SplitToSequence", "x k", "s"), node("ConcatFromSequence", "s", "y", axis=0)]
    split = np.array(split)
    graph = load(*nodes, inputs={"x": OPEN["x"], "k": (TensorProto.INT64, ("parts",) * split.ndim)})
    for target in ("cpu", "reference"):
        compiled = graphc.compile(graph, target=target)
        if right:
            np.testing.assert_array_equal(compiled.run({"x": V, "k": split})["y"], V)
        else:
            with pytest.raises(GraphcError, match="sizes_of_parts"):
                compiled.run({"x": V, "k": split})


@pytest.mark.parametrize("split, join", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_parts_joined_again_along_any_name_of_the_axis(split, join):
    nodes = [node("SplitToSequence", "x n", "s", axis=split), node("ConcatFromSequence", "s", "y", axis=join)]
    graph = load(*nodes, inputs={"x": (1, X.shape), "n": (7, [])})
    np.testing.assert_array_equal(run(graph, {"x": X, "n": np.int64(3)})["y"], X)


@pytest.mark.parametrize("at", [0, 2, -3])
def test_a_position_that_is_an_input(at):
    nodes = [node("Neg", "x", "z"), node("SequenceConstruct", "x z x", "s"), node("SequenceAt", "s at", "y")]
    for results in both(nodes, {"x": V, "at": np.array(at)}):
        np.testing.assert_array_equal(results["y"], [V, -V, V][at])


@pytest.mark.parametrize(("at", "order"), [(0, "nxx"), (-1, "xnx"), (-2, "nxx"), (1, "xnx"), (2, "xxn")])
def test_insert_at_positions_from_both_ends(at, order):
    nodes = [
        node("Neg", "x", "n"),
        node("SequenceConstruct", "x x", "s"),
        node("SequenceInsert", "s n at", "t"),
        node("ConcatFromSequence", "t", "y", axis=0, new_axis=1),
    ]
    want = np.stack([{"x": X, "n": -X}[c] for c in order])
    np.testing.assert_array_equal(run(load(*nodes, at=np.int64(at)), {"x": X})["y"], want)


def test_states_of_a_loop_that_grow():
    """What the body makes of a sequence may not rest on the shape that its state begins with."""
    body = helper.make_graph(
        [
            node("SplitToSequence", "t", "parts"),
            node("SequenceLength", "parts", "length"),
            node("Concat", "t t", "twice", axis=0),
            node("Identity", "going", "on"),
        ],
        "body",
        [onnx.ValueInfoProto(name=n) for n in ("i", "going", "t")],
        [onnx.ValueInfoProto(name=n) for n in ("on", "twice", "length")],
    )
    loaded = load(helper.make_node("Loop", ["n", "", "x"], ["grown", "y"], body=body), n=np.int64(4))
    for model in (graphc.compile(loaded), graphc.compile(loaded, target="reference")):
        np.testing.assert_array_equal(model.run({"x": X})["y"], [5, 10, 20, 40])


def test_map_of_an_empty_sequence():
    a, b = (helper.make_tensor_value_info(name, 1, None) for name in "ab")
    body = helper.make_graph([node("Neg", "a", "b")], "body", [a], [b])
    nodes = [
        helper.make_node("SequenceEmpty", [], ["none"], dtype=1),
        helper.make_node("SequenceMap", ["none"], ["still"], body=body),
        node("SequenceInsert", "still x", "one"),
        node("ConcatFromSequence", "one", "y", axis=0),
    ]
    np.testing.assert_array_equal(run(load(*nodes), {"x": X})["y"], X)
