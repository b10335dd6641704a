"""Models, their plans and their memory go with the last reference: nothing waits for the garbage collector."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import graphc
from graphc.errors import GraphcError
from graphc.frontends.onnx_export import to_onnx
from graphc.graph import Builder, Graph


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def network(kind: str) -> Graph:
    b, rng = Builder(kind), np.random.default_rng(0)
    x = b.input("x", "float32", ("n", 64))
    y = b.add("Relu", b.add("MatMul", x, b.constant(rng.standard_normal((64, 64)).astype(np.float32))))
    if kind == "segments":  # sizes that follow from data
        y = b.add(
            "Gather",
            y,
            b.add("Squeeze", b.add("NonZero", b.add("ReduceMax", x, b.constant([1]), keepdims=False)), b.constant([0])),
        )
    if kind == "two inputs":
        y = b.add("Add", y, b.input("z", "float32", ("n", 64)))
    if kind == "checked":
        y = b.add("Gather", y, b.input("i", "int64", ("k",)))
    if kind == "host":
        y = b.add(
            "GridSample", b.add("Reshape", y, b.constant([1, -1, 8, 8])), b.constant(np.zeros((1, 2, 2, 2), np.float32))
        )
    return b.build({"y": y})


FEEDS = {"two inputs": {"z": np.ones((1, 64), np.float32)}, "checked": {"i": np.array([0])}}
KINDS = ["plain", "two inputs", "checked", "segments", "host"]


def watched(model: graphc.Model) -> list[weakref.ref]:
    """The model, what it was made from, its plans and their programs."""
    plans = list(model._plans.values())
    programs = [p.program for p in plans if hasattr(p, "program")]
    return [weakref.ref(o) for o in (model, model._source, model._source.backend, *plans, *programs)]


@pytest.mark.parametrize("target", ["cpu", "reference"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", ["graph", "file", "bytes"])
def test_a_model_is_freed(source: str, kind: str, target: str, tmp_path: Path):
    graph = network(kind)
    path = tmp_path / "m.onnx"
    if source != "graph":
        path.write_bytes(to_onnx(graph).SerializeToString())
    model = graphc.compile(
        {"graph": graph, "file": path, "bytes": path.read_bytes() if source == "bytes" else b""}[source], target=target
    )
    feeds = {"x": np.ones((1, 64), np.float32)} | FEEDS.get(kind, {})
    for _ in range(3):
        model.run(feeds)
    if len(feeds) == 1:
        model(feeds["x"])
        model.run({"x": np.ones((3, 64), np.float32)})
    refs = watched(model)
    del model
    assert [r() for r in refs] == [None] * len(refs)


X = np.ones((2, 64), np.float32)
MISTAKES = {
    "a position out of range": lambda m: m(X, np.array([7])),
    "the same by name": lambda m: m.run({"x": X, "i": np.array([7])}),
    "the same with arrays for results": lambda m: m.run(
        {"x": X, "i": np.array([7])}, {"y": np.empty((1, 64), np.float32)}
    ),
    "an input too few": lambda m: m(X),
    "a name too few": lambda m: m.run({"x": X}),
    "another dtype": lambda m: m(X, np.array([1.5])),
    "another shape": lambda m: m(X[0], np.array([1])),
    "no array": lambda m: m([[1], [1, 2]], np.array([1])),
    "a shape that is open": lambda m: m.plan(),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_model_is_freed_after_errors(mistake: str):
    model = graphc.compile(network("checked"))
    model(X, np.array([1]))
    try:
        MISTAKES[mistake](model)
    except GraphcError as error:
        assert str(error)
    else:
        pytest.fail("no error")
    refs = watched(model)
    del model
    assert [r() for r in refs] == [None] * len(refs)


def test_a_model_is_freed_after_reports():
    model = graphc.compile(network("checked"))
    repr(model), repr(model.plan({"x": (2, 64), "i": (1,)})), model.graph, model.source_graph
    refs = watched(model)
    del model
    assert [r() for r in refs] == [None] * len(refs)


def test_memory_of_models_goes_with_them():
    """Two dozen models one after the other, each with an arena of 16 MB, take no more than a few."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    b = Builder("large")
    y = b.add("Softmax", b.add("Exp", b.add("Transpose", b.input("x", "float32", (2048, 1024)), perm=[1, 0])))
    graph = b.build({"y": b.add("ReduceSum", y, b.constant([0, 1]))})
    x = np.ones((2048, 1024), np.float32)
    sizes = []
    for i in range(24):
        graphc.compile(graph, threads=1)(x)
        if i >= 4:
            sizes.append(resident())
    assert max(sizes) - min(sizes) < 48e6
