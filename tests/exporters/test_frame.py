"""The frame of tests/exporters, with models of one node."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

from exporters.catalog import KINDS
from exporters.frame import Case, Exported, compare, count, difference, missing

pytest.importorskip("onnxruntime")

X = np.array([[1.0, -2.0, 3.0]], np.float32)


def exported(own: np.ndarray, body: str = "y = Relu(x)") -> Exported:
    text = f'<ir_version: 8, opset_import: ["" : 17]> g (float[n, 3] x) => (float[n, 3] y) {{ {body} }}'
    return Exported(parser.parse_model(text).SerializeToString(), [{"x": X}, {"x": np.tile(X, (2, 1))}], [[own]])


def case(own: np.ndarray, *model: str, **more: str) -> Case:
    return Case("own", "relu", "by hand", lambda: exported(own, *model), **more)


def test_a_model_that_agrees():
    row = compare(case(np.maximum(X, 0)))
    assert (row.opset, row.nodes, row.own, row.runtime, row.wrong) == (17, 1, (0.0, 0), (0.0, 0), [])
    assert " agrees " in str(row)


def test_a_model_that_does_not():
    row = compare(case(X))
    assert row.wrong == ["6.7e-01 from the model"] and " WRONG " in str(row)


def test_a_file_that_says_something_else_is_compared_with_onnx_runtime_alone():
    row = compare(case(X, different="the file has a Relu"))
    assert not row.wrong and "the file has a Relu" in str(row)


def test_an_output_that_is_listed_twice():
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 3] x) => (float[1, 3] y, float[1, 3] y) { y = Relu(x) }'
    )
    data = parser.parse_model(text).SerializeToString()
    y = np.maximum(X, 0)
    assert not compare(Case("own", "twice", "by hand", lambda: Exported(data, [{"x": X}], [[y, y]]))).wrong


def test_nothing_to_compare_with_is_wrong():
    row = compare(case(X, different="the file", runtime="its kernel"))
    assert row.wrong == ["compared with nothing"]


def test_a_shape_that_turns_out_different_is_reported():
    def exports() -> Exported:
        text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 3] x) => (float[1, 3] y) { y = Relu(x) }'
        runs = [{"x": X}, {"x": np.tile(X, (2, 1))}]
        return Exported(parser.parse_model(text).SerializeToString(), runs, [[np.maximum(x["x"], 0)] for x in runs])

    (wrong,) = compare(Case("own", "relu", "by hand", exports)).wrong
    assert "float32[2, 3]" in wrong
    assert not compare(Case("own", "relu", "by hand", exports, declared="it fixes n")).wrong
    told = compare(case(np.maximum(X, 0), declared="nothing"))
    assert told.wrong == ["no warning of the declared shape"]


def test_a_file_that_is_not_onnx_must_be_refused():
    assert not compare(case(X, "y = Erfc(x)", invalid="Erfc is none of its operators")).wrong
    assert compare(case(X, invalid="nothing")).wrong == ["a file that is not ONNX was taken"]
    assert compare(case(X, "y = Erfc(x)")).wrong[0].startswith("graphc: CheckError")


def test_an_exporter_that_fails_is_skipped():
    def fails() -> Exported:
        raise ValueError("no rule for it")

    row = compare(Case("own", "none", "by hand", fails))
    assert row.skipped == "ValueError: no rule for it" and not row.wrong and "no file" in str(row)


def test_differences():
    assert difference(np.array(["a", "b"]), np.array(["a", "c"])) == (0.0, 1)
    assert difference(np.array([1.0, np.nan]), np.array([1.0, np.nan])) == (0.0, 0)
    assert difference([{0: 0.5, 1: 0.5}], np.array([[0.5, 1.0]])) == (0.5, 0)
    assert difference(np.ones((1, 2)), np.ones(2), flat=True) == (0.0, 0)
    assert np.isnan(difference(np.array([np.nan]), np.array([1.0]))[0])
    with pytest.raises(AssertionError, match="shape"):
        difference(np.ones((1, 2)), np.ones(2))


def test_nodes_of_bodies_count():
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    body = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "b", [], [out])
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)]
    assert count(onnx.helper.make_graph(nodes, "g", [], [out])) == 3


def test_missing_packages_are_named():
    assert missing(["numpy", "no_such_package"]) == "no_such_package" and missing(["numpy"]) is None


def test_each_kind_names_its_packages():
    assert all(kind.packages and kind.module for kind in KINDS.values())
