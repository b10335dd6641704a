"""graphc compare --against and graphc reduce: what they say, what they write, and their exit codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

import graphc
from graphc.cli import against as other
from graphc.cli import main

NET = """<ir_version: 10, opset_import: ["" : 21]>
g (float[n, 4] x) => (float[n, 4] y, float[n, 4] z) { t = Tanh(x)  y = Neg(t)  z = Exp(t) }"""
X = np.random.default_rng(0).uniform(-1, 1, (2, 4)).astype(np.float32)


def invoke(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [*map(str, args)])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def net(tmp_path: Path) -> Path:
    onnx.save(onnx.parser.parse_model(NET), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_onnx_runtime(net: Path, monkeypatch: pytest.MonkeyPatch):
    assert "2 results of onnxruntime agree within 0.0001" in invoke("compare", net, "--against", "onnxruntime")
    honest = other.of_onnxruntime

    def off(*args):
        found = honest(*args)
        return found | {"z": found["z"] * np.float32(1.01)}

    monkeypatch.setattr(other, "of_onnxruntime", off)
    said = invoke("compare", net, "--against", "onnxruntime", code=1)
    assert "Exp" in said and "NumPy agrees with graphc: onnxruntime has other" in said and "graphc reduce" in said


def test_a_file_of_results(net: Path, tmp_path: Path):
    y = -np.tanh(X)
    np.savez(tmp_path / "right.npz", x=X, y=y)
    np.savez(tmp_path / "wrong.npz", x=X, y=y + np.float32(0.01))
    np.savez(tmp_path / "other.npz", a=X)
    assert "1 result of" in invoke("compare", net, "--against", tmp_path / "right.npz")
    assert "NumPy agrees with graphc" in invoke("compare", net, "--against", tmp_path / "wrong.npz", code=1)
    assert "has no result of the model: it holds a" in invoke(
        "compare", net, "--against", tmp_path / "other.npz", code=4
    )
    assert "is nothing to compare with" in invoke("compare", net, "--against", "nothing", code=4)


def test_a_folder_of_test_data(net: Path, tmp_path: Path):
    folder = tmp_path / "test_data_set_0"
    folder.mkdir()
    for name, array in (("input_0", X), ("output_0", -np.tanh(X)), ("output_1", np.exp(np.tanh(X)))):
        (folder / f"{name}.pb").write_bytes(numpy_helper.from_array(array).SerializeToString())
    assert "2 results of" in invoke("compare", net, "--against", folder)
    (folder / "output_1.pb").write_bytes(numpy_helper.from_array(X).SerializeToString())
    assert "Exp" in invoke("compare", net, "--against", folder, code=1)


@pytest.mark.slow
def test_reduce_writes_a_model_that_fails_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An operator of one's own, whose NumPy form and compiled form differ."""
    (tmp_path / "mine.py").write_text(
        "from graphc.op import Case, Op, Samples, Tensor, register\n"
        "register(Op('mine::Off', inputs=('x',), infer=lambda call: [call.type(0)], reference=lambda x: x.copy(),\n"
        "            scalar=lambda x: x * 1.01, samples=Samples(cases=(Case((Tensor((2, 3)),)),))))\n"
    )
    text = NET.replace('["" : 21]', '["" : 21, "mine" : 1]').replace("Neg(t)", "mine.Off(t)")
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    out = tmp_path / "small.onnx"
    load = ("--import", tmp_path / "mine.py")
    said = invoke("reduce", tmp_path / "m.onnx", out, *load)
    assert "1 node, 1 numbers" in said and f"wrote {out}" in said
    assert [n.op_type for n in onnx.load(out).graph.node] == ["Off"]
    assert "Off" in invoke("compare", out, "--input", out.with_suffix(".npz"), *load, code=1)


def test_nothing_to_reduce(net: Path, tmp_path: Path):
    assert "nothing is wrong with" in invoke("reduce", net, tmp_path / "small.onnx", code=4)


def test_files_run_in_other_processes_need_files(net: Path):
    assert "--on is for files" in invoke("run", net, "--on", "dask://local?workers=2", code=4)
    assert "is no address" in invoke("run", net, net, "--on", "dusk://local", code=4)


@pytest.mark.slow
def test_files_run_in_other_processes(net: Path, tmp_path: Path):
    pytest.importorskip("distributed")
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", X[:1] + np.float32(i))
    np.save(tmp_path / "wrong.npy", np.zeros((1, 5), np.float32))
    files = [tmp_path / f"{n}.npy" for n in (0, 1, "wrong", 2)]
    out = invoke("run", net, *files, "--on", "dask://local?workers=2", "--output", tmp_path / "out.npz", code=4)
    assert "wrong.npy" in out and "shape (1, 5)" in out
    with np.load(tmp_path / "out.npz") as found:
        model = graphc.compile(net)
        for i in range(3):
            (key,) = [k for k in found if f"{i}.npy" in k and k.endswith("y")]
            np.testing.assert_allclose(found[key], model(X[:1] + np.float32(i))[0], rtol=1e-5, atol=1e-6)
