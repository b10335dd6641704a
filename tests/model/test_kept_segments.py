"""Graphs that are cut where data decides, on disk: the next process runs them without loading them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import agree
from scripts import run_script
from test_segments import MIDDLES, data, graph

import graphc
from graphc.backends.cpu import checked
from graphc.backends.reference import run as reference
from graphc.frontends.onnx_export import to_onnx
from graphc.graph import Graph
from graphc.model import Model

pytestmark = pytest.mark.skipif(checked.wanted(), reason="checked runs keep no plans")

# runs the file argv[1] on the arrays of argv[2]; prints which modules of those that a run from disk does without it has loaded
PROGRAM = """
import json, sys
import numpy as np
import graphc

model = graphc.compile(sys.argv[1], threads=1)
for x in np.load(sys.argv[2]).values():
    model(x)
heavy = "onnx numba llvmlite graphc.op graphc.graph graphc.segments graphc.frontends".split()
print(json.dumps([m for m in heavy if m in sys.modules]))
"""


def saved(g: Graph, folder: Path) -> Path:
    """A file that no cache has seen."""
    proto = to_onnx(g)
    proto.doc_string = os.urandom(8).hex()
    onnx.save(proto, folder / "net.onnx")
    return folder / "net.onnx"


def inputs(rows: int | str) -> list[np.ndarray]:
    return [data(seed, 6 if rows == 6 else 4 + seed % 3) for seed in range(8)]


def run(path: Path, g: Graph, arrays: list[np.ndarray]) -> Model:
    """As a new process does."""
    model = graphc.compile(path, threads=1)
    for x in arrays:
        agree(model.run({"x": x}), reference(g, {"x": x}))
    return model


def was_compiled(model: Model) -> bool:
    return model._source._infos != ()


@pytest.mark.parametrize("name", MIDDLES)
@pytest.mark.parametrize("rows", [6, "n"])
def test_the_next_model_compiles_nothing(name: str, rows: int | str, tmp_path: Path):
    g = graph(MIDDLES[name][0], rows)
    path = saved(g, tmp_path)
    assert was_compiled(run(path, g, inputs(rows)))
    again = run(path, g, inputs(rows))
    assert not was_compiled(again)
    assert again.plan({"x": (6, 8)}).steps


@pytest.mark.parametrize("name", ["two looks", "Loop", "If"])
def test_shapes_that_turn_up_later_are_planned_then(name: str, tmp_path: Path):
    g = graph(MIDDLES[name][0], "n")
    path, (first, *others) = saved(g, tmp_path), inputs("n")
    run(path, g, [first])
    assert was_compiled(run(path, g, [first, *others]))
    assert not was_compiled(run(path, g, [*others, first]))


def test_what_is_gone_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    g = graph(MIDDLES["two looks"][0])
    path = saved(g, tmp_path)
    model = run(path, g, inputs(6))
    folder = model._source.backend.folder.entry.folder
    files = sorted(folder.glob("plan-*.json"))
    assert len(files) >= 4, "the whole, its prefix, the rest, its prefix"
    for file in files:
        file.unlink()
        assert was_compiled(run(path, g, inputs(6)))
        assert not was_compiled(run(path, g, inputs(6)))


def test_a_process_loads_neither_front_end_nor_compiler(tmp_path: Path):
    path = saved(graph(MIDDLES["NonZero"][0]), tmp_path)
    np.savez(tmp_path / "inputs.npz", *inputs(6))
    runs = [json.loads(run_script(PROGRAM, path, tmp_path / "inputs.npz")) for _ in range(2)]
    assert "graphc.segments" in runs[0] and runs[1] == []
