"""The nine architectures that the onnx package carries, with random weights: right, native, and in little memory."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import graphc
from graphc.errors import TypeRuleError

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
from models import light  # noqa: E402

onnxruntime = pytest.importorskip("onnxruntime")

NAMES = (
    "squeezenet", "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "vgg19", "zfnet512",
)  # fmt: skip
SMOKE = "squeezenet"
MODELS = [name if name == SMOKE else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
TOLERANCE = 1e-4  # of the largest magnitude of an output
ARENA = 1.05  # bytes of the arena, at most, for each byte alive at the fullest step


def with_logits(model: onnx.ModelProto) -> onnx.ModelProto:
    """The operand of a last Softmax becomes a result too: random weights make its own result a single 1."""
    last = model.graph.node[-1]
    if last.op_type == "Softmax":
        logits = onnx.helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, None)
        model.graph.output.append(logits)
    return model


def with_open_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """The batch gets a name, also where a Reshape writes it as 1."""
    graph = model.graph
    shapes = {n.input[1] for n in graph.node if n.op_type == "Reshape"}
    for initializer in graph.initializer:
        if initializer.name in shapes:
            shape = numpy_helper.to_array(initializer).copy()
            if shape[0] == 1 and -1 not in shape:
                shape[0] = -1
                initializer.CopyFrom(numpy_helper.from_array(shape, initializer.name))
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def images(model: onnx.ModelProto, batch: int) -> dict[str, np.ndarray]:
    (x,) = model.graph.input
    shape = [d.dim_value for d in x.type.tensor_type.shape.dim][1:]
    return {x.name: np.random.default_rng(batch).random((batch, *shape), np.float32)}


def peer(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """ONNX Runtime's results."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds)))


def close(results: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert results.keys() == want.keys()
    for name, w in want.items():
        assert results[name].shape == w.shape and results[name].dtype == w.dtype
        assert np.isfinite(w).all() and np.ptp(w) > 0, "the comparison would prove nothing"
        assert np.abs(results[name] - w).max() <= TOLERANCE * np.abs(w).max(), name


@pytest.mark.parametrize("name", MODELS)
def test_the_file_as_it_is(name: str):
    model = with_logits(light(name).make())
    feeds = images(model, 1)
    compiled = graphc.compile(model, threads=2)
    close(compiled.run(feeds), peer(model, feeds))
    plan = compiled.plan()
    assert not [s.label for s in plan.steps if s.host]
    assert plan.memory.lower_bound <= plan.memory.arena <= ARENA * plan.memory.lower_bound
    assert plan.memory.arena < plan.memory.total


@pytest.mark.parametrize("name", MODELS)
def test_other_batches(name: str):
    model = with_open_batch(with_logits(light(name).make()))
    compiled = graphc.compile(model, threads=2)
    for batch in (2, 1):
        feeds = images(model, batch)
        close(compiled.run(feeds), peer(model, feeds))
        (plan,) = [e.plan for key, e in compiled._plans.items() if key[0][0] == batch]
        assert plan.memory.arena <= ARENA * plan.memory.lower_bound
        assert not [s.label for s in plan.steps if s.host]


@pytest.mark.slow
def test_a_batch_that_the_file_does_not_allow_names_the_node():
    model = light("zfnet512").make()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    (x,) = images(model, 2).values()
    compiled = graphc.compile(model)
    with pytest.raises(TypeRuleError, match=r"Reshape 'n15'.*\[1, 18432\]"):
        compiled(x)
