"""Sequences of ONNX files that are lists of values when they are read."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphc import frontends
from graphc.backends.reference import run
from graphc.errors import CheckError

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
        ([node("SplitToSequence", "x", "y")], None, "'y' is of type sequence"),
        ([node("SplitToSequence", "x", "s"), node("Relu", "s", "y")], None, "takes a sequence"),
        ([node("SplitToSequence", "x", "s"), node("SequenceAt", "s five", "y")], None, "position 5 in a sequence of 5"),
        (
            [node("SplitToSequence", "x", "s"), node("SequenceAt", "s at", "y")],
            {"x": (1, X.shape), "at": AT},
            "position that depends on the inputs",
        ),
        ([node("SplitToSequence", "x", "s"), node("SequenceAt", "s five", "y")], {"x": (1, ("n", 4))}, "unknown size"),
        ([node("SequenceAt", "x five", "y")], None, "operand 0 must be a sequence"),
        ([node("OptionalGetElement", "", "y")], None, "empty optional"),
    ],
)
def test_what_is_not_known_when_reading(nodes, inputs, message):
    with pytest.raises(CheckError, match=message) as caught:
        load(*nodes, inputs=inputs, five=np.int64(5))
    assert len(caught.value.problems) == 1
