"""Every example, written by `graphc export`, gives in ONNX Runtime what graphc gives."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner
from pages import weights
from twins.registry import TWINS, Twin
from zoo import EXAMPLES, feeds_of, page

import graphc
from graphc.cli import main
from graphc.frontends.yaml_load import load_yaml, loads_yaml

# Smaller than the page has it, where the whole takes long; others are as large as their twins.
SMALL = {
    "sliding_window": Twin("", {"sure": 0.2}),
    "overfeat": Twin("", sizes={"batch": 1, "height": 231, "width": 263}),
    "yolo_v3": Twin("", {"size": 64, "sure": 0.27}, sizes={"batch": 1}),
    "boltzmann": Twin("", {"sweeps": 2}),
    "rbm_gibbs": Twin("", {"visible": 30, "hidden": 20, "steps": 3}),
    "deep_belief_net": Twin("", {"top": 40, "steps": 2}),
}
# Factors of kernels: those that are drawn make detectors' sizes of boxes, which are powers of e, too large for float32 or its rounding.
CALM = {"yolo_v3": 0.5, "mask_rcnn": 0.5, "retinanet": 0.7}


def test_exceptions_exist():
    assert {*SMALL, *CALM} <= {path.stem for path in EXAMPLES.glob("*.yaml")}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
def test_an_example_elsewhere(name: str, tmp_path: Path):
    small = SMALL.get(name, TWINS.get(name, Twin("")))
    original = EXAMPLES / f"{name}.yaml"
    source, exported = original, tmp_path / f"{name}.onnx"
    text = page(name, small.image)
    if name in CALM:
        given = weights(loads_yaml(text, small.params))
        np.savez(tmp_path / "w.npz", **{key: a * CALM[name] if a.ndim > 1 else a for key, a in given.items()})
        text += "weights: {file: w.npz}\n"
    if text != original.read_text(encoding="utf-8"):  # else it can include its neighbours
        source = tmp_path / f"{name}.yaml"
        source.write_text(text, encoding="utf-8")
    params = [a for key, value in small.params.items() for a in ("--param", f"{key}={value}")]
    result = CliRunner().invoke(main, ["export", str(source), str(exported), *params])
    assert result.exit_code == 0, result.output

    graph = load_yaml(source, small.params)
    sizes = defaultdict(lambda: 6, {"batch": 2, "height": 64, "width": 72} | dict(small.sizes))
    feeds = feeds_of(graph, sizes, np.random.default_rng(1))
    feeds = {key: np.asarray(abs(a)) for key, a in feeds.items()}  # some are variances, or have logarithms
    ours = graphc.compile(graph, threads=1).run(feeds)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    named = [f"{key}_1" if key in feeds else key for key in ours]  # in ONNX, no result has the name of an input
    assert [o.name for o in session.get_outputs()] == named
    expected = dict(zip(ours, session.run(None, feeds)))
    if name == "retinanet":
        ours = _ranked(ours, expected)
    for (key, found), theirs in zip(ours.items(), expected.values()):
        assert found.shape == theirs.shape and found.dtype == theirs.dtype, key
        if theirs.dtype.kind == "f" and theirs.size:  # each of the two within 1e-4 of what float64 gives
            assert np.isfinite(theirs).all(), key
            np.testing.assert_allclose(found, theirs, rtol=0, atol=2e-4 * abs(theirs).max(), err_msg=key)
        else:
            np.testing.assert_array_equal(found, theirs, key)


def _ranked(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our boxes in the order of theirs: those whose scores are equal but for rounding may have changed places with a neighbour."""
    order: list[int] = []
    for i, box in enumerate(theirs["boxes"]):
        near = (j for j in range(i - 2, i + 3) if 0 <= j < len(ours["boxes"]) and j not in order)
        order.append(min(near, key=lambda j: np.abs(ours["boxes"][j] - box).max()))
    return {key: a[order] for key, a in ours.items()}
