"""Files that mean harm do none; and what would be found if they did. `python -m tests.harm` tries more of them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from harm import campaign
from harm.campaign import run
from harm.hostile import KINDS
from harm.make import SHARES
from harm_faults import SECRET, WAITS
from opcheck import onnx_model, operands

import graphc
from graphc import memory_limit
from graphc.errors import OutOfMemoryError, TypeRuleError, UnsupportedError
from graphc.frontends import check
from graphc.graph import Builder
from graphc.op import get_op
from graphc.ops._fourier import largest_prime, smooth

FILES = 1000


def test_files_that_mean_harm():
    """Each is refused with one clear error, or loads and runs."""
    summary = run(0, range(FILES), 2)
    assert not summary.faults, f"\n{summary}"
    assert summary.files == FILES and summary.table.keys() == SHARES.keys()
    assert all(summary.table[kind]["refused"] and summary.table[kind]["ran"] for kind in SHARES if kind != "inputs")
    assert summary.table["inputs"]["run refused"] and summary.table["inputs"]["ran"]
    assert summary.names["hostile"].keys() == KINDS.keys()


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (1, "exception", "ValueError: no GraphcError"),
        (2, "message", "0 characters"),
        (3, "memory", "MemoryError"),
        (4, "crash", "Segmentation fault"),
        (5, "hang", "in _hang"),
        (6, "watch", "writes .*written-by-a-test-of-harm"),
        (7, "exception", "RecursionError"),
        (SECRET, "watch", "opens .*/outside/secret.bin"),
    ],
)
def test_a_planted_fault_is_found(number: int, kind: str, text: str, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    summary = run(0, [number, 0], 1, module="harm_faults")
    assert summary.files == 2, "the next file is tried after one that ends the process"
    (found,) = summary.faults.items()
    (said, where), (numbers, told) = found
    assert (said, numbers) == (kind, [number])
    assert re.search(text, f"{where}\n{told}")


def test_a_process_that_waits_is_ended(monkeypatch: pytest.MonkeyPatch):
    """The clock counts the CPU's time; who waits for a pipe takes none."""
    monkeypatch.setattr(campaign, "PATIENCE", 6.0)
    summary = run(0, [WAITS], 1, module="harm_faults")
    assert [kind for kind, _ in summary.faults] == ["hang"]


# --- what was found ---------------------------------------------------------------------------------------------------
def test_an_expansion_is_as_long_as_a_file_says():
    b = Builder()
    x = b.input("x", "float32", ("n",))
    with pytest.raises(UnsupportedError, match="more than 4096 operators"):
        b.add("com.microsoft::UnfoldTensor", x, size=1 << 40)


def test_samples_are_as_many_as_a_file_says():
    b = Builder()
    operands = [b.input("x", "float32", (1, 1, 5, 5)), b.input("r", "float32", (1, 4)), b.input("i", "int64", (1,))]
    b.add("RoiAlign", *operands, sampling_ratio=1 << 16)
    with pytest.raises(TypeRuleError, match="at most 65536"):
        b.add("RoiAlign", *operands, sampling_ratio=(1 << 16) + 1)


def test_samples_are_as_many_as_a_region_is_large(monkeypatch: pytest.MonkeyPatch):
    """The reference makes tables of all; kernels leave out those that lie outside of the image."""
    region = np.float32([[0, 0, 3e9, 3e9]])
    given = {"x": np.ones((1, 1, 5, 5), np.float32), "r": region, "i": np.zeros(1, np.int64)}
    b = Builder()
    values = [b.input(n, a.dtype, a.shape) for n, a in given.items()]
    graph = b.build({"y": b.add("RoiAlign", *values, output_height=2, output_width=2, sampling_ratio=0)})
    assert graphc.compile(graph).run(given)["y"].shape == (1, 1, 2, 2)
    monkeypatch.setattr(memory_limit, "memory", lambda: 1 << 34)
    with pytest.raises(OutOfMemoryError, match="the samples of a region"):
        graphc.compile(graph, target="reference").run(given)


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_a_transform_beyond_the_memory_is_refused_before_its_factors_are_sought(target: str):
    b = Builder()
    n = b.input("n", "int64", ())
    graph = b.build({"y": b.add("DFT", b.input("x", "float32", (1, 5, 1)), n)})
    with pytest.raises(OutOfMemoryError, match="DFT.*GiB|TiB"):
        graphc.compile(graph, target=target).run({"x": np.ones((1, 5, 1), np.float32), "n": np.int64((1 << 43) + 1)})


@pytest.mark.parametrize("least", [1, 2, 5, 6, 7, 11, 121, 1025, 65537, 65601])
def test_the_next_number_without_large_primes(least: int):
    n = least
    while largest_prime(n) > 5:
        n += 1
    assert smooth(least) == n


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_no_result_has_a_negative_dim(target: str):
    b = Builder()
    size = b.input("size", "int64", (4,))
    graph = b.build({"y": b.add("AffineGrid", b.input("theta", "float32", (1, 2, 3)), size)})
    with pytest.raises(TypeRuleError, match="no dim is less than 0"):
        graphc.compile(graph, target=target).run(
            {"theta": np.ones((1, 2, 3), np.float32), "size": np.array([1, 1, -5, 2])}
        )


def test_a_file_can_not_name_an_operator_whose_tables_are_addresses():
    case = get_op("TreeScores").samples.cases[0]
    model = onnx_model("TreeScores", case, operands(get_op("TreeScores"), case), 22)
    (problem,) = check(model)
    assert "TreeScores" in str(problem)
