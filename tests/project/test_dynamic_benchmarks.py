"""benchmarks/dynamic*.py: models with open dims that ONNX Runtime runs too, the calls that they get, rows of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import graphc

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def small(name: str) -> onnx.ModelProto:
    import dynamic_models as made

    sizes = {"layers": 2, "width": 32, "heads": 2, "vocabulary": 50, "positions": 64}
    makers = {
        "encoder": lambda: made.encoder(**sizes),
        "decoder": lambda: made.decoder(**sizes),
        "causal_decoder": lambda: made.decoder(**sizes, causal=True),
        "unet": lambda: made.image_model("unet", width=4),
        "detector": lambda: made.detector(width=4),
        "detector_fixed": lambda: made.detector(size=64, width=4),
        "classifier": lambda: made.classifier(vocab=50),
        "counted_loop": lambda: made.counted_loop(width=8),
    }
    return makers[name]()


def feeds(model: onnx.ModelProto, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    rng, found = np.random.default_rng(1), {}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        shape = [sizes[d.dim_param] if d.dim_param else d.dim_value for d in tensor.shape.dim]
        whole = tensor.elem_type == onnx.TensorProto.INT64
        found[value.name] = rng.integers(0, 50, shape) if whole else rng.random(shape, dtype=np.float32)
    return found


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("encoder", {"batch": 2, "length": 9}),
        ("decoder", {"batch": 2, "new": 1, "past": 6}),
        ("causal_decoder", {"batch": 2, "new": 4, "past": 6}),
        ("causal_decoder", {"batch": 1, "new": 4, "past": 0}),
        ("unet", {"height": 32, "width": 48}),
        ("detector", {"height": 48, "width": 64}),
        ("detector_fixed", {}),
        ("classifier", {"batch": 3, "steps": 5}),
        ("counted_loop", {"trips": 7}),
    ],
)
def test_both_engines_agree(name: str, sizes: dict[str, int]):
    model = small(name)
    onnx.checker.check_model(model, full_check=True)
    given = feeds(model, sizes)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    want = session.run(None, given)
    got = list(graphc.compile(model, threads=1).run(given).values())
    for g, w in zip(got, want, strict=True):
        assert g.dtype == w.dtype
        np.testing.assert_allclose(g, w, rtol=2e-4, atol=1e-3)


def test_calls_are_the_same_for_all_engines_and_differ_in_shape():
    from dynamic_workloads import SEED, WORKLOADS

    for workload in WORKLOADS:
        first, again = (workload.draw(np.random.default_rng(SEED), 5) for _ in range(2))
        for a, b in zip(first, again, strict=True):
            assert all(np.array_equal(a[n], b[n]) for n in a)
        whole = workload.draw(np.random.default_rng(SEED), workload.calls)
        assert len(whole) == workload.calls
        if workload.name.startswith(("encoder", "unet", "yolo", "mobilenet", "resnet")):
            assert len({tuple(a.shape for a in f.values()) for f in whole}) == workload.calls


def test_one_workload_is_measured_in_earnest(tmp_path: Path):
    from dynamic import measure, rows
    from dynamic_workloads import WORKLOADS

    workload = next(w for w in WORKLOADS if w.name == "counted_loop")
    found = measure(workload, ["graphc", "onnxruntime", "mnn"], 1, tmp_path, calls=2)
    assert not found.failed and found.error is not None and found.error < 1e-4
    assert [len(t) for t in found.seconds.values()] == [2, 2]
    (row,) = rows(found)
    assert row.measured is not None and row.measured > 0 and row.target == workload.target
    assert "onnxruntime" in str(row)


def test_what_an_engine_can_not_do_is_said(tmp_path: Path):
    from dynamic import Measured, rows
    from dynamic_workloads import WORKLOADS

    found = Measured(WORKLOADS[0], 1, {"onnxruntime": [1.0]}, memory={"onnxruntime": 0.0}, failed={"graphc": "why"})
    (row,) = rows(found)
    assert row.measured is None and "MISSED" in str(row) and "graphc FAILED: why" in str(row)


def test_rows_in_the_file_of_results(tmp_path: Path):
    """Those without a peer have a figure of their own, which is no part of the mean."""
    from results import Results, Row, line, summary, table

    results = Results(tmp_path / "results.json")
    times = {"graphc": 2.0, "onnxruntime": 4.0}
    results.add(Row("dynamic", "plans", 1, {"graphc": 2.0}, 8.0, measured=9.0))
    results.add(Row("dynamic", "encoder", 1, times, 0.6, ("onnxruntime",)))
    rows = Results(tmp_path / "results.json").rows
    assert [(r.model, r.score) for r in rows] == [("plans", 9.0), ("encoder", 0.5)]
    assert "MISSED" in line(rows[0]) and "**9.00**" in table(rows)
    assert "| dynamic | 1 | 0.50 | 9.00 (plans) | 8.00 | 1 of 2 |" in summary(rows)
