"""What benchmarks/ does with numbers: ratios, errors, tables, the file of results, and one model measured in earnest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def row(model: str = "light_vgg19", target: float = 0.65, **values: float):
    from results import Row

    return Row("light", model, 1, values, target)


def test_the_ratio_is_to_the_best_peer():
    assert row(graphc=1.0, onnxruntime=4.0, mnn=2.0).ratio == 0.5
    assert row(onnxruntime=4.0).ratio is None and row(onnxruntime=4.0).score == float("inf")
    assert row(graphc=1.0).ratio is None


@pytest.mark.parametrize("stops", [True, False])
def test_the_loop_runs_without_a_look_from_python(stops: bool):
    from loops import make_loop

    import graphc

    proto, x = make_loop(7, 16, stops), np.linspace(-1, 1, 16, dtype=np.float32)
    model = graphc.compile(proto)
    want = graphc.compile(proto, target="reference").run({"x": x})
    for name, value in model.run({"x": x}).items():
        np.testing.assert_allclose(value, want[name], rtol=1e-5, atol=1e-6)
    assert [(s.kernel, s.host) for s in model.plan().steps] == [("loop", False)]


def test_only_the_named_peers_count():
    from results import Row

    values = {"graphc": 1.0, "onnxruntime": 4.0, "mnn": 2.0}
    assert Row("start", "light_resnet50", 1, values, 1.0, ("onnxruntime",)).ratio == 0.25


def test_the_error_is_that_of_the_worst_output_in_any_order():
    from measure import error

    a, b = np.array([1.0, 2.0]), np.array([[10.0]])
    assert error([b, a], [a, b]) == 0
    assert error([a, b + 1], [a, b]) == pytest.approx(0.1)
    assert error([a], [a, b]) == float("inf")


def test_a_row_replaces_the_one_before_it(tmp_path: Path):
    from results import Results

    path = tmp_path / "results.json"
    results = Results(path)
    results.add(row(graphc=1.0, mnn=2.0))
    results.add(row("light_zfnet512", graphc=1.0, mnn=2.0))
    results.add(row(graphc=3.0, mnn=2.0))
    stored = json.loads(path.read_text())
    assert stored["cores"] >= 1 and stored["versions"]["graphc"]
    assert [r.model for r in Results(path).rows] == ["light_vgg19", "light_zfnet512"]
    assert Results(path).rows[0].values == {"graphc": 3.0, "mnn": 2.0}


def test_tables_show_what_was_missed_and_what_failed():
    from results import Row, summary, table

    rows = [row(graphc=1.0, mnn=2.0), row("light_zfnet512", graphc=4.0, onnxruntime=2.0)]
    rows.append(Row("light", "light_resnet50", 1, {"onnxruntime": 1.0}, 0.8, failed={"graphc": "no"}))
    text = table(rows)
    assert "**2.00**" in text and "| 0.50 |" in text and "failed" in text
    assert "1 of 3" in summary(rows) and "light_resnet50" in summary(rows)


def test_pages_are_written_between_their_markers(tmp_path: Path):
    from results import write_between_markers

    page = tmp_path / "page.md"
    begin, end = "<!-- x: begin (written by benchmarks/all.py) -->", "<!-- x: end -->"
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    write_between_markers(page, "x", "new")
    assert page.read_text() == f"before\n{begin}\nnew\n{end}\nafter\n"
    with pytest.raises(ValueError, match="lacks the lines"):
        write_between_markers(page, "y", "new")


def test_models_of_old_softmax_and_float64(tmp_path: Path):
    import onnx
    from models import light, reference, with_random_weights

    assert light("squeezenet").name == "light_squeezenet"
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Softmax", ["x"], ["y"])], "g", [x], [y])
    imports = [onnx.helper.make_opsetid("", 9)]
    model = with_random_weights(onnx.helper.make_model(graph, opset_imports=imports, ir_version=8))
    assert model.graph.node[0].attribute[0].i == 1
    onnx.save(model, tmp_path / "m.onnx")
    (result,) = reference(tmp_path / "m.onnx", {"x": np.array([[0.0, 1.0, 2.0]], np.float32)})
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, np.exp([[0, 1, 2]]) / np.exp([0, 1, 2]).sum(), rtol=1e-15)


def test_a_model_is_measured(tmp_path: Path):
    from measure import Effort, measure
    from sets import SETS

    case = next(c for c in SETS["small"].cases if c.name.startswith("char_rnn"))
    model, feeds = case.network.files(tmp_path)
    found = measure(model, feeds, ["graphc", "onnxruntime"], 1, Effort(rounds=2, seconds=0.01))
    assert not found.failed
    for numbers in (found.start, found.seconds, found.memory):
        assert numbers.keys() == {"graphc", "onnxruntime"} and all(n > 0 for n in numbers.values())
    assert found.start["graphc"] > found.seconds["graphc"]


def test_an_empty_cache_takes_longer(tmp_path: Path):
    from measure import cold_start, starts
    from sets import SETS

    model, feeds = SETS["small"].cases[-1].network.files(tmp_path)
    cold = cold_start(model, feeds, 1, 1)
    starts(model, feeds, ["graphc"], 1, 1)  # puts its kernels on disk
    assert 0 < starts(model, feeds, ["graphc"], 1, 1).start["graphc"] < cold


def test_an_engine_that_dies_says_why(tmp_path: Path):
    from measure import Worker

    with pytest.raises(RuntimeError, match="No such file"):
        Worker("onnxruntime", tmp_path / "none.onnx", tmp_path / "none.npz", 1, tmp_path)


def test_names_of_models_are_unique():
    """They are those of files. The sets in bfloat16 and of defaults have the files of others."""
    from sets import SETS

    names = [c.name for s in SETS.values() for c in s.cases if not s.in_bfloat16 and not s.by_default]
    assert len(set(names)) == len(names)


def test_a_build_is_slower_only_beyond_doubt():
    from before import BEFORE, NOW, Comparison

    def comparison(ratio: float, doubt: float) -> Comparison:
        return Comparison({BEFORE: 1.0, NOW: ratio}, ratio, doubt, 3, {}, 0.0)

    assert comparison(1.03, 0.004).slower(1.02)
    assert not comparison(1.03, 0.006).slower(1.02)
    assert not comparison(0.9, 0.0).slower(1.02)


def test_builds_are_compared_on_the_same_files(tmp_path: Path):
    from argparse import Namespace

    from before import BEFORE, NOW, ROOT, compare
    from sets import SETS

    case = next(c for c in SETS["small"].cases if c.name.startswith("lenet5"))
    options = Namespace(limit=2.0, seconds=0.001, patience=0.0, clock="wall")
    found = compare(case.network.files(tmp_path), 1, {BEFORE: ROOT, NOW: ROOT}, tmp_path, options)
    assert found.pairs == 3 and found.difference == 0.0
    assert 0 < found.seconds[NOW] < 1 and found.memory[NOW] > 1e6
