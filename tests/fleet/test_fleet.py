"""Functions for engines of many processes, and Dask as one: every result comes, in order, also when workers are lost."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphc
from graphc import fleet
from graphc.errors import GraphcError, InputError, UnreachableError
from graphc.fleet.engine import Address, address
from graphc.fleet.functions import opened
from graphc.frontends.onnx_export import to_onnx
from graphc.graph import Builder, Graph

F32 = np.float32
INPUTS = np.random.default_rng(0).uniform(-1, 1, (60, 1, 8)).astype(F32)


def network(seed: int = 0) -> Graph:
    """x [n, 8] -> y [n, 4]."""
    b, weight = Builder("network"), np.random.default_rng(seed).uniform(-1, 1, (8, 4))
    return b.build({"y": b.add("Tanh", b.add("Gemm", b.input("x", F32, ("n", 8)), b.constant(weight, F32)))})


def lookup() -> Graph:
    """at [n] -> y [n]: an index may be wrong."""
    b = Builder("lookup")
    return b.build({"y": b.add("Gather", b.constant(np.arange(5), F32), b.input("at", np.int64, ("n",)))})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(to_onnx(network()), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture(scope="module")
def client() -> Iterator:
    distributed = pytest.importorskip("distributed")
    paths = [str(Path(__file__).resolve().parents[2]), *filter(None, sys.path)]
    options = {"n_workers": 2, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": None}
    with pytest.MonkeyPatch.context() as m:
        m.setenv("PYTHONPATH", os.pathsep.join(paths))  # of the workers
        with distributed.LocalCluster(**options, silence_logs=50) as cluster, distributed.Client(cluster) as found:
            yield found


def equal(found: dict[str, np.ndarray], x: np.ndarray, model) -> None:
    np.testing.assert_allclose(found["y"], model(x), rtol=1e-5, atol=1e-6)


def test_a_process_has_one_model_of_a_path_until_its_file_changes(path: Path):
    x = INPUTS[0]
    first = opened(path, threads=1)
    assert opened(path, threads=1) is first and opened(path, threads=2) is not first
    assert opened(first) is first
    equal(fleet.run(path, {"x": x}, threads=1), x, first)
    (path.with_name("new.onnx")).write_bytes(to_onnx(network(1)).SerializeToString())
    os.replace(path.with_name("new.onnx"), path)
    equal(fleet.run(path, {"x": x}, threads=1), x, graphc.compile(network(1)))


def test_partitions(path: Path):
    found = fleet.run_all(str(path), ({"x": x} for x in INPUTS), threads=1)
    model = graphc.compile(path)
    for x, results in zip(INPUTS, found, strict=True):
        equal(results, x, model)


def test_addresses():
    assert address("dask://10.0.0.7:8786") == Address("10.0.0.7:8786", 0)
    assert address("dask://local?workers=3") == Address("", 3)
    assert address("dask://local").workers >= 1
    assert address("dask://10.0.0.7:8786").threads is None and address("dask://local?workers=1000").threads == 1


@pytest.mark.parametrize(
    "wrong",
    [
        "spark://a:1",
        "dask://",
        "dask://host",
        "dask://host:x",
        "dask://host:1?workers=2",
        "dask://local?workers=0",
        "dask://local?w=1",
        "local",
    ],
)
def test_what_is_no_address(wrong: str):
    with pytest.raises(InputError, match="is no address"):
        fleet.engine(wrong)


@pytest.mark.slow
def test_joblib_takes_a_model(path: Path):
    joblib = pytest.importorskip("joblib")
    model = graphc.compile(path, threads=1)
    found = joblib.Parallel(2)(joblib.delayed(fleet.run)(model, {"x": x}) for x in INPUTS[:8])
    for x, results in zip(INPUTS, found):
        equal(results, x, model)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["path", "graph", "path that workers lack"])
def test_dask_gives_results_in_order(by: str, path: Path, client, monkeypatch: pytest.MonkeyPatch):
    model = graphc.compile(network() if by == "graph" else path, threads=1)
    if by == "path that workers lack":
        from graphc.fleet import dask_engine

        monkeypatch.setattr(dask_engine, "can_open", lambda data: False)
    with fleet.engine(client) as engine:
        for x, results in zip(INPUTS, engine.map(model, ({"x": x} for x in INPUTS)), strict=True):
            equal(results, x, model)


@pytest.mark.slow
def test_lost_workers_are_survived(path: Path, client):
    """One process is killed while it has tasks; Dask's nanny starts another, which gets the model, too."""
    model = graphc.compile(path, threads=1)
    before = set(client.run(os.getpid).values())
    with fleet.engine(client) as engine:
        found = engine.map(model, ({"x": x} for x in np.concatenate([INPUTS] * 5)))
        for number, (x, results) in enumerate(zip(np.concatenate([INPUTS] * 5), found, strict=True)):
            if number in (20, 120):
                os.kill(sorted(client.run(os.getpid).values())[0], signal.SIGKILL)
                if number == 120:
                    client.wait_for_workers(2, timeout=60)
            equal(results, x, model)
    client.wait_for_workers(2, timeout=60)
    assert not before <= set(client.run(os.getpid).values())


@pytest.mark.slow
def test_dask_brings_the_errors_of_models_and_of_lost_clusters(client, monkeypatch: pytest.MonkeyPatch):
    from graphc.fleet import dask_engine

    with fleet.engine(client) as engine:
        found = engine.map(graphc.compile(lookup(), threads=1), [{"at": np.array([at])} for at in (1, 9)])
        assert next(found)["y"].tolist() == [1]
        with pytest.raises(GraphcError, match="9"):
            next(found)
        monkeypatch.setattr(dask_engine, "LOST", 1.0)
        monkeypatch.setattr(dask_engine, "POLL", 0.2)
        client.cluster.scale(0)
        while client.nthreads():
            time.sleep(0.01)
        with pytest.raises(UnreachableError, match="no worker is left"):
            list(engine.map(graphc.compile(network(), threads=1), [{"x": INPUTS[0]}]))
        client.cluster.scale(2)


@pytest.mark.slow
def test_nobody_answers(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("graphc.fleet.dask_engine.ANSWER", 1)
    with pytest.raises(UnreachableError, match="no Dask scheduler answers"), fleet.engine("dask://127.0.0.1:9"):
        pass
