"""A model as a C library: called through ctypes, and by the example, which a C compiler builds where there is one."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nets import convnet
from scripts import ROOT

import graphc
from graphc.artefact.c import function
from graphc.artefact.c.build import build_c
from graphc.artefact.c.header import identifier
from graphc.backends.cpu.hardware import cpu_flags
from graphc.errors import InputError, UnsupportedError
from graphc.graph import Builder, Graph

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
DIGITS = ROOT / "examples/digits"
AVX2 = ["cpu:avx2"]  # whose kernels other tests have compiled
pytestmark = pytest.mark.skipif("avx2" not in cpu_flags(), reason="no AVX2")
OK, OUT_OF_RANGE, NO_CPU = 0, 2, 3


def library(graph: Graph, folder: Path, **options: Any) -> Any:
    """A function of arrays: inputs, then results; gives the code."""
    path = folder / f"lib{graph.name}.so"
    build_c(graph, path, targets=AVX2, **options)
    run = getattr(ctypes.CDLL(str(path)), f"{graph.name}_run")
    return lambda *arrays: run(*(a.ctypes.data_as(ctypes.c_void_p) for a in arrays))


def test_threads_at_once(tmp_path: Path) -> None:
    graph = convnet()
    run = library(graph, tmp_path, shapes=[{"x": (2, 3, 28, 28)}])
    pictures = np.random.default_rng(0).standard_normal((8, 2, 3, 28, 28)).astype(np.float32)
    found, codes = np.zeros((8, 2, 10), np.float32), []

    def work(i: int) -> None:
        codes.extend(run(pictures[i], found[i]) for _ in range(20))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert codes == [OK] * 160
    model = graphc.compile(graph, target="cpu:avx2", threads=1)
    for x, y in zip(pictures, found):
        assert np.array_equal(y, model(x))  # of the same kernels


def test_positions_out_of_range(tmp_path: Path) -> None:
    b = Builder("rows")
    table = b.constant(np.arange(12).reshape(4, 3), np.int32)
    graph = b.build({"y": b.add("Gather", table, b.input("i", "int64", (2,)))})
    run, y = library(graph, tmp_path), np.zeros((2, 3), np.int32)
    assert run(np.int64([1, -1]), y) == OK
    assert y.tolist() == [[3, 4, 5], [9, 10, 11]]
    assert run(np.int64([1, 4]), y) == OUT_OF_RANGE
    assert run(np.int64([0, 0]), y) == OK


def test_a_cpu_that_lacks_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(function.BITS, "avx2", (7, 0, 1, 27))  # AVX-512 ER, of CPUs that are made no more
    b = Builder("sum_of_two")
    x = b.input("x", "float32", (3,))
    run = library(b.build({"y": b.add("Add", x, x)}), tmp_path)
    y = np.full(3, 7, np.float32)
    assert run(np.ones(3, np.float32), y) == NO_CPU
    assert y.tolist() == [7, 7, 7]


def test_types_names_and_several_results(tmp_path: Path) -> None:
    b = Builder("mixed")
    x, flag = b.input("my x", "float64", (2,)), b.input("while", "bool", (2,))
    total = b.add("Where", flag, x, b.constant([0, 0], "float64"))
    graph = b.build({"my-x": total, "not": b.add("Not", flag)})
    run = library(graph, tmp_path)
    y, no = np.zeros(2), np.zeros(2, bool)
    assert run(np.array([1.5, 2.5]), np.array([True, False]), y, no) == OK
    assert y.tolist() == [1.5, 0] and no.tolist() == [False, True]
    text = (tmp_path / "mixed.h").read_text()
    expected = "int mixed_run(const double my_x[2], const uint8_t _while[2], double my_x_[2], uint8_t _not[2]);"
    assert expected in text
    assert identifier("3d/net é*") == "_3d_net"


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="for one target"):
        build_c(convnet(), tmp_path / "m.so", targets=["cpu", "cpu:avx2"])
    with pytest.raises(InputError, match="for one set of shapes"):
        build_c(convnet(), tmp_path / "m.so", shapes=[{"x": (range(1, 3), 3, 28, 28)}])
    b = Builder("quarter")
    nibbles = b.input("x", "int4", (4,))
    with pytest.raises(UnsupportedError, match="'x' is of type int4"):
        build_c(b.build({"y": b.add("Reshape", nibbles, b.constant([2, 2], "int64"))}), tmp_path / "m.so")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
def test_the_example(tmp_path: Path) -> None:
    assert COMPILER is not None
    build_c(DIGITS / "digits.onnx", tmp_path / "libdigits.so", targets=AVX2, shapes=[{"image": (1, 1, 8, 8)}])
    strict = ["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Werror", "-O1", "-pthread"]
    command = [
        COMPILER,
        *strict,
        "-I.",
        ROOT / "examples/c/digits.c",
        "-L.",
        "-ldigits",
        "-Wl,-rpath,$ORIGIN",
        "-o",
        "digits",
    ]
    subprocess.run(command, cwd=tmp_path, check=True)
    with np.load(DIGITS / "digits.npz") as data:
        pictures, labels = data["test_x"].astype(np.float32), data["test_y"]
    ran = subprocess.run([tmp_path / "digits", "4"], input=pictures.tobytes(), capture_output=True, check=True)
    found = np.array(ran.stdout.split(), int)
    assert np.array_equal(found, graphc.compile(DIGITS / "digits.onnx")(pictures[:, None]).argmax(1))
    assert np.mean(found == labels) > 0.99
