"""ONNX's Backend interface, by ONNX's own runner; and what that does not try.

The runner has every case of the installed onnx package. A part runs by default, all of them with -m slow.
"""

import unittest
import warnings

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.backend.test import BackendTest

import graphc.onnx_backend as backend
from graphc.errors import InputError, UnsupportedError

EXCLUDED = {
    "_cuda$": "tests/cuda tries GPUs",
    "test_bernoulli": "the expectation is one draw of a random operator: tests/ops/test_random.py",
    "test_training_dropout_(default_|)(mask_|)cpu": "the same",
    "test_training_dropout_default_mask": "the same",
    "test_attention_4d_causal_fp16_expanded": "expected of another order of roundings to float16; ours is nearer the truth",
    "test_resize_downsample_scales_(linear|cubic)_align_corners": "the expectation is of a fractional number of pixels",
    "test_dft_inverse_(opset19_|)cpu": "1.9e-7 is expected, to an absolute 1e-7, where 0 is the truth: tests/ops/test_fourier.py",
    "test_loop16_seq_none": "the runner takes the length of each element of a sequence, and one is a number",
}


def collected():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ONNX's cases, as they are made
        return list(_collected())


def _collected():
    runner = BackendTest(backend.GraphcBackend, __name__)
    for pattern in EXCLUDED:
        runner.exclude(pattern)
    for name, cases in runner.test_cases.items():
        for test in unittest.defaultTestLoader.getTestCaseNames(cases):
            if not getattr(getattr(cases, test), "__unittest_skip__", False):
                yield pytest.param(cases(test), id=f"{name}-{test}")


@pytest.fixture(autouse=True)
def onnx_home(tmp_path, monkeypatch):
    """The runner writes there."""
    monkeypatch.setenv("ONNX_HOME", str(tmp_path))


@pytest.mark.sample(40)
@pytest.mark.parametrize("case", collected())
def test_by_onnx_own_runner(case):
    case.debug()


ADD = helper.make_node("Add", ["a", "b"], ["y"])
A, B = np.float32([1, 2]), np.float32([3, 5])


def model():
    infos = [helper.make_tensor_value_info(n, 1, ("n",)) for n in "ab"]
    nodes = [ADD, helper.make_node("Sub", ["a", "b"], ["0"])]
    graph = helper.make_graph(nodes, "g", infos, [onnx.ValueInfoProto(name=n) for n in ("y", "0")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def test_results_by_position_and_name():
    for inputs in ([A, B], (A, B), {"b": B, "a": A}):
        outputs = backend.run_model(model(), inputs, threads=1)
        assert outputs[0].tolist() == outputs["y"].tolist() == [4, 7] and outputs["0"].tolist() == [-2, -3]
    prepared = backend.prepare(model(), "CPU")
    assert prepared.run([B, A])[1].tolist() == [2, 3] and prepared.model.name == "g"


def test_nodes():
    (y,) = backend.run_node(ADD, [A, B])
    assert y.tolist() == [4, 7]
    (y,) = backend.run_node(helper.make_node("Softmax", ["x"], ["y"]), np.float32([[[1, 1], [1, 1]]]), opset_version=11)
    assert y.ravel().tolist() == [0.25] * 4  # over all dims from 1 on, as it was
    (y,) = backend.run_node(helper.make_node("Binarizer", ["x"], ["y"], domain="ai.onnx.ml", threshold=1.5), A)
    assert y.tolist() == [0, 1]
    (y,) = backend.run_node(helper.make_node("SequenceAt", ["s", "i"], ["y"]), [[A, B[:1]], np.array(1)])
    assert y.tolist() == [3]


def test_what_does_not_fit():
    with pytest.raises(InputError, match="takes 2 inputs, not 3"):
        backend.run_model(model(), [A, B, A])
    with pytest.raises(InputError, match="has 2 operands, not 1"):
        backend.run_node(ADD, A)
    with pytest.raises(InputError, match="missing: b"):
        backend.run_model(model(), [A])


def test_devices():
    assert (
        backend.supports_device("CPU") and not backend.supports_device("TPU") and not backend.supports_device("CPU:1")
    )
    with pytest.raises(UnsupportedError, match="device 'TPU'"):
        backend.prepare(model(), "TPU")
    assert backend.is_compatible(model())
    unknown = helper.make_graph(
        [helper.make_node("Nothing", ["a"], ["y"])], "g", model().graph.input[:1], [onnx.ValueInfoProto(name="y")]
    )
    assert not backend.is_compatible(helper.make_model(unknown))
