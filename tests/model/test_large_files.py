"""Files of gigabytes: weights beside a model are mapped, not read. The data is a hole in a file, which takes no disk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from scripts import run_script

import graphc
from graphc import frontends
from graphc.errors import LoadError
from graphc.frontends import onnx_file

GB = 1 << 30
PARTS = 4
COLUMNS = 16384  # a part is [COLUMNS, COLUMNS] of float32, 1 GB


def large_model(folder: Path, parts: int = PARTS, columns: int = COLUMNS) -> Path:
    """A chain of products with `parts` matrices of zeros in one external file."""
    nbytes, tensors = 4 * columns * columns, []
    for i in range(parts):
        t = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[columns, columns])
        t.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "w.bin"), ("offset", i * nbytes), ("length", nbytes)):
            t.external_data.add(key=key, value=str(value))
        tensors.append(t)
    names = ["x", *(f"v{i}" for i in range(1, parts)), "y"]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(parts)]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, columns]) for n in "xy")
    graph = helper.make_graph(nodes, "large", [x], [y], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path = folder / "large.onnx"
    path.write_bytes(model.SerializeToString())
    with (folder / "w.bin").open("wb") as f:
        os.truncate(f.fileno(), parts * nbytes)
    return path


def measured(code: str, *args: object, **environment: str) -> tuple[float, int]:
    """(CPU seconds, the most bytes of memory that the process had) of `code`, after imports, in a process of its own."""
    script = f"""
import sys, time
import numpy as np
import graphc
from graphc import frontends
import graphc.frontends.onnx_load
started = time.process_time()
{code}
seconds = time.process_time() - started
peak = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(seconds, peak)
"""
    seconds, peak = run_script(script, *args, limit=600, **environment).split()[-2:]
    return float(seconds), int(peak)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
@pytest.mark.parametrize("parts", [1, pytest.param(PARTS, marks=pytest.mark.slow)])
def test_a_check_of_gigabytes_reads_none(tmp_path: Path, parts: int):
    seconds, peak = measured("assert frontends.check(sys.argv[1]) == []", large_model(tmp_path, parts))
    assert seconds < 2 and peak < 0.3 * GB, "the weights were read"


@pytest.mark.slow
def test_a_model_of_gigabytes_has_one_copy_in_memory(tmp_path: Path):
    """While it is compiled each weight is packed to the cache's file, and its pages are given back; a run maps that file."""
    path, cache = large_model(tmp_path), str(tmp_path / "cache")
    run = "assert (graphc.compile(sys.argv[1])(np.ones((1, 16384), np.float32)) == 0).all()"
    _, first = measured(run, path, GRAPHC_CACHE_DIR=cache)
    assert first < (PARTS + 0.7) * GB
    _, again = measured(run, path, GRAPHC_CACHE_DIR=cache)
    assert again < (PARTS + 0.3) * GB


# --- the limits of protobuf -------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_message_above_two_gigabytes_is_read(tmp_path: Path):
    """protobuf alone refuses it: the weights in it are not given to protobuf."""
    columns, path = COLUMNS, tmp_path / "whole.onnx"
    model = onnx.load(large_model(tmp_path, 3), load_external_data=False)
    heads = []
    for t in model.graph.initializer:
        head = TensorProto(name=t.name, data_type=t.data_type, dims=t.dims).SerializeToString()
        heads.append(head + b"\x4a" + varint(4 * columns * columns))  # raw_data
    del model.graph.initializer[:]
    whole = [len(h) + 4 * columns * columns for h in heads]
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    length = len(graph) + sum(1 + len(varint(n)) + n for n in whole)
    with path.open("wb") as f:
        f.write(model.SerializeToString() + b"\x3a" + varint(length) + graph)
        for head, n in zip(heads, whole):
            f.write(b"\x2a" + varint(n) + head)
            f.seek(4 * columns * columns, os.SEEK_CUR)
        os.truncate(f.fileno(), f.tell())
    assert path.stat().st_size > 3 * GB
    seconds, peak = measured("assert frontends.check(sys.argv[1]) == []", path)
    assert seconds < 2 and peak < 0.3 * GB


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


@pytest.mark.slow
def test_what_protobuf_would_not_take_is_an_error_with_a_remedy(tmp_path: Path):
    """More than 2 GB that is no large tensor of the graph: a text of nothing."""
    path = tmp_path / "text.onnx"
    with path.open("wb") as f:
        f.write(b"\x12" + varint(5 * GB))  # producer_name
        f.truncate(f.tell() + 5 * GB)
    with pytest.raises(LoadError, match="GiB.*besides.*\n.*external data"):
        frontends.load(path)


def test_what_is_nested_too_deeply_is_an_error_with_a_remedy():
    body = b""
    for _ in range(60):
        for number in (6, 5, 1):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            body = bytes([number << 3 | 2]) + varint(len(body)) + body
    with pytest.raises(LoadError, match="nested too deeply\n.*about 30 branches"):
        frontends.load(b"\x3a" + varint(len(body)) + body)


def test_millions_of_entries_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnx_file, "_MOST_FIELDS", 1000)
    with pytest.raises(LoadError, match="more than 1000 entries\n"):
        frontends.load(b"\x3a" + varint(2002) + b"\x70\x01" * 1001)


def test_large_models_compute(tmp_path: Path):
    """The same with few numbers, which are no zeros."""
    path = large_model(tmp_path, 2, 300)
    w = np.random.default_rng(0).standard_normal((2, 300, 300)).astype(np.float32) / 20
    (tmp_path / "w.bin").write_bytes(w.tobytes())
    x = np.ones((1, 300), np.float32)
    np.testing.assert_allclose(graphc.compile(path)(x), x @ w[0] @ w[1], rtol=0, atol=1e-4)
