"""Results that are one value several times, inputs, or constants: each place of the signature has an array of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import graphc
from graphc.backends.reference import run as reference
from graphc.errors import GraphcError
from graphc.frontends.onnx_export import to_onnx
from graphc.graph import Builder, Graph

F32 = np.float32
X = np.random.default_rng(0).uniform(-1, 1, (2, 16, 6, 6)).astype(F32)
MAPS = (2, 16, 6, 6)


def network(results: list[str], batch: int | str) -> Graph:
    """x [batch, 16, 6, 6]; relu, conv (blocked) and text (of the host) are values, flat is a view, one a constant."""
    b, rng = Builder("network"), np.random.default_rng(1)
    x = b.input("x", F32, (batch, *MAPS[1:]))
    conv = b.add("Conv", x, b.constant(rng.uniform(-0.1, 0.1, (16, 16, 3, 3)), F32), pads=[1] * 4)
    values = {
        "x": x,
        "conv": conv,
        "relu": b.add("Relu", x),
        "both": b.add("Add", b.add("Relu", conv), x),
        "flat": b.add("Reshape", x, b.constant([-1], np.int64)),
        "where": b.add("NonZero", b.add("ReduceSum", x, b.constant([1, 2, 3], np.int64))),
        "one": b.constant(np.ones(3), F32),
    }
    named = [(name, values[name]) for name in results]
    return Graph("g", tuple(b.inputs), tuple(v for _, v in named), tuple(b.nodes), tuple(n for n, _ in named))


LISTS = [
    ["relu", "relu"],
    ["relu", "conv", "relu"],
    ["conv", "conv", "conv"],
    ["both", "conv", "both"],
    ["x", "x", "relu"],
    ["x"],
    ["one", "relu", "one", "one"],
    ["flat", "x", "flat"],
    ["where", "relu", "where"],
    ["one", "one"],
]


@pytest.mark.parametrize("target", ["cpu", "reference"])
@pytest.mark.parametrize("batch", [2, "n"])
@pytest.mark.parametrize("results", LISTS, ids="-".join)
def test_a_result_listed_again(results: list[str], batch: int | str, target: str):
    graph = network(results, batch)
    model, want = graphc.compile(graph, target=target, threads=1), reference(graph, {"x": X})
    assert [s.name for s in model.outputs] == results
    for _ in range(2):  # the second call is the quick one, where there is one
        got = model(X)
        got = got if isinstance(got, tuple) else (got,)
        assert len(got) == len(results)
        for name, a in zip(results, got):
            np.testing.assert_allclose(a, want[name], rtol=1e-4, atol=1e-5, err_msg=name)
        assert not any(np.may_share_memory(a, b) for i, a in enumerate((*got, X)) for b in got[:i])
        by_name = model.run({"x": X})
        assert list(by_name) == list(dict.fromkeys(results))
    for name, a in want.items():
        buffer = np.empty_like(a)
        again = model.run({"x": X}, out={name: buffer})
        assert again[name] is buffer
        np.testing.assert_allclose(buffer, a, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_file_whose_result_is_listed_twice_is_kept_and_found(threads: int, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    info = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 16, 6, 6])
    proto = to_onnx(network(["conv", "both"], 2))
    names = [o.name for o in proto.graph.output]
    del proto.graph.output[:]
    for name in (names[1], names[0], names[1]):
        info.name = name
        proto.graph.output.append(info)
    onnx.checker.check_model(proto, full_check=True)
    path = tmp_path / "twice.onnx"
    onnx.save(proto, path)
    want = reference(network(["conv", "both"], 2), {"x": X})
    for _ in range(2):
        got = graphc.compile(path, threads=threads)(X)
        assert len(got) == 3
        for a, name in zip(got, ("both", "conv", "both")):
            np.testing.assert_allclose(a, want[name], rtol=1e-4, atol=1e-5)


def test_yaml_lists_each_result_once(tmp_path: Path):
    path = tmp_path / "net.yaml"
    text = "graphc: 1\ninputs: {x: {shape: [n, 4]}}\nnet:\n- relu: {}\n  as: a\noutputs: "
    path.write_text(text + "[a, a]")
    with pytest.raises(GraphcError, match="net.yaml.*'a' is listed twice"):
        graphc.compile(path)
    path.write_text(text + "{first: a, second: last, third: x}")
    first, second, third = graphc.compile(path)(X[0, 0, :, :4].copy())
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(third, X[0, 0, :, :4])


def test_a_builder_keeps_inputs_and_results_apart():
    b = Builder()
    x = b.input("x", F32, (2,))
    with pytest.raises(GraphcError, match="two inputs are named 'x'"):
        b.input("x", F32, (3,))
    y = b.add("Relu", x, name="y")
    with pytest.raises(GraphcError, match="two results are named 'y'"):
        b.build([y, b.add("Neg", x, name="n", outputs=["y"])])
    first, second = graphc.compile(b.build([y, y]), threads=1)(np.array([-1, 2], F32))
    assert first.tolist() == second.tolist() == [0, 2]
