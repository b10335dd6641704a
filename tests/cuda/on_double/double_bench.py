"""What is measured on a GPU, on the double: the roofline, `graphc bench`, the benchmark's worker. Times mean nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from driver_double import State

import graphc
from graphc.backends.cuda.codegen.figures import card_of
from graphc.backends.cuda.product.product_block import tensor_cores
from graphc.backends.cuda.roofline import roofline
from graphc.backends.cuda.runtime.gpu import gpu
from graphc.cli import main
from graphc.report import StepInfo

ROOT = Path(__file__).parents[3]
YAML = """\
graphc: 1
inputs: {x: {shape: [batch, 32]}}
net: [{dense: 16}, relu, softmax]
"""
sys.path.insert(0, str(ROOT / "benchmarks"))


@pytest.fixture
def small_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphc.backends.cuda.roofline.COPIED", 1 << 16)


def step(algorithm: str, flops: int = 10**9, nbytes: int = 4) -> StepInfo:
    return StepInfo(0, ("n",), ("MatMul",), "kernel", algorithm, flops=flops, nbytes=nbytes)


def test_limits_are_those_of_this_gpu(late: State, small_copies: None):
    limits, known = roofline(gpu(0)), card_of((9, 0))
    assert limits.float32 == 4 * 1.5e9 * known.float32_per_clock  # the double's multiprocessors and clock
    assert limits.card.l2 == 32 << 20 and limits.rates[0][0] == 32 << 20
    card = limits.card
    rates = {
        "tiles of 64x64": limits.float32,
        tensor_cores("float16", 1): card.half,
        f"{tensor_cores('bfloat16', 1)}, wgmma": card.half / known.mma,
        tensor_cores("float32", 3): card.tf32 / 3,
        tensor_cores("float32", 1): card.tf32,
    }
    for algorithm, rate in rates.items():
        assert limits.seconds(step(algorithm)) == pytest.approx(1e9 / rate), algorithm
    assert limits.seconds(step("", flops=0, nbytes=1 << 30)) == pytest.approx((1 << 30) / card.memory)
    assert "double 0" in limits.about(1) and "4 multiprocessors at 1.5 GHz" in limits.about(1)


def test_bench_of_a_gpu(late: State, small_copies: None, tmp_path: Path):
    model, trace = tmp_path / "tiny.yaml", tmp_path / "steps.json"
    model.write_text(YAML)
    options = ["--target", "cuda", "--batch", "2", "--rounds", "2", "--profile", "--trace", str(trace)]
    result = CliRunner().invoke(main, ["bench", str(model), *options])
    assert result.exit_code == 0, result.output
    for part in ("in the GPU's memory: median", "occupancy", "of roofline", "double 0, 4 multiprocessors", "TFLOP/s"):
        assert part in result.output, result.output
    events = json.loads(trace.read_text())["traceEvents"]
    assert events and all(0 < e["args"]["occupancy"] <= 1 for e in events)


def test_another_gpu(late: State, tmp_path: Path):
    model = tmp_path / "tiny.yaml"
    model.write_text(YAML)
    result = CliRunner().invoke(main, ["run", str(model), "--target", "cuda", "--batch", "2", "--device", "3"])
    assert result.exit_code != 0 and "there is no GPU 3" in result.output


def test_occupancy_is_the_drivers(late: State):
    plan = graphc.compile(str(ROOT / "examples/zoo/lenet5.yaml"), target="cuda").plan({"image": (1, 1, 28, 28)})
    assert all(s.occupancy is not None and f"occupancy {s.occupancy:.0%}" in s.reason for s in plan.steps)


@pytest.fixture
def worker(late: State, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Makes the benchmark's, in this process."""
    import gpu_engines
    from gpu_worker import Worker

    monkeypatch.setattr(gpu_engines, "installed_torch", lambda: None)  # the double is no device to it
    return lambda: Worker("cuda", ROOT, True)


def test_the_benchmark_reaches_its_device(worker: Callable[[], Any]):
    found = worker().answer({"kind": "device", "name": "device", "arch": "sm_90a"})
    assert found["device"] == "double 0" and found["multiprocessors"] == 4 and found["copy"] > 0


def test_the_benchmark_says_whose_kernels_it_has(worker: Callable[[], Any]):
    found = worker().answer({"kind": "device", "name": "device", "arch": "sm_80"})
    assert "kernels are for (8, 0), double 0 runs those for (9, 0, 'a')" in found["failed"]


@pytest.mark.parametrize("name", ["product 32, float16", "softmax, 4 rows of 32, float32", "LeNet-5, batch 2, float32"])
def test_the_benchmark_times_cases(worker: Callable[[], Any], name: str):
    found = worker().answer({"kind": "time", "name": name, "seconds": 0.001})
    assert not found["wrong"] and found["graphc"]["seconds"] >= 0 and found["graphc"]["host"] > 0


def test_the_benchmark_checks_operators(worker: Callable[[], Any]):
    found = worker().answer({"kind": "operator", "name": "Softmax"})
    assert found["samples"] > 3 and not found["wrong"] and not found["refused"]
