"""Pickles of models: small where there is a file, whole where there is none, and one model for all equal ones of a process."""

from __future__ import annotations

import gc
import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import external_data_helper
from scripts import run_script

import graphc
from graphc import pickled
from graphc.errors import LoadError
from graphc.frontends.onnx_export import to_onnx
from graphc.graph import Builder, Graph

F32 = np.float32
X = np.random.default_rng(0).uniform(-1, 1, (2, 64)).astype(F32)

# unpickles argv[1] in two threads at once, and says whether that gave one model, what it gives, and whether plans were there
PROGRAM = """
import json, pickle, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
import graphc

data = Path(sys.argv[1]).read_bytes()
with ThreadPoolExecutor(2) as pool:
    first, second = pool.map(pickle.loads, [data, data])
x = np.random.default_rng(0).uniform(-1, 1, (2, 64)).astype(np.float32)
print(json.dumps([first is second is pickle.loads(data), first(x).tolist(), "numba" in sys.modules]))
"""


@pytest.fixture(autouse=True)
def nothing_held(monkeypatch: pytest.MonkeyPatch):
    """What other tests pickled is no part of these."""
    monkeypatch.setattr(pickled, "_models", type(pickled._models)())
    monkeypatch.setattr(pickled, "_held", type(pickled._held)())


def network(seed: int = 0) -> Graph:
    """x [n, 64] -> y [n, 64], with 16 KiB of weights."""
    b, weight = Builder("network"), np.random.default_rng(seed).uniform(-0.2, 0.2, (64, 64))
    return b.build({"y": b.add("Tanh", b.add("Gemm", b.input("x", F32, ("n", 64)), b.constant(weight, F32)))})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An ONNX file, with its weight in another."""
    proto = to_onnx(network())
    external_data_helper.convert_model_to_external_data(proto, location="weights.bin", size_threshold=0)
    onnx.save(proto, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def forget() -> None:
    pickled._held.clear()
    pickled._models.clear()


def test_a_file_is_pickled_as_its_path(path: Path):
    model = graphc.compile(path, threads=1)
    data = pickle.dumps(model)
    assert len(data) < 1000 and pickle.loads(data) is model
    want = model(X)
    del model
    forget()
    np.testing.assert_array_equal(pickle.loads(data)(X), want)


@pytest.mark.parametrize("source", ["bytes", "graph"])
def test_what_has_no_file_is_pickled_whole(source: str):
    graph = network()
    model = graphc.compile(graph if source == "graph" else to_onnx(graph).SerializeToString(), threads=1)
    data, want = pickle.dumps(model), model(X)
    assert len(data) > 16384 and pickle.loads(data) is model
    del model
    forget()
    again = pickle.loads(data)
    np.testing.assert_array_equal(again(X), want)
    assert pickle.dumps(again) == data


@pytest.mark.slow
@pytest.mark.parametrize("source", ["file", "graph"])
def test_another_process_has_one_model_and_the_next_its_plans(source: str, path: Path, tmp_path: Path):
    model = graphc.compile(path if source == "file" else network(), threads=1, cache=True)
    (tmp_path / "m.pickle").write_bytes(pickle.dumps(model))
    for number in range(2):
        one, result, compiled = json.loads(
            run_script(PROGRAM, tmp_path / "m.pickle", GRAPHC_CACHE_DIR=str(tmp_path / "cache"))
        )
        assert one and compiled == (number == 0)
        np.testing.assert_allclose(result, model(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["m.onnx", "weights.bin"])
def test_the_graph_is_pickled_once_a_file_has_gone(name: str, path: Path):
    model = graphc.compile(path, threads=1)
    want = model(X)
    path.with_name(name).unlink()
    data = pickle.dumps(model)
    assert len(data) > 16384
    del model
    forget()
    np.testing.assert_array_equal(pickle.loads(data)(X), want)


@pytest.mark.parametrize("name", ["m.onnx", "weights.bin"])
def test_a_file_that_is_another_when_it_is_read_is_refused(name: str, path: Path):
    data = pickle.dumps(graphc.compile(path, threads=1))
    forget()
    gc.collect()
    file = path.with_name(name)
    whole = file.read_bytes()
    file.unlink()
    with pytest.raises(LoadError, match=rf"{name}', which a pickled model is read from, is not here.*\n.*source_graph"):
        pickle.loads(data)
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(LoadError, match=rf"{name}' is not what it was"):
        pickle.loads(data)
    file.write_bytes(whole)
    assert pickle.loads(data)(X).shape == (2, 64)


def test_options_tell_models_apart(path: Path):
    one, two = graphc.compile(path, threads=1), graphc.compile(path, threads=2)
    assert pickle.loads(pickle.dumps(one)) is one and pickle.loads(pickle.dumps(two)) is two
    reference = graphc.compile(path, target="reference")
    forget()
    assert "reference" in repr(pickle.loads(pickle.dumps(reference)))


def test_equal_files_are_one_model_and_others_are_not(path: Path, tmp_path: Path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder, seed in ((here, 0), (there, 0), (tmp_path, 1)):
        folder.mkdir(exist_ok=True)
        onnx.save(to_onnx(network(seed)), folder / "net.onnx")
    first, equal, other = (pickle.dumps(graphc.compile(f / "net.onnx", threads=1)) for f in (here, there, tmp_path))
    assert pickle.loads(first) is pickle.loads(equal)
    assert pickle.loads(other) is not pickle.loads(first)


def test_how_a_description_is_read_goes_along(tmp_path: Path):
    file = tmp_path / "nets.yaml"
    file.write_text(
        "graphc: 1\n"
        "params: {width: 3}\n"
        "nets:\n"
        "  small: {inputs: {x: [n, 4]}, net: [{dense: $width}]}\n"
        "  large: {inputs: {x: [n, 4]}, net: [{dense: $width}, {dense: 9}]}\n"
    )
    model = graphc.compile(file, params={"width": 5}, net="large", threads=1)
    data, x = pickle.dumps(model), X[:, :4].copy()
    want = model(x)
    del model
    forget()
    again = pickle.loads(data)
    np.testing.assert_array_equal(again(x), want)
    assert again.source_graph.nodes[0].output.type.shape[-1] == 5 and again.outputs[0].shape == ("n", 9)


def test_only_the_last_models_are_held():
    models = [pickle.dumps(graphc.compile(network(seed), threads=1)) for seed in range(pickled.HELD + 1)]
    gc.collect()
    for data in models:
        pickle.loads(data)
    gc.collect()
    assert len(pickled._held) == len(pickled._models) == pickled.HELD
    with ThreadPoolExecutor(4) as pool:
        begin = threading.Barrier(4)
        found = list(pool.map(lambda _: (begin.wait(), pickle.loads(models[0]))[1], range(4)))
    assert all(m is found[0] for m in found)
