"""A result that is not what the file declares is reported: by `check` where that can be told, else by the run."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

import graphc
from graphc import declared
from graphc.cli import main
from graphc.declared import NOTE
from graphc.errors import GraphcWarning

FLOAT = TensorProto.FLOAT


def _rows(given: list, declared: list | None, dtype: int = FLOAT) -> onnx.ModelProto:
    """y: the elements of x of shape `given`, as two columns."""
    shape = helper.make_tensor("two", TensorProto.INT64, [2], [-1, 2])
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "two"], ["y"])],
        "rows",
        [helper.make_tensor_value_info("x", FLOAT, given)],
        [helper.make_tensor_value_info("y", dtype, declared)],
        [shape],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _told(model: onnx.ModelProto, *shapes: tuple[int, ...]) -> list[str]:
    """What the runs with inputs of these shapes warn of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GraphcWarning)
        compiled = graphc.compile(model)
        for shape in shapes:
            assert compiled(np.zeros(shape, np.float32)).shape == (np.prod(shape) // 2, 2)
    return [str(w.message) for w in caught]


@pytest.mark.parametrize(
    "given, written",
    [
        ([4, 3], [6, 2]),
        ([4, 3], ["rows", 2]),
        ([4, 3], None),
        (["n", 2], ["n", 2]),
        (["n", 4], ["anything", 2]),  # a name of its own promises nothing
    ],
)
def test_what_is_as_declared(given: list, written: list | None):
    shape = tuple(d if isinstance(d, int) else 4 for d in given)
    assert _told(_rows(given, written), shape) == []


def test_a_number_of_rows():
    text = f"output 'y' is float32[6, 2], the file declares float32[5, 2]: {NOTE}"
    assert _told(_rows([4, 3], [5, 2]), (4, 3), (4, 3)) == [text]  # once


def test_a_rank():
    assert "float32[6, 2], the file declares float32[12]" in _told(_rows([4, 3], [12]), (4, 3))[0]


def test_a_dtype():
    assert (
        "float32[6, 2], the file declares float64[6, 2]" in _told(_rows([4, 3], [6, 2], TensorProto.DOUBLE), (4, 3))[0]
    )


def test_a_size_that_only_later_shapes_contradict():
    model = _rows(["n", 2], [5, 2])
    assert _told(model, (5, 2), (5, 2)) == []
    assert len(_told(model, (5, 2), (7, 2), (8, 2))) == 1


def test_results_are_compared_once_for_all_calls_of_their_shapes(monkeypatch: pytest.MonkeyPatch):
    """It took longer than a small model's run."""
    compared = []
    monkeypatch.setattr(declared, "contradiction", lambda name, want, made, sizes: compared.append(made.shape))
    assert _told(_rows(["n", 2], [5, 2]), *[(5, 2)] * 4, (7, 2), (5, 2), *[(7, 2)] * 3) == []
    assert compared == [(5, 2), (7, 2)]


def test_a_named_dim_that_is_another():
    (text,) = _told(_rows(["n", 4], ["n", 2]), (3, 4))
    assert text.startswith("output 'y' is float32[6, 2], the file declares float32[n, 2]")


def test_a_model_from_the_cache_reports_too():
    assert _told(_rows(["n", 2], [5, 2]), (7, 2)) == _told(_rows(["n", 2], [5, 2]), (7, 2)) != []


def test_check_says_it(tmp_path):
    path = tmp_path / "rows.onnx"
    onnx.save(_rows([4, 3], [5, 2]), path)
    result = CliRunner().invoke(main, ["check", str(path)])
    assert "output 'y' is float32[6, 2], the file declares float32[5, 2]" in " ".join(result.output.split())
    assert result.exit_code == 0
